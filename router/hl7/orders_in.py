"""Orders as a RIS sends them (ORM^O01, OMG^O19, OMI^O23). Pure.

A message may hold several orders, and each may say a part of what there is to know: an ``OrderMessage`` tells which
fields it speaks of, so that the others stay as they were. Strict where an order could be joined to the wrong study or
cut short. Next: segments.py (how it is read), ledger/orders.py (where an order is kept, and what wins).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from medai.router.contract import Order, Priority
from medai.router.hl7.segments import BadMessage, Header, Segment, find, patient_number, segments_of
from medai.router.hl7.text import moment

ORDER_TYPES = {("ORM", "O01"), ("ORM", ""), ("OMG", "O19"), ("OMI", "O23")}
CANCELS = frozenset({"CA", "DC", "OC", "OD", "CR", "DR"})
"""ORC-1 (HL7 table 0119): cancelled or discontinued, by whoever."""
NEWS = frozenset({"", "NW", "SN", "RO", "CH"})
"""An order that is placed, also one that was cancelled before; every other code tells of one that stands."""
REPLACED = frozenset({"RP", "RU"})
"""Replaced by the RO of the same message; where there is none, the order itself is what changes."""
NUMBER_MAX = 427
"""The longest EI (HL7 v2.5.1, 2.A.28)."""
LIMITS: Mapping[str, int] = {"accession": 64, "placer": NUMBER_MAX, "filler": NUMBER_MAX}
"""Characters that the ledger keeps of what an order is found by: a longer one is refused, never cut short."""
ORDERS_MAX = 300
"""Orders of one message: a real one has a few. Each is compared with those of its number, and the port waits meanwhile
(300 take two seconds, 600 eight)."""
ACCESSION_MAX = 16
"""DICOM's SH: a longer filler number is no accession number."""


class Action(StrEnum):
    """What an order message asks for (ORC-1 and ORC-5)."""

    NEW = "new"
    CHANGE = "change"
    CANCEL = "cancel"


@dataclass(frozen=True, kw_only=True)
class OrderMessage:
    """One order of a message; a message may hold several. ``digest`` (SHA-256 of the bytes) tells copies apart.

    ``carries`` names the fields of ``order`` that the message speaks of, those that it empties (HL7's null) included.
    """

    control_id: str
    sender: tuple[str, str]
    action: Action
    order: Order
    carries: frozenset[str]
    digest: str
    sent_at: float | None = None
    sequence: int | None = None


def orders(message: Any, head: Header, digest: str) -> tuple[OrderMessage, ...]:
    """Every order of a message: one for each OBR, or, where an OBR has several IPC, for each IPC."""
    groups = _groups(segments_of(message))
    if not groups:
        raise BadMessage("the message holds no order: ORC and OBR are missing", code="100", location="ORC^1")
    if len(groups) > ORDERS_MAX:
        raise BadMessage(
            f"the message holds more than {ORDERS_MAX} orders: send them in several", code="207", location="ORC^1"
        )
    uids = [segment for segment in segments_of(message) if segment.name == "ZDS"]
    shared = uids[0] if len(uids) == 1 else None
    replaces = any(find(group, "ORC").text(1).upper() == "RO" for group in groups)
    return tuple(_message(group, shared, head, digest, replaces=replaces) for group in groups)


def _message(
    group: Sequence[Segment], shared: Segment | None, head: Header, digest: str, *, replaces: bool
) -> OrderMessage:
    said = _said(group, shared)
    action = _action(find(group, "ORC"), replaces=replaces)
    if action is not Action.NEW:  # ORC-9 is when that happened, not when it was ordered
        said.pop("ordered_at", None)
    return OrderMessage(
        control_id=head.control_id,
        sender=head.sender,
        action=action,
        order=Order(**{"placer": "", **said}),
        carries=frozenset(said),
        digest=digest,
        sent_at=head.sent_at,
        sequence=head.sequence,
    )


# -- which segments belong together


def _groups(segments: Sequence[Segment]) -> list[list[Segment]]:
    """The segments of each order, with the patient's before them; every OBR and every IPC inherits what it shares."""
    groups: list[list[Segment]] = []
    patient: list[Segment] = []
    common: list[Segment] = []  # from ORC on, until the first OBR
    about = "patient"
    for segment in segments:
        if segment.name == "PID":
            patient, common, about = [], [], "patient"
        if segment.name == "ORC":
            common, about = [segment], "common"
            groups.append([*patient, segment])
        elif segment.name == "OBR":
            if about == "common":
                groups[-1].append(segment)
            else:
                groups.append([*patient, *common, segment])
            about = "request"
        elif about == "patient":
            patient.append(segment)
        else:
            groups[-1].append(segment)
            if about == "common":
                common.append(segment)
    return [one for group in groups for one in _by_step(group)]


def _by_step(group: list[Segment]) -> list[list[Segment]]:
    """A group for each IPC (OMI^O23: each may be a study of its own)."""
    steps = [segment for segment in group if segment.name == "IPC"]
    if len(steps) < 2:
        return [group]
    return [[segment for segment in group if segment.name != "IPC" or segment is step] for step in steps]


