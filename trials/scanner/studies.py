"""Make studies to send: a real head in NIfTI written as an MR series, or a copy of any folder or zip of DICOM.

Why: a modality is simulated best by images that a modality could have sent. All UIDs derive from a seed, so the
same call writes the same study. Pixel data of copied studies is never decoded. Next: scu.py sends what is made here.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from medai.router.contract import short_id
from medai.router.words import counted
from medai.trials.scanner.mr_series import nifti_to_mr_series
from medai.trials.study import Patient, StudyError, StudyFolder, derive, describe, set_patient, set_times

__all__ = ["Patient", "StudyError", "StudyFolder", "copy_studies", "copy_study", "nifti_to_mr_series"]

PIXEL_TAGS = (0x7FE00010, 0x7FE00008, 0x7FE00009)
"""Pixel Data, Float Pixel Data, Double Float Pixel Data (PS3.3 C.7.6.3, C.7.6.24, C.7.6.25)."""
_KEPT_UIDS = ("ClassUID", "TransferSyntaxUID", "CodingSchemeUID", "ContextUID", "DeviceUID", "MappingResourceUID")
_MAX_UNPACKED_BYTES = 16 * 1024**3


def copy_study(
    source: Path,
    out_dir: Path,
    *,
    fresh_identity: bool,
    accession: str | None,
    patient: Patient | None = None,
    seed: str = "copy",
    acquired_at: datetime | None = None,
) -> StudyFolder:
    """Like ``copy_studies`` for an input that must hold exactly one study; raises StudyError otherwise."""
    studies = copy_studies(
        source,
        out_dir,
        fresh_identity=fresh_identity,
        accession=accession,
        patient=patient,
        seed=seed,
        acquired_at=acquired_at,
    )
    if len(studies) != 1:
        raise StudyError(f"{source} holds {len(studies)} studies; exactly one was expected")
    return studies[0]


def copy_studies(
    source: Path,
    out_dir: Path,
    *,
    fresh_identity: bool,
    accession: str | None,
    patient: Patient | None = None,
    seed: str = "copy",
    acquired_at: datetime | None = None,
) -> tuple[StudyFolder, ...]:
    """Copy every image instance of a folder, zip or single file into ``out_dir``, one folder a study.

    With ``fresh_identity`` all UIDs are replaced coherently (study, series, instance, frame of reference and every
    reference to them), patient and accession are set, and with ``acquired_at`` the dates too. Without it the files
    keep their identity: only an empty accession number is filled in, and a file that has one is copied byte for byte.
    Several studies get ``accession``, ``accession-2``, …; None derives each from its Study UID.
    Raises StudyError where there is no image at all.
    """
    edit = _Edit(fresh=fresh_identity, patient=patient, seed=seed, acquired_at=acquired_at)
    with _unpacked(source) as root:
        groups, skipped = _by_study(root)
        if not groups:
            raise StudyError(
                f"{source}: no DICOM image in it ({counted(skipped, 'other file')}); give a folder or zip of DICOM"
            )
        made = []
        for number, (uid, files) in enumerate(sorted(groups.items()), start=1):
            wanted = _accession(accession, uid, number)
            made.append(_copy_one(files, out_dir / f"study{number:02d}", wanted, edit, skipped))
    return tuple(made)


@dataclass(frozen=True, kw_only=True)
class _Edit:
    fresh: bool
    patient: Patient | None
    seed: str
    acquired_at: datetime | None


@contextmanager
def _unpacked(source: Path) -> Iterator[Path]:
    if source.is_dir() or (source.is_file() and not zipfile.is_zipfile(source)):
        yield source
        return
    if not source.exists():
        raise StudyError(f"{source} does not exist; give a folder or zip of DICOM")
    with zipfile.ZipFile(source) as archive, TemporaryDirectory(prefix="medai-study-") as place:
        total = sum(info.file_size for info in archive.infolist())
        if total > _MAX_UNPACKED_BYTES:
            raise StudyError(f"{source} unpacks to {total / 1e9:.1f} GB, more than is accepted; unpack it yourself")
        archive.extractall(place)  # ZipFile drops absolute paths and '..' itself
        yield Path(place)


def _by_study(root: Path) -> tuple[dict[str, list[Path]], int]:
    groups: dict[str, list[Path]] = {}
    skipped = 0
    candidates = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    for path in candidates:
        uid = _study_of_image(path)
        if uid:
            groups.setdefault(uid, []).append(path)
        else:
            skipped += 1
    return groups, skipped


def _study_of_image(path: Path) -> str:
    """Study Instance UID of an image; empty for anything else (DICOMDIR, SR, text, …)."""
    try:
        head = pydicom.dcmread(path, defer_size=1024)
    except (InvalidDicomError, EOFError, OSError, ValueError):
        return ""
    if not any(tag in head for tag in PIXEL_TAGS) or "SOPInstanceUID" not in head:
        return ""
    return str(head.get("StudyInstanceUID", ""))


def _accession(wanted: str | None, study_uid: str, number: int) -> str:
    """At most 16 characters (SH)."""
    if wanted is None:
        return f"A{short_id(study_uid, length=12)}"
    return wanted if number == 1 else f"{wanted[:13]}-{number}"


def _copy_one(files: list[Path], folder: Path, accession: str, edit: _Edit, skipped: int) -> StudyFolder:
    folder.mkdir(parents=True, exist_ok=True)
    copies = []
    for number, path in enumerate(files, start=1):
        copy = folder / f"{number:05d}.dcm"
        dataset = pydicom.dcmread(path)
        if edit.fresh:
            _renew(dataset, accession, edit)
        elif str(dataset.get("AccessionNumber", "") or ""):
            copy.write_bytes(path.read_bytes())
            copies.append(copy)
            continue
        else:
            dataset.AccessionNumber = accession
        dataset.save_as(copy, enforce_file_format=True)
        copies.append(copy)
    return describe(copies, folder, skipped=skipped)


def _renew(dataset: Dataset, accession: str, edit: _Edit) -> None:
    dataset.walk(lambda _, element: _map_uid(element, edit.seed))
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.AccessionNumber = accession
    if edit.patient is not None:
        set_patient(dataset, edit.patient)
    if edit.acquired_at is not None:
        set_times(dataset, edit.acquired_at)


def _map_uid(element: DataElement, seed: str) -> None:
    if element.VR != "UI" or element.is_empty or element.keyword.endswith(_KEPT_UIDS):
        return
    values = [element.value] if isinstance(element.value, str) else list(element.value)
    mapped = [old if _registered(old) else UID(derive(seed, str(old))) for old in values]
    element.value = mapped[0] if len(mapped) == 1 else mapped


def _registered(uid: str) -> bool:
    return uid.startswith("1.2.840.10008.")
