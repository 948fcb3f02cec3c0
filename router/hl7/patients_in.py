"""Patients as a RIS tells of them (ADT): updates and merges. Pure.

Next: segments.py (how it is read), patients.py (what it changes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medai.router.hl7.segments import BadMessage, Header, find, patient_number, segments_of

PATIENT_TYPES = {("ADT", "A04"), ("ADT", "A08"), ("ADT", "A40")}


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


def patient(message: Any, head: Header, digest: str) -> PatientMessage:
    segments = segments_of(message)
    pid, mrg = find(segments, "PID"), find(segments, "MRG")
    number, prior = patient_number(pid, 3), patient_number(mrg, 1)
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