def _action(orc: Segment, *, replaces: bool) -> Action:
    control, status = orc.text(1).upper(), orc.text(5).upper()
    if control in CANCELS or status in ("CA", "DC") or (control in REPLACED and replaces):
        return Action.CANCEL
    return Action.NEW if control in NEWS else Action.CHANGE


# -- what they say


def _said(group: Sequence[Segment], shared: Segment | None) -> dict[str, Any]:
    """The fields of an ``Order`` that the message speaks of.

    The accession number is IPC-1 (OMI), else OBR-18 (IHE RAD-4); never the placer number, which counts in a space of
    its own and could name another patient's study. The Study Instance UID is IPC-3, else ZDS-1.
    """
    orc, obr, ipc, pid, pv1 = (find(group, name) for name in ("ORC", "OBR", "IPC", "PID", "PV1"))
    zds = next((segment for segment in group if segment.name == "ZDS"), shared)
    placer, filler = _number(obr, orc, 2), _number(obr, orc, 3)
    if not placer and not filler:
        raise BadMessage("ORC-2, ORC-3, OBR-2 and OBR-3 (placer and filler order number) are empty", location="ORC^1^2")
    said: dict[str, Any] = {
        "placer": placer or None,
        "filler": filler or None,
        "accession": _first(ipc.said(1), obr.said(18)),
        "study_uid": _uid(_first(ipc.said(3), zds.said(1) if zds is not None else None)),
        "priority": _priority(group, orc, obr),
        "patient_name": _name(pid),
        "birth_date": _cut(pid.said(7), 8),
        "sex": pid.said(8),
        "patient_account": _whole(pid, 18),
        "procedure": _procedure(obr),
        "requested_procedure_id": _first(ipc.said(2), obr.said(19)),
        "scheduled_step_id": _first(ipc.said(4), obr.said(20)),
        "modality": _first(ipc.said(5), obr.said(24)),
        "ordered_by": _first(_whole(obr, 16), _whole(orc, 12)),
        "patient_class": pv1.said(2),
        "location": _whole(pv1, 3),
        "visit_number": _whole(pv1, 19),
        "ordered_at": moment(orc.text(9)),
        **_patient(pid),
    }
    said = {name: value for name, value in said.items() if value is not None}
    for name, limit in LIMITS.items():
        if len(said.get(name, "")) > limit:
            raise BadMessage(f"the {name} number is longer than {limit} characters", code="102", location="OBR^1")
    return said


def _number(obr: Segment, orc: Segment, field: int) -> str:
    """An order number (EI), whole: of the request, else of what it shares with others.

    Where both give the same number, one of them often leaves its namespace out.
    """
    found = [number for segment in (obr, orc) for number in segment.encoded(field)[:1]]
    same = [number for number in found if number.split("^")[0] == found[0].split("^")[0]]
    return max(same, key=len, default="")


def _patient(pid: Segment) -> dict[str, Any]:
    """Who the patient is: one value, of which no part is taken from one message and another part from the next."""
    identifiers = pid.encoded(3)
    if not identifiers and not pid.is_null(3):
        return {}
    number = patient_number(pid, 3)
    return {
        "patient_identifiers": identifiers,
        "patient_id": pid.text(3, repetition=number),
        "patient_id_authority": pid.text(3, 4, repetition=number),
    }


def _name(pid: Segment) -> str | None:
    return "" if pid.is_null(5) else pid.name_text(5) or None


def _procedure(obr: Segment) -> tuple[str, str, str] | None:
    found = (obr.text(4), obr.text(4, 2), obr.text(4, 3))
    return found if any(found) or obr.is_null(4) else None


def _whole(segment: Segment, field: int) -> str | None:
    """A field as it came, every repetition of it."""
    found = "~".join(segment.encoded(field))
    return found if found or segment.is_null(field) else None


def _priority(group: Sequence[Segment], orc: Segment, obr: Segment) -> Priority | None:
    """The most urgent of TQ1-9, ORC-7.6, OBR-27.6 and OBR-5; None where all are empty."""
    said = [s.said(9) for s in group if s.name == "TQ1"]
    said += [orc.said(7, 6), obr.said(27, 6), obr.said(5)]
    words = [word for word in said if word is not None]
    return min((Priority.parse(word) if word else Priority.ROUTINE for word in words), default=None)


def _first(*texts: str | None) -> str | None:
    """The first that says something, else the first that empties, else None."""
    told = [text for text in texts if text is not None]
    return next((text for text in told if text), told[0] if told else None)


def _cut(text: str | None, length: int) -> str | None:
    return None if text is None else text[:length]


def _uid(text: str | None) -> str | None:
    """A Study Instance UID; what is none says nothing."""
    if not text:
        return text
    return text if len(text) <= 64 and re.fullmatch(r"[0-9]+(\.[0-9]+)+", text) else None


def as_accession(filler: str) -> str:
    """The filler number as an accession number, which many RIS use as such; empty where it can be none."""
    number = filler.split("^")[0]
    return number if len(number) <= ACCESSION_MAX else ""
