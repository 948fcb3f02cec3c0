"""Small made-up DICOM studies for tests: proper geometry, few pixels, identifiers that a byte search can find."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

PLANTED = {"name": "Plantedname^Test", "mrn": "MRN-PLANTED-77", "birth": "19010203", "accession": "ACCPLANTED9"}
"""Values that must never appear in a log, a metric or a message of the broker."""


def slice_of(
    index: int, *, study: str, series: int = 1, size: int = 16, spacing_mm: float = 3.0, **changes: Any
) -> Dataset:
    """One axial MR slice of a bright ball in noise; ``study`` seeds every UID."""
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SpecificCharacterSet = "ISO_IR 192"
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    d.StudyInstanceUID = generate_uid(entropy_srcs=[study])
    d.SeriesInstanceUID = generate_uid(entropy_srcs=[study, str(series)])
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid(
        entropy_srcs=[study, str(series), str(index)]
    )
    d.FrameOfReferenceUID = generate_uid(entropy_srcs=[study, "frame"])
    d.PatientName, d.PatientID, d.PatientBirthDate, d.PatientSex = (
        PLANTED["name"],
        PLANTED["mrn"],
        PLANTED["birth"],
        "O",
    )
    d.AccessionNumber, d.StudyID, d.StudyDate, d.StudyTime = PLANTED["accession"], "1", "20260101", "120000"
    d.ReferringPhysicianName, d.Modality, d.Manufacturer = "", "MR", "Test"
    d.SeriesNumber, d.InstanceNumber, d.SeriesDescription = series, index + 1, "T1 test"
    d.ImageType, d.BodyPartExamined = ["ORIGINAL", "PRIMARY", "M"], "BRAIN"
    d.ScanningSequence, d.SequenceVariant, d.ScanOptions, d.MRAcquisitionType = "GR", "SP", "", "3D"
    d.EchoTime, d.EchoTrainLength, d.RepetitionTime = "3", "1", "2000"
    d.PatientPosition, d.PositionReferenceIndicator, d.Laterality = "HFS", "", ""
    d.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    d.ImagePositionPatient = [-size * spacing_mm / 2, -size * spacing_mm / 2, index * spacing_mm]
    d.PixelSpacing, d.SliceThickness = [spacing_mm, spacing_mm], spacing_mm
    d.Rows = d.Columns = size
    d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 0
    d.BitsAllocated, d.BitsStored, d.HighBit = 16, 12, 11
    y, x = np.mgrid[:size, :size] - size / 2
    ball = 800 * (x**2 + y**2 + (index - 8) ** 2 < (size / 3) ** 2)
    noise = np.random.default_rng(index).integers(0, 60, (size, size))
    d.PixelData = (ball + noise).astype("<u2").tobytes()
    for keyword, value in changes.items():
        setattr(d, keyword, value)
    return d


def to_bytes(dataset: Dataset) -> bytes:
    """As a DICOM file."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def study_files(study: str, *, slices: int = 16, **changes: Any) -> list[bytes]:
    """A study of one series, as files."""
    return [to_bytes(slice_of(index, study=study, **changes)) for index in range(slices)]


def study_uid(study: str) -> str:
    """The Study Instance UID that ``study`` seeds."""
    return str(generate_uid(entropy_srcs=[study]))


def renamed(folder: Path, name: str, *, step: int = 1, **values: Any) -> tuple[str, list[bytes]]:
    """Every ``step`` th image of a real series under a fresh Study Instance UID and with other values; and the files."""
    uid = study_uid(name)
    files = []
    for path in sorted(folder.iterdir())[::step]:
        image = pydicom.dcmread(path)
        image.update(values)
        image.StudyInstanceUID = uid
        image.SeriesInstanceUID = f"{uid[:50]}.1"
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{uid[:50]}.2.{image.InstanceNumber}"
        files.append(to_bytes(image))
    return uid, files


def enhanced(images: Sequence[Dataset]) -> Dataset:
    """The same images as one enhanced MR object, its frames in their order."""
    made = deepcopy(images[0])
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    made.NumberOfFrames, made.InstanceNumber = len(images), 1
    made.PixelData = b"".join(image.PixelData for image in images)
    plane, measures = Dataset(), Dataset()
    plane.ImageOrientationPatient = made.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = made.PixelSpacing, made.SliceThickness
    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    made.SharedFunctionalGroupsSequence, made.PerFrameFunctionalGroupsSequence = [shared], []
    for image in images:
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = image.ImagePositionPatient
        frame.PlanePositionSequence = [position]
        made.PerFrameFunctionalGroupsSequence.append(frame)
    for keyword in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SliceThickness"):
        delattr(made, keyword)
    return made
