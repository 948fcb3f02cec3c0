"""HL7 v2 as a RIS speaks it to the router: orders and patient updates that come in. Pure.

Tolerant of what does not matter (line ends, missing segments, character sets) and strict where an order could be joined
to the wrong study. Where each part of an ``Order`` comes from is said in ``_order``. Texts of errors name segments and
fields, never what they hold. Next: text.py (characters, escapes, times), acknowledge.py (the answer), listener.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import hl7

from medai.router.contract import Order, Priority
from medai.router.errors import PermanentError
from medai.router.hl7.text import decode, escape, moment, unescape

ORDER_TYPES = {("ORM", "O01"), ("ORM", ""), ("OMI", "O23")}
PATIENT_TYPES = {("ADT", "A04"), ("ADT", "A08"), ("ADT", "A40")}
CANCELS = frozenset({"CA", "DC", "OC", "OD", "CR", "DR"})
NEWS = frozenset({"", "NW", "OK", "SN", "NA", "CN"})
PART_LIMIT = 20_000
"""Fields, repetitions, components and segments of one message: an order has some hundred. Each becomes several objects
(about 12 s and 450 MB for a million)."""


class BadMessage(PermanentError):
    """A message that can't be taken. ``ack``: AE for its content, AR for its kind; ``code``: HL7 table 0357."""

    def __init__(self, text: str, *, ack: str = "AE", code: str = "101", location: str = "") -> None:
        super().__init__(text)
        self.ack = ack
        self.code = code
        self.location = location


class Action(StrEnum):
    """What an order message asks for (ORC-1 and ORC-5)."""

    NEW = "new"
    CHANGE = "change"
    CANCEL = "cancel"


@dataclass(frozen=True, kw_only=True)
class Header:
    """MSH. ``accept_only``: the sender wants a commit acknowledgement (CA, CE, CR) and no other."""

    control_id: str
    kind: tuple[str, str]
    version: str
    processing_id: str
    sender: tuple[str, str]
    receiver: tuple[str, str]
    sent_at: float | None
    accept_only: bool = False


@dataclass(frozen=True, kw_only=True)
class OrderMessage:
    """One order of a message; a message may hold several. ``digest`` (SHA-256 of the bytes) tells copies apart."""

    control_id: str
    sender: tuple[str, str]
    action: Action
    order: Order
    digest: str


@dataclass(frozen=True, kw_only=True)
class PatientMessage:
    """ADT^A04 or A08 (``kind`` "update") or ADT^A40 ("merge": ``prior_id`` is now part of ``patient_id``)."""

    control_id: str
    sender: tuple[str, str]
    kind: str
    patient_id: str
    patient_id_authority: str
    prior_id: str
    prior_id_authority: str
    patient_name: str
    birth_date: str
    sex: str
    digest: str


# -- reading


def parse(data: bytes) -> tuple[Header, tuple[OrderMessage, ...] | PatientMessage]:
    """Read one message; raises BadMessage, after ``header`` could be read or not."""
    message = _read(data)
    head = _header(message)
    digest = hashlib.sha256(data).hexdigest()
    if head.kind in ORDER_TYPES:
        return head, _orders(message, head, digest)
    if head.kind in PATIENT_TYPES:
        return head, _patient(message, head, digest)
    known = {kind for kind, _ in ORDER_TYPES | PATIENT_TYPES}
    code = "201" if head.kind[0] in known else "200"
    text = "this listener accepts ORM^O01, OMI^O23, ADT^A08 and ADT^A40"
    raise BadMessage(text, ack="AR", code=code, location="MSH^1^9")


def header(data: bytes) -> Header | None:
    """The header of a message that may be wrong otherwise, to address its acknowledgement; None for garbage."""
    try:
        return _header(_read(data, header_only=True), strict=False)
    except BadMessage:
        return None


