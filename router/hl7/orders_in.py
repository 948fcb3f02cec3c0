"""Orders as a RIS sends them (ORM^O01, OMI^O23). Pure.

Strict where an order could be joined to the wrong study. Where each part of an ``Order`` comes from is said in
``_order``. Next: segments.py (how it is read), ledger/studies.py (where an order is kept).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from medai.router.contract import Order, Priority
from medai.router.hl7.segments import BadMessage, Header, Segment, find, first, patient_number, segments_of
from medai.router.hl7.text import moment

ORDER_TYPES = {("ORM", "O01"), ("ORM", ""), ("OMI", "O23")}
CANCELS = frozenset({"CA", "DC", "OC", "OD", "CR", "DR"})
NEWS = frozenset({"", "NW", "OK", "SN", "NA", "CN"})


class Action(StrEnum):
    """What an order message asks for (ORC-1 and ORC-5)."""

    NEW = "new"
    CHANGE = "change"
    CANCEL = "cancel"


@dataclass(frozen=True, kw_only=True)
class OrderMessage:
    """One order of a message; a message may hold several. ``digest`` (SHA-256 of the bytes) tells copies apart."""

    control_id: str
    sender: tuple[str, str]
    action: Action
    order: Order
    digest: str


def orders(message: Any, head: Header, digest: str) -> tuple[OrderMessage, ...]:
    segments = segments_of(message)
    groups: list[list[Segment]] = []
    for segment in segments:
        new_group = segment.name == "ORC" or (segment.name == "OBR" and not (groups and _lacks_request(groups[-1])))
        if new_group:
            groups.append([])
        if groups:
            groups[-1].append(segment)
    if not groups:
        raise BadMessage("the message holds no order: ORC and OBR are missing", code="100", location="ORC^1")
    shared = {name: find(segments, name) for name in ("PID", "PV1", "ZDS")}
    return tuple(
        OrderMessage(
            control_id=head.control_id,
            sender=head.sender,
            action=_action(find(group, "ORC")),
            order=_order(group, shared, head),
            digest=digest,
        )
        for group in groups
    )


def _lacks_request(group: Sequence[Segment]) -> bool:
    return all(segment.name != "OBR" for segment in group)


def _action(orc: Segment) -> Action:
    control, status = orc.text(1).upper(), orc.text(5).upper()
    if control in CANCELS or status == "CA":
        return Action.CANCEL
    return Action.NEW if control in NEWS else Action.CHANGE


def _order(group: Sequence[Segment], shared: dict[str, Segment], head: Header) -> Order:
    """One order from its group of segments.

    The accession number is IPC-1 (OMI), else OBR-18 (IHE RAD-4), else the filler number, which many RIS use as such;
    never the placer number, which counts in a space of its own and could name another patient's study.
    The Study Instance UID is IPC-3, else ZDS-1.
    """
    orc, obr, ipc = (find(group, name) for name in ("ORC", "OBR", "IPC"))
    placer = first(orc.text(2), obr.text(2))
    if not placer:
        raise BadMessage("ORC-2 and OBR-2 (placer order number) are empty", location="ORC^1^2")
    filler = first(orc.text(3), obr.text(3))
    pid, number = shared["PID"], patient_number(shared["PID"], 3)
    zds = find(group, "ZDS") if any(s.name == "ZDS" for s in group) else shared["ZDS"]
    return Order(
        placer=placer,
        filler=filler,
        accession=first(ipc.text(1), obr.text(18), filler if len(filler) <= 16 else ""),
        study_uid=_uid(first(ipc.text(3), zds.text(1))),
        priority=_priority(group, orc, obr),
        patient_id=pid.text(3, repetition=number),
        patient_id_authority=pid.text(3, 4, repetition=number),
        patient_name=pid.name_text(5),
        birth_date=pid.text(7)[:8],
        sex=pid.text(8),
        procedure=(obr.text(4), obr.text(4, 2), obr.text(4, 3)),
        requested_procedure_id=first(ipc.text(2), obr.text(19)),
        scheduled_step_id=first(ipc.text(4), obr.text(20)),
        modality=first(ipc.text(5), obr.text(24)),
        visit_number=shared["PV1"].text(19),
        ordered_at=moment(orc.text(9)) or head.sent_at,
    )


def _priority(group: Sequence[Segment], orc: Segment, obr: Segment) -> Priority:
    """The most urgent of TQ1-9, ORC-7.6, OBR-27.6 and OBR-5; routine where all are empty."""
    words = [s.text(9) for s in group if s.name == "TQ1"] + [orc.text(7, 6), obr.text(27, 6), obr.text(5)]
    return min((Priority.parse(word) for word in words if word), default=Priority.ROUTINE)


def _uid(text: str) -> str:
    return text if len(text) <= 64 and re.fullmatch(r"[0-9]+(\.[0-9]+)+", text) else ""
