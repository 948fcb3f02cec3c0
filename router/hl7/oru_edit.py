"""Change an ORU^R01 of ours that was encoded before: another patient, an order, or a result taken back. Pure.

Only what must change is touched, everything else stays byte for byte: what a person may compare is the same message.
Works on messages as workers/results/oru.py writes them (v2.3 to v2.5.1, the usual delimiters, UTF-8, CR), and keeps to
the version that a message is of. Sources: HL7 v2.5.1 chapter 2 (2.7 escapes), 3 (PID), 7 (OBR, OBX) and tables 0085 and
0123; v2.3 and v2.3.1 ask for OBX-2, v2.3.1 for OBX-4, and v2.3 has one name in PID-5. Next: patients.py, text.py.
"""

from __future__ import annotations

import re
import time
from typing import Protocol

from medai.router.contract import Order
from medai.router.hl7.order_patient import LEFT_OUT
from medai.router.hl7.orders_in import ACCESSION_MAX
from medai.router.hl7.patients import Patient, patient_of, renamed_identifiers
from medai.router.hl7.persons import Person
from medai.router.hl7.text import escape, unescape

START = "MSH|^~\\&|"
UNKNOWN = {"patient_name": (5, "^^^^^^U"), "birth_date": (7, ""), "sex": (8, "")}
"""Where PID says it, and what it says where nothing is known: PID-5 is required (table 0200, unspecified name)."""
TYPED = frozenset({"2.3", "2.3.1"})
"""Versions in which OBX-2 is not left out with the value."""
NUMBERED = frozenset({"2.3.1"})
"""Versions in which OBX-4 is never left out; 0 is what belongs to no segment."""
ONE_NAME = frozenset({"2.3"})
STUDY = "113014"
"""OBX-3 of the observation that names the DICOM study: without its value nobody knows what was withdrawn."""
JOINED = "a person has joined it"
"""What stands in the place of ``LEFT_OUT``."""
WITHDRAWAL = "WITHDRAWN^Withdrawal of the AI result^99MEDAI"
WORDS = "The study was deleted from the archive: the AI result is withdrawn. Do not use its values."


class PatientData(Protocol):
    """What re-coding needs of an ADT: ``medai.router.hl7.messages.PatientMessage`` has it.

    Empty text: not said, stays as it was, but for what ``deletes`` names.
    """

    @property
    def patient_id(self) -> str: ...
    @property
    def patient_id_authority(self) -> str: ...
    @property
    def patient_name(self) -> str:
        """PID-5, HL7 encoded."""
        ...

    @property
    def birth_date(self) -> str: ...
    @property
    def sex(self) -> str: ...
    @property
    def deletes(self) -> frozenset[str]:
        """Which of the last three are known no longer. The receiver has the ADT itself: here they are empty, as in a
        result whose images do not name them; HL7's null in PID-7 is no date to some validators."""
        ...


def recode(payload: bytes, *, prior_id: str, prior_authority: str, patient: PatientData) -> bytes | None:
    """A kept ORU with the patient's new identifier, name, birth date and sex; None where it is about another patient.

    ``prior_id``: who the patient was (MRG-1 of a merge; PID-3 of an update). Only for a message that was not
    acknowledged: its control id (MSH-10) stays, and a receiver that knows it would refuse other content. Of PID-3, the
    repetition with the prior (or, where a merge comes twice, already the new) identifier changes; those of other
    authorities stay. An empty authority stands for any.
    """
    segments = _segments(payload)
    pid = next((row for row in segments if row[0] == "PID"), None)
    if pid is None:
        return None
    new = Patient.of(_clean(patient.patient_id), _clean(patient.patient_id_authority))
    old = (Patient.of(prior_id, prior_authority), new)
    identifiers = renamed_identifiers(_field(pid, 3).split("~"), old, new)
    if identifiers is None:
        return None
    _set(pid, 3, "~".join(identifiers))
    name = _name(_field(pid, 5), patient.patient_name)
    _set(pid, 5, _first(name) if _version(segments) in ONE_NAME else name)
    _set(pid, 7, escape(_clean(patient.birth_date)) or _field(pid, 7))
    _set(pid, 8, escape(_clean(patient.sex)) or _field(pid, 8))
    for name in patient.deletes:
        number, unknown = UNKNOWN[name]
        _set(pid, number, unknown)
    return _joined(segments)


def renumbered(payload: bytes, control_id: str) -> bytes:
    """The same message under another MSH-10: for one that was changed after it may have been received."""
    segments = _segments(payload)
    _set(segments[0], 9, control_id)
    return _joined(segments)


