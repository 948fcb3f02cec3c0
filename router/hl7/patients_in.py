"""Patients as a RIS tells of them (ADT): updates, merges and changes of identifiers. Pure.

Sources: HL7 v2.5.1 chapter 3 (3.3, events; 3.6.2, what a merge means; 3.4.9, MRG) and chapter 2 (2.5.3, null values).
Next: segments.py (how it is read), patients.py (what it changes).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from medai.router.hl7.segments import BadMessage, Header, Segment, find, patient_number, segments_of
from medai.router.hl7.text import moment

UPDATES = frozenset({*(f"A{number:02}" for number in range(1, 15)), "A28", "A31"})
"""Events that say who a patient is, whatever else happened: A01 to A14 (visits), A28 and A31 (persons)."""
MERGES = frozenset({"A18", "A30", "A34", "A36", "A39", "A40"})
"""Two records were of one patient: MRG-1 is from now on a part of PID-3. A36 merges their accounts, too."""
CHANGES = frozenset({"A47"})
"""One record has another number: MRG-1 is no longer used, and PID-3 may have been an old number of the same patient."""
PATIENT_TYPES = {("ADT", event) for event in UPDATES | MERGES | CHANGES}
_NOT_OF_PATIENTS = frozenset({"AN", "ANC", "VN"})
"""Identifier types (HL7 table 0203) of accounts and visits, which count in a space of their own."""
DEMOGRAPHICS = {"patient_name": 5, "birth_date": 7, "sex": 8}
"""What an ADT tells of a person, and where in PID."""


@dataclass(frozen=True, kw_only=True)
class PatientMessage:
    """What an ADT says of one patient; a message may tell of several.

    ``kind``: "update"; "merge": ``prior_id`` is now part of ``patient_id``; "change": it is no longer used. Empty
    demographics are not said, but for those in ``deletes``. ``sent_at``: seconds since the epoch (MSH-7, else EVN-2).
    """

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
    deletes: frozenset[str] = frozenset()
    sent_at: float | None = None


def patients(message: Any, head: Header, digest: str) -> tuple[PatientMessage, ...]:
    """Each patient of a message, in its order; of a merge, each pair of an old and a new identifier."""
    segments = segments_of(message)
    event = head.kind[1]
    sent_at = head.sent_at or moment(find(segments, "EVN").text(2))
    kind = "merge" if event in MERGES else "change" if event in CHANGES else "update"
    found: list[PatientMessage] = []
    for place, (pid, mrgs) in enumerate(_groups(segments), start=1):
        if kind == "update" and found and not pid.text(3, repetition=patient_number(pid, 3)):
            continue  # a PID that was sent twice, and its second time in part
        priors = [("", "")] if kind == "update" else list(_priors(mrgs, place))
        for prior in priors:
            number = _survivor(pid, prior)
            if not pid.text(3, repetition=number):
                raise BadMessage("PID-3 (patient identifier) is empty", location=f"PID^{place}^3")
            found.append(
                PatientMessage(
                    control_id=head.control_id,
                    sender=head.sender,
                    kind=kind,
                    patient_id=pid.text(3, repetition=number),
                    patient_id_authority=pid.text(3, 4, repetition=number),
                    prior_id=prior[0],
                    prior_id_authority=prior[1],
                    patient_name=pid.name_text(5),
                    birth_date=pid.text(7)[:8],
                    sex=pid.text(8),
                    digest=digest,
                    deletes=frozenset(name for name, field in DEMOGRAPHICS.items() if pid.is_null(field)),
                    sent_at=sent_at,
                )
            )
    others = [each for each in found if (each.prior_id, each.prior_id_authority) != _new(each)]
    return tuple(others or found)


def _new(message: PatientMessage) -> tuple[str, str]:
    return message.patient_id, message.patient_id_authority


def _groups(segments: Sequence[Segment]) -> list[tuple[Segment, list[Segment]]]:
    """Each PID with the MRG that follow it."""
    groups: list[tuple[Segment, list[Segment]]] = []
    for segment in segments:
        if segment.name == "PID":
            groups.append((segment, []))
        elif segment.name == "MRG":
            if not groups:
                raise BadMessage("MRG stands before the first PID", code="100", location="MRG^1")
            groups[-1][1].append(segment)
    if not groups:
        raise BadMessage("PID-3 (patient identifier) is empty", location="PID^1^3")
    return groups


def _priors(mrgs: Sequence[Segment], place: int) -> Iterator[tuple[str, str]]:
    """The old identifiers of one patient and who gave them out."""
    every = [(mrg, number) for mrg in mrgs for number in mrg.repetitions(1) if mrg.text(1, repetition=number)]
    if not every:
        raise BadMessage("MRG-1 (prior patient identifier) is empty", location=f"MRG^{place}^1")
    own = [(mrg, number) for mrg, number in every if mrg.text(1, 5, repetition=number).upper() not in _NOT_OF_PATIENTS]
    for mrg, number in own or every:
        yield mrg.text(1, repetition=number), mrg.text(1, 4, repetition=number)


def _survivor(pid: Segment, prior: tuple[str, str]) -> int:
    """Which repetition of PID-3 an old identifier became: the record number, but the same authority goes before."""
    chosen = patient_number(pid, 3)
    authority = prior[1]
    if not authority or pid.text(3, 4, repetition=chosen) in ("", authority):
        return chosen
    same = (
        number
        for number in pid.repetitions(3)
        if pid.text(3, repetition=number)
        and pid.text(3, 4, repetition=number) == authority
        and pid.text(3, 5, repetition=number).upper() not in _NOT_OF_PATIENTS
    )
    return next(same, chosen)
