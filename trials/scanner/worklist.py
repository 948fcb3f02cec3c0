"""Ask a RIS for its worklist, as a modality does (C-FIND; PS3.4 annex K; IHE RAD-5). Next: examination.py."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pynetdicom.presentation import build_context

from medai.trials.scanner.scu import Peer, SendError, associate
from medai.trials.study import Patient

WORKLIST = "1.2.840.10008.5.1.4.31"
"""Modality Worklist Information Model - FIND."""
PENDING = (0xFF00, 0xFF01)


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """What the worklist says of a study."""

    patient: Patient
    accession: str
    study_uid: str
    requested_procedure_id: str
    scheduled_step_id: str
    procedure: str


def find_scheduled(ris: Peer, *, patient_id: str, accession: str, modality: str) -> Scheduled | None:
    """One study of the worklist; None where it has none. Raises SendError where the RIS gives no good answer."""
    found = worklist(ris, patient_id=patient_id, accession=accession, modality=modality)
    return found[0] if found else None


def worklist(ris: Peer, *, patient_id: str = "", accession: str = "", modality: str) -> list[Scheduled]:
    """What is scheduled for a modality, in the RIS's order. Raises SendError where it gives no good answer."""
    found: list[Scheduled] = []
    association = associate(ris, [build_context(WORKLIST)])
    try:
        for status, item in association.send_c_find(_query(patient_id, accession, modality), WORKLIST):
            if not status or "Status" not in status:
                raise SendError("the RIS broke off in the middle of its worklist")
            if int(status.Status) in PENDING and item is not None:
                found.append(_scheduled(item))
            elif int(status.Status) != 0:
                raise SendError(f"the RIS could not answer the worklist query (status 0x{int(status.Status):04X})")
    finally:
        association.release()
    return found


def _query(patient_id: str, accession: str, modality: str) -> Dataset:
    query = Dataset()
    query.PatientID, query.PatientName, query.AccessionNumber = patient_id, "", accession
    query.PatientBirthDate, query.PatientSex = "", ""
    query.StudyInstanceUID, query.RequestedProcedureID, query.RequestedProcedureDescription = "", "", ""
    step = Dataset()
    step.Modality, step.ScheduledStationAETitle, step.ScheduledProcedureStepID = modality, "", ""
    step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime = "", ""
    step.ScheduledProcedureStepDescription = ""
    query.ScheduledProcedureStepSequence = [step]
    return query


def _scheduled(item: Dataset) -> Scheduled:
    steps = item.get("ScheduledProcedureStepSequence") or [Dataset()]
    return Scheduled(
        patient=Patient(
            patient_id=_text(item, "PatientID"), name=_text(item, "PatientName"),
            birth_date=_text(item, "PatientBirthDate"), sex=_text(item, "PatientSex"),
        ),
        accession=_text(item, "AccessionNumber"),
        study_uid=_text(item, "StudyInstanceUID"),
        requested_procedure_id=_text(item, "RequestedProcedureID"),
        scheduled_step_id=_text(steps[0], "ScheduledProcedureStepID"),
        procedure=_text(item, "RequestedProcedureDescription"),
    )  # fmt: skip


def _text(item: Dataset, keyword: str) -> str:
    return str(item.get(keyword, "") or "")