def ordered(payload: bytes, order: Order, *, control_id: str, now: float) -> bytes | None:
    """The result once more, with the numbers of the order that a person joined to it; None where it has an order's.

    The patient stays that of the images. What the message said of an order that was left out is no longer true.
    ``control_id``: MSH-10 of the new message. ``now``: seconds since the epoch, for MSH-7 and OBR-22.
    """
    segments = _segments(payload)
    requests = [row for row in segments if row[0] == "OBR"]
    if not requests or any(_field(row, 2) for row in requests):
        return None
    moment = time.strftime("%Y%m%d%H%M%S+0000", time.gmtime(now))
    _set(segments[0], 6, moment)
    _set(segments[0], 9, control_id)
    accession = order.accession if len(order.accession) <= ACCESSION_MAX else ""
    numbers = {
        2: _as_it_came(order.placer), 16: _as_it_came(order.ordered_by), 18: escape(_clean(accession)),
        19: escape(_clean(order.requested_procedure_id)), 20: escape(_clean(order.scheduled_step_id)), 22: moment,
    }  # fmt: skip
    for row in requests:
        for number, value in numbers.items():
            _set(row, number, value or _field(row, number))
    for row in segments:
        if row[0] == "OBX":
            _set(row, 5, _field(row, 5).replace(LEFT_OUT, JOINED))
    return _joined(segments)


def patients_of(payload: bytes) -> tuple[Patient, ...]:
    """Whom PID-3 names, once for each authority."""
    pid = next((row for row in _segments(payload) if row[0] == "PID"), [])
    return tuple(patient_of(each) for each in _field(pid, 3).split("~") if each)


def person_of(payload: bytes) -> Person:
    """Of whom PID tells."""
    pid = next((row for row in _segments(payload) if row[0] == "PID"), [])
    return Person.of_hl7(_field(pid, 5), _field(pid, 7), _field(pid, 8))


def withdrawn(payload: bytes, *, control_id: str, now: float, words: str = WORDS) -> bytes:
    """The message that takes a result back: same placer and filler, status X, no values, the reason in words.

    OBR-25 is X ("No results available; Order canceled", table 0123). Every OBX-11 is X too ("Results cannot be obtained
    for this observation", table 0085), which says what is true: nothing of it holds any more. D would
    ask the receiver to delete its record, and a record of what a physician may have read must stay; W would say that
    the values were wrong ("transmitted for wrong patient"), which nobody knows. Values, units and flags are left out,
    as X allows (OBX-2 and OBX-5 are conditional on it), so that a receiver which does not look at the status shows no
    number; the study's UID stays. ``control_id``: MSH-10, at most 20 characters, another one than the result had.
    ``words``: why, for people. ``now``: seconds since the epoch, for MSH-7 and for OBR-22 (when the status changed).
    """
    segments = [row for row in _segments(payload) if not _is_withdrawal(row)]
    moment = time.strftime("%Y%m%d%H%M%S+0000", time.gmtime(now))
    msh, version = segments[0], _version(segments)
    _set(msh, 6, moment)  # MSH-1 is the separator itself: every field is one place further left
    _set(msh, 9, control_id)
    numbers = 0
    for row in segments:
        if row[0] == "OBR":
            _set(row, 22, moment)
            _set(row, 25, "X")
        elif row[0] == "OBX":
            numbers += 1
            _withdraw(row, keep_type=version in TYPED)
    sub_id = "0" if version in NUMBERED else ""
    segments.append(["OBX", str(numbers + 1), "TX", WITHDRAWAL, sub_id, escape(words), *[""] * 5, "X", "", "", moment])
    return _joined(segments)


def _withdraw(obx: list[str], *, keep_type: bool) -> None:
    _set(obx, 11, "X")
    if _field(obx, 3).split("^")[0] != STUDY:
        for number in (5, 6, 8) if keep_type else (2, 5, 6, 8):
            _set(obx, number, "")


def _version(segments: list[list[str]]) -> str:
    """MSH-12."""
    return _field(segments[0], 11)


def _is_withdrawal(row: list[str]) -> bool:
    return row[0] == "OBX" and _field(row, 3) == WITHDRAWAL


def _name(known: str, news: str) -> str:
    """PID-5: where the name itself is the same, its other representations stay; else they are the old name's."""
    news = _as_it_came(news)
    return known if not news.strip("^ ") or _five(known.split("~")[0]) == _five(news) else news


def _first(name: str) -> str:
    """The first repetition that says anything."""
    return next((each for each in name.split("~") if each.strip("^& ")), name)


def _five(name: str) -> list[str]:
    """The components of an XPN that say the name itself."""
    return [unescape(part) for part in [*name.split("^"), *[""] * 5][:5]]


def _clean(text: str) -> str:
    """Control characters, which no field may hold, made spaces."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text).strip()


def _as_it_came(text: str) -> str:
    """A field of the RIS, components and escapes kept."""
    return _clean(text).replace("|", "\\F\\")


def _segments(payload: bytes) -> list[list[str]]:
    text = payload.decode("utf-8")
    if not text.startswith(START):
        raise ValueError("this is not an ORU as we write it: it does not begin with MSH|^~\\&|")
    return [line.split("|") for line in text.split("\r") if line]


def _joined(segments: list[list[str]]) -> bytes:
    return "".join("|".join(row) + "\r" for row in segments).encode("utf-8")


def _field(row: list[str], number: int) -> str:
    return row[number] if number < len(row) else ""


def _set(row: list[str], number: int, value: str) -> None:
    if _field(row, number) == value:
        return
    row.extend([""] * (number + 1 - len(row)))
    row[number] = value