def _read(data: bytes, *, header_only: bool = False) -> Any:
    text = decode(data.strip(b"\r\n\t \0").removeprefix(b"\xef\xbb\xbf"))
    text = re.sub(r"[\r\n]+", "\r", text)
    marks = text[3:8]
    if not re.match(r"MSH[^\w\s]{5}", text) or len(set(marks)) < 5:
        raise BadMessage("this is not an HL7 message: it does not begin with MSH|^~\\&", code="100", location="MSH^1^1")
    if header_only:
        text = text.partition("\r")[0]
    if text.count("\r") + sum(text.count(mark) for mark in marks) > PART_LIMIT:
        raise BadMessage(f"the message has more than {PART_LIMIT} fields and parts of fields", code="207")
    try:
        return hl7.parse(text)
    except (hl7.HL7Exception, ValueError, IndexError, KeyError, AssertionError) as error:
        raise BadMessage("the message cannot be split into segments", code="100") from error


def _header(message: Any, *, strict: bool = True) -> Header:
    msh = _segments(message)[0]
    control_id, version = msh.text(10), msh.text(12)
    if strict and not control_id:
        raise BadMessage("MSH-10 (message control id) is empty", location="MSH^1^10")
    if strict and version and not version.startswith("2"):
        raise BadMessage("MSH-12 names no version 2 of HL7", ack="AR", code="203", location="MSH^1^12")
    accept, application = msh.text(15).upper(), msh.text(16).upper()
    return Header(
        control_id=control_id,
        kind=(msh.text(9).upper(), msh.text(9, 2).upper()),
        version=version,
        processing_id=msh.text(11),
        sender=(msh.text(3), msh.text(4)),
        receiver=(msh.text(5), msh.text(6)),
        sent_at=moment(msh.text(7)),
        accept_only=accept in ("AL", "SU", "ER") and application in ("", "NE"),
    )


class _Segment:
    """Fields of one segment as plain text; what is not there is empty, and so is HL7's null ``""``."""

    def __init__(self, segment: Any, marks: str) -> None:
        self._segment = segment
        self._marks = marks
        self.name = str(segment[0]) if segment else ""

    def text(self, field: int, component: int = 1, *, sub: int = 1, repetition: int = 1) -> str:
        """MSH-like numbering from 1; unescaped and stripped."""
        node: Any = self._segment
        for index in (field, repetition - 1, component - 1, sub - 1):
            parts = [node] if isinstance(node, str) else node
            node = parts[index] if index < len(parts) else ""
        text = unescape(str(node), self._marks).strip() if node else ""
        return "" if text == '""' else text

    def repetitions(self, field: int) -> range:
        """Numbers of the repetitions that a field has."""
        return range(1, len(self._segment[field]) + 1) if field < len(self._segment) else range(0)

    def name_text(self, field: int) -> str:
        """A person's name (XPN), HL7 encoded with the usual delimiters: family^given^middle."""
        parts = [escape(self.text(field, n)) for n in range(1, 6)]
        return "^".join(parts).rstrip("^")


def _segments(message: Any) -> list[_Segment]:
    marks = str(message[0][1]) + str(message[0][2])
    return [_Segment(segment, marks) for segment in message]


# -- orders


def _orders(message: Any, head: Header, digest: str) -> tuple[OrderMessage, ...]:
    segments = _segments(message)
    groups: list[list[_Segment]] = []
    for segment in segments:
        new_group = segment.name == "ORC" or (segment.name == "OBR" and not (groups and _lacks_request(groups[-1])))
        if new_group:
            groups.append([])
        if groups:
            groups[-1].append(segment)
    if not groups:
        raise BadMessage("the message holds no order: ORC and OBR are missing", code="100", location="ORC^1")
    shared = {name: _find(segments, name) for name in ("PID", "PV1", "ZDS")}
    return tuple(
        OrderMessage(
            control_id=head.control_id,
            sender=head.sender,
            action=_action(_find(group, "ORC")),
            order=_order(group, shared, head),
            digest=digest,
        )
        for group in groups
    )


def _lacks_request(group: Sequence[_Segment]) -> bool:
    return all(segment.name != "OBR" for segment in group)


def _find(segments: Iterable[_Segment], name: str) -> _Segment:
    return next((segment for segment in segments if segment.name == name), _Segment([], ""))


