"""Who the simulated patients are, and what is ordered for them: placed, changed, cancelled. Next: arm.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from medai.trials.box import Box
from medai.trials.hospital.timeline import PlannedStudy
from medai.trials.scenario import Scenario
from medai.trials.study import Patient, derive

PRIORITY_CODES = {"stat": "S", "urgent": "A", "routine": "R"}
LEAD_S = {"stat": 300.0, "urgent": 1800.0, "routine": 7200.0}
"""How long before its study an order is placed, hospital seconds."""
AFTER_S = 900.0
"""How long after the study its patient is corrected or merged, hospital seconds."""
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


def temporary(planned: PlannedStudy) -> Identity:
    """The same patient under the number of somebody unknown, who is merged later."""
    who = identity(planned)
    unknown = Patient(patient_id=f"TMP{planned.number:06d}", name=f"Unknown^No{planned.number}", sex=who.patient.sex)
    return replace(who, patient=unknown)


def arriving(planned: PlannedStudy) -> Identity:
    """As whom the patient is ordered and scanned."""
    return temporary(planned) if "patient_merged" in planned.habits else identity(planned)


def register(box: Box, planned: PlannedStudy) -> None:
    """ADT^A04; raises BoxError."""
    box.ask_ris("POST", "/patients/register", _person(arriving(planned).patient))


def update(box: Box, planned: PlannedStudy) -> None:
    """ADT^A08: the name was spelled wrong; raises BoxError."""
    person = _person(arriving(planned).patient)
    box.ask_ris("POST", "/patients/update", {**person, "patient_name": f"{person['patient_name']}-Corrected"})


def merge(box: Box, planned: PlannedStudy) -> None:
    """ADT^A40: the unknown patient is somebody who is known; raises BoxError."""
    prior = temporary(planned).patient.patient_id
    box.ask_ris("POST", "/patients/merge", {**_person(identity(planned).patient), "prior_id": prior})


def _person(patient: Patient) -> dict[str, str]:
    said = {
        "patient_id": patient.patient_id,
        "patient_name": patient.name,
        "birth_date": patient.birth_date,
        "sex": patient.sex,
    }
    return {key: value for key, value in said.items() if value}


def place(box: Box, scenario: Scenario, planned: PlannedStudy) -> str:
    """Order the study; the placer order number. Raises BoxError where the RIS does not take it."""
    who, case = arriving(planned), scenario.case(planned.case)
    order = {
        **_person(who.patient),
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
