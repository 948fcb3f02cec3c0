"""What a simulated study is: its identity and its files.

Used by scanner/studies.py, scanner/mr_series.py, scanner/scu.py and demo/command.py.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from medai.router.contract import NAMESPACE, derived_uid

_HEADER_TAGS = [
    "StudyInstanceUID",
    "AccessionNumber",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "Modality",
]


class StudyError(Exception):
    """The input can't be made into a study; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Who the images are of, in DICOM's spelling (``name`` is PN, ``birth_date`` is YYYYMMDD, ``sex`` M/F/O)."""

    patient_id: str
    name: str
    birth_date: str = ""
    sex: str = ""


@dataclass(frozen=True, kw_only=True)
class StudyFolder:
    """One study as files, ready to be sent."""

    folder: Path
    files: tuple[Path, ...]
    study_uid: str
    accession: str
    patient: Patient
    modality: str
    skipped: int = 0
    """Files of the input that are no DICOM images (shared by all studies of one input)."""


def derive(seed: str, *parts: str) -> str:
    """A DICOM UID that is the same for the same seed and parts."""
    return derived_uid(str(uuid.uuid5(NAMESPACE, f"trials|{seed}")), *parts)


def describe(files: list[Path], folder: Path, *, skipped: int = 0) -> StudyFolder:
    """Read identity and modality of files that are known to be one study."""
    head = pydicom.dcmread(files[0], specific_tags=_HEADER_TAGS)
    return StudyFolder(
        folder=folder,
        files=tuple(files),
        study_uid=str(head.get("StudyInstanceUID", "")),
        accession=str(head.get("AccessionNumber", "") or ""),
        patient=Patient(
            patient_id=str(head.get("PatientID", "") or ""),
            name=str(head.get("PatientName", "") or ""),
            birth_date=str(head.get("PatientBirthDate", "") or ""),
            sex=str(head.get("PatientSex", "") or ""),
        ),
        modality=str(head.get("Modality", "") or ""),
        skipped=skipped,
    )


def set_patient(dataset: Dataset, patient: Patient) -> None:
    """Write the four patient attributes that travel with every image."""
    dataset.PatientName = patient.name
    dataset.PatientID = patient.patient_id
    dataset.PatientBirthDate = patient.birth_date
    dataset.PatientSex = patient.sex


def set_times(dataset: Dataset, moment: datetime) -> None:
    """Date and time of study, series, acquisition and content; the offset from UTC where ``moment`` has one."""
    for level in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{level}Date", moment.strftime("%Y%m%d"))
        setattr(dataset, f"{level}Time", moment.strftime("%H%M%S.%f" if moment.microsecond else "%H%M%S"))
    if moment.tzinfo is not None:
        dataset.TimezoneOffsetFromUTC = moment.strftime("%z")