def _action(orc: _Segment) -> Action:
    control, status = orc.text(1).upper(), orc.text(5).upper()
    if control in CANCELS or status == "CA":
        return Action.CANCEL
    return Action.NEW if control in NEWS else Action.CHANGE


def _order(group: Sequence[_Segment], shared: dict[str, _Segment], head: Header) -> Order:
    """One order from its group of segments.

    The accession number is IPC-1 (OMI), else OBR-18 (IHE RAD-4), else the filler number, which many RIS use as such;
    never the placer number, which counts in a space of its own and could name another patient's study.
    The Study Instance UID is IPC-3, else ZDS-1.
    """
    orc, obr, ipc = (_find(group, name) for name in ("ORC", "OBR", "IPC"))
    placer = _first(orc.text(2), obr.text(2))
    if not placer:
        raise BadMessage("ORC-2 and OBR-2 (placer order number) are empty", location="ORC^1^2")
    filler = _first(orc.text(3), obr.text(3))
    pid, number = shared["PID"], _patient_number(shared["PID"], 3)
    zds = _find(group, "ZDS") if any(s.name == "ZDS" for s in group) else shared["ZDS"]
    return Order(
        placer=placer,
        filler=filler,
        accession=_first(ipc.text(1), obr.text(18), filler if len(filler) <= 16 else ""),
        study_uid=_uid(_first(ipc.text(3), zds.text(1))),
        priority=_priority(group, orc, obr),
        patient_id=pid.text(3, repetition=number),
        patient_id_authority=pid.text(3, 4, repetition=number),
        patient_name=pid.name_text(5),
        birth_date=pid.text(7)[:8],
        sex=pid.text(8),
        procedure=(obr.text(4), obr.text(4, 2), obr.text(4, 3)),
        requested_procedure_id=_first(ipc.text(2), obr.text(19)),
        scheduled_step_id=_first(ipc.text(4), obr.text(20)),
        modality=_first(ipc.text(5), obr.text(24)),
        visit_number=shared["PV1"].text(19),
        ordered_at=moment(orc.text(9)) or head.sent_at,
    )


def _priority(group: Sequence[_Segment], orc: _Segment, obr: _Segment) -> Priority:
    """The most urgent of TQ1-9, ORC-7.6, OBR-27.6 and OBR-5; routine where all are empty."""
    words = [s.text(9) for s in group if s.name == "TQ1"] + [orc.text(7, 6), obr.text(27, 6), obr.text(5)]
    return min((Priority.parse(word) for word in words if word), default=Priority.ROUTINE)


def _patient_number(pid: _Segment, field: int) -> int:
    """Which repetition of a list of identifiers is the medical record number (type MR), else the first."""
    return next((n for n in pid.repetitions(field) if pid.text(field, 5, repetition=n).upper() == "MR"), 1)


def _first(*texts: str) -> str:
    return next((text for text in texts if text), "")


def _uid(text: str) -> str:
    return text if len(text) <= 64 and re.fullmatch(r"[0-9]+(\.[0-9]+)+", text) else ""


def _patient(message: Any, head: Header, digest: str) -> PatientMessage:
    segments = _segments(message)
    pid, mrg = _find(segments, "PID"), _find(segments, "MRG")
    number, prior = _patient_number(pid, 3), _patient_number(mrg, 1)
    if not pid.text(3, repetition=number):
        raise BadMessage("PID-3 (patient identifier) is empty", location="PID^1^3")
    merge = head.kind[1] == "A40"
    if merge and not mrg.text(1, repetition=prior):
        raise BadMessage("MRG-1 (prior patient identifier) is empty", location="MRG^1^1")
    return PatientMessage(
        control_id=head.control_id,
        sender=head.sender,
        kind="merge" if merge else "update",
        patient_id=pid.text(3, repetition=number),
        patient_id_authority=pid.text(3, 4, repetition=number),
        prior_id=mrg.text(1, repetition=prior),
        prior_id_authority=mrg.text(1, 4, repetition=prior),
        patient_name=pid.name_text(5),
        birth_date=pid.text(7)[:8],
        sex=pid.text(8),
        digest=digest,
    )
