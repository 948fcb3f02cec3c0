"""Who the simulated patients are, and what is ordered for them: placed, changed, cancelled. Next: hospital.py."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from trials.box import Box
from trials.scenario import Scenario
from trials.study import Patient, derive
from trials.timeline import PlannedStudy

PRIORITY_CODES = {"stat": "S", "urgent": "A", "routine": "R"}
LEAD_S = {"stat": 300.0, "urgent": 1800.0, "routine": 7200.0}
"""How long before its study an order is placed, hospital seconds."""
CHANGE_S = 60.0
"""How long before the study an order is raised to STAT or cancelled, hospital seconds."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A patient who does not exist, and the numbers of one study."""

    patient: Patient
    accession: str
    study_uid: str


def identity(planned: PlannedStudy) -> Identity:
    """The same for the same seed."""
    digest = sha256(planned.seed.encode()).hexdigest()
    patient = Patient(
        patient_id=f"TRIAL{planned.number:06d}",
        name=f"Trial{digest[:6].upper()}^No{planned.number}",
        birth_date=f"19{int(digest[6:8], 16) % 80 + 20:02d}0{int(digest[8], 16) % 9 + 1}15",
        sex="FM"[int(digest[9], 16) % 2],
    )
    return Identity(patient=patient, accession=f"T{digest[:11].upper()}", study_uid=derive(planned.seed, "study"))


def place(box: Box, scenario: Scenario, planned: PlannedStudy) -> str:
    """Order the study; the placer order number. Raises BoxError where the RIS does not take it."""
    who, case = identity(planned), scenario.case(planned.case)
    order = {
        "patient_id": who.patient.patient_id,
        "patient_name": who.patient.name,
        "birth_date": who.patient.birth_date,
        "sex": who.patient.sex,
        "accession": who.accession,
        "study_uid": who.study_uid,
        "modality": case.modality,
        "procedure_code": f"{case.modality}STUDY"[:20],
        "procedure_text": case.procedure,
        "priority": PRIORITY_CODES[planned.priority],
    }
    return str(box.ask_ris("POST", "/orders", order)["placer"])


def cancel(box: Box, placer: str) -> None:
    """Cancel an order (ORC-1 CA); raises BoxError."""
    box.ask_ris("POST", f"/orders/{placer}/cancel")


def raise_to_stat(box: Box, placer: str) -> None:
    """Change an order's priority to STAT (ORC-1 XO); raises BoxError."""
    box.ask_ris("POST", f"/orders/{placer}/change", {"priority": "S"})


def report(box: Box, placer: str, reader: int, *, used_ai: bool) -> None:
    """The final report of a radiologist, which the RIS sends as ORU^R01; raises BoxError."""
    text = "Read with the AI's result at hand." if used_ai else "Read without an AI result."
    body = {"placer": placer, "text": text, "radiologist": f"R{reader + 1:02d}", "used_ai": used_ai}
    box.ask_ris("POST", "/reports", body)


def results_since(box: Box, since: float) -> tuple[list[dict[str, Any]], float]:
    """What the RIS took since, and the mark for the next call; raises BoxError."""
    found: list[dict[str, Any]] = box.ask_ris("GET", f"/results?since={since!r}&brief=1")
    return found, max((float(each["received_at"]) for each in found), default=since)
