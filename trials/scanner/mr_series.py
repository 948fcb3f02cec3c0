"""Write a NIfTI head as the MR Image Storage series that a scanner would have sent (a T1 3D gradient echo, MPRAGE).

Why: real heads are free as NIfTI, but the system reads DICOM. Geometry is kept exactly: axial slices in DICOM's
patient coordinates (LPS, mm). Acquisition values that NIfTI does not carry are typical ones of an MPRAGE.
Source: PS3.3 A.4 (MR Image IOD). Next: scu.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from medai.trials.study import Patient, StudyError, StudyFolder, derive, set_patient, set_times

sitk: Any = SimpleITK
"""Its wheel annotates only part of what it offers, so the type checker is told to look away."""
Image = Any
ACQUIRED_AT = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
"""When a series was acquired if the caller does not say: the same call writes the same files."""


@dataclass(frozen=True, kw_only=True)
class _Series:
    image: Image
    """Axes x, y, z toward left, posterior and superior; unsigned 16-bit voxels."""
    bits: int
    patient: Patient
    accession: str
    study_uid: str
    seed: str
    acquired_at: datetime


def nifti_to_mr_series(
    path: Path,
    out_dir: Path,
    *,
    patient: Patient,
    accession: str,
    study_uid: str | None = None,
    seed: str,
    acquired_at: datetime = ACQUIRED_AT,
) -> StudyFolder:
    """Write the 3D volume ``path`` as one axial MR series into ``out_dir``, a file per slice, feet first.

    Integer voxels that fit are kept as they are, others scaled linearly to 0…4095. UIDs derive from ``seed``.
    Raises StudyError where the file is not a 3D scalar volume.
    """
    image, bits = _stored_values(_axial(path))
    series = _Series(
        image=image,
        bits=bits,
        patient=patient,
        accession=accession,
        study_uid=study_uid or derive(seed, "study"),
        seed=seed,
        acquired_at=acquired_at,
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    common = _common(series)
    files = [_write_slice(series, common, index, out_dir) for index in range(image.GetDepth())]
    return StudyFolder(
        folder=out_dir,
        files=tuple(files),
        study_uid=series.study_uid,
        accession=accession,
        patient=patient,
        modality="MR",
    )


def _axial(path: Path) -> Image:
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise StudyError(f"{path} can't be read as an image: {str(error).splitlines()[-1]}") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1 or min(image.GetSize()) < 2:
        raise StudyError(f"{path} is not a 3D volume of single values (size {image.GetSize()})")
    return sitk.DICOMOrient(image, "LPS")


def _stored_values(image: Image) -> tuple[Image, int]:
    """Voxels as unsigned 16-bit and the number of bits used, at least 12 as scanners store them."""
    low, high = _range(image)
    whole = "float" not in image.GetPixelIDTypeAsString()
    if not whole or low < 0 or high > 65535:
        image = sitk.RescaleIntensity(sitk.Cast(image, sitk.sitkFloat32), 0, 4095)
        high = 4095
    return sitk.Cast(image, sitk.sitkUInt16), max(12, int(high).bit_length())


def _range(image: Image) -> tuple[float, float]:
    extremes = sitk.MinimumMaximumImageFilter()
    extremes.Execute(image)
    return extremes.GetMinimum(), extremes.GetMaximum()


def _common(series: _Series) -> Dataset:
    """Everything that all slices share."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    set_patient(dataset, series.patient)
    set_times(dataset, series.acquired_at)
    for part in (_study_and_series(series), _equipment(), _acquisition(series), _pixels(series)):
        for keyword, value in part.items():
            setattr(dataset, keyword, value)
    return dataset


def _study_and_series(series: _Series) -> dict[str, Any]:
    request = Dataset()
    request.RequestedProcedureID = series.accession
    request.ScheduledProcedureStepID = f"{series.accession[:14]}-1"
    request.ScheduledProcedureStepDescription = "MR head T1"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "24590-2", "LN", "MR Brain"
    return {
        "SOPClassUID": MRImageStorage,
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "StudyInstanceUID": series.study_uid,
        "SeriesInstanceUID": derive(series.seed, "series"),
        "FrameOfReferenceUID": derive(series.seed, "frame of reference"),
        "PositionReferenceIndicator": "",
        "AccessionNumber": series.accession,
        "StudyID": "1",
        "SeriesNumber": 2,
        "AcquisitionNumber": 1,
        "Modality": "MR",
        "StudyDescription": "MR head",
        "SeriesDescription": "t1_mprage_tra",
        "ReferringPhysicianName": "",
        "ProcedureCodeSequence": [code],
        "RequestAttributesSequence": [request],
    }


def _equipment() -> dict[str, Any]:
    return {
        "Manufacturer": "Med-AI trials",
        "ManufacturerModelName": "simulated scanner",
        "InstitutionName": "Med-AI trials",
        "StationName": "TRIAL1",
        "DeviceSerialNumber": "1",
        "SoftwareVersions": "1",
    }


def _acquisition(series: _Series) -> dict[str, Any]:
    spacing_mm = _decimal(series.image.GetSpacing()[2])
    return {
        "BodyPartExamined": "BRAIN",
        "PatientPosition": "HFS",
        "ScanningSequence": ["GR", "IR"],
        "SequenceVariant": ["SP", "MP"],
        "ScanOptions": "",
        "MRAcquisitionType": "3D",
        "SequenceName": "tfl3d1",
        "ProtocolName": "t1_mprage_tra",
        "RepetitionTime": "2300",
        "EchoTime": "2.98",
        "InversionTime": "900",
        "EchoTrainLength": 1,
        "FlipAngle": "9",
        "NumberOfAverages": "1",
        "ImagingFrequency": "123.25",
        "ImagedNucleus": "1H",
        "MagneticFieldStrength": "3",
        "SliceThickness": spacing_mm,
        "SpacingBetweenSlices": spacing_mm,
        "ImagesInAcquisition": series.image.GetDepth(),
    }


def _pixels(series: _Series) -> dict[str, Any]:
    columns, rows, _ = series.image.GetSize()
    low, high = _range(series.image)
    across_mm, down_mm, _ = series.image.GetSpacing()
    direction = series.image.GetDirection()
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "PixelSpacing": [_decimal(down_mm), _decimal(across_mm)],
        "ImageOrientationPatient": [_decimal(direction[i]) for i in (0, 3, 6, 1, 4, 7)],
        "BitsAllocated": 16,
        "BitsStored": series.bits,
        "HighBit": series.bits - 1,
        "PixelRepresentation": 0,
        "WindowCenter": _decimal((low + high) / 2),
        "WindowWidth": _decimal(max(high - low, 1)),
    }


def _write_slice(series: _Series, common: Dataset, index: int, out_dir: Path) -> Path:
    dataset = Dataset()
    dataset.update(common)
    dataset.SOPInstanceUID = derive(series.seed, "instance", str(index))
    dataset.InstanceNumber = index + 1
    position_mm = series.image.TransformIndexToPhysicalPoint((0, 0, index))
    dataset.ImagePositionPatient = [_decimal(value) for value in position_mm]
    dataset.SliceLocation = _decimal(position_mm[2])
    plane = sitk.GetArrayFromImage(series.image[:, :, index])
    dataset.PixelData = plane.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = out_dir / f"{index + 1:05d}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def _decimal(value: float) -> str:
    """A DS of at most 16 characters (PS3.5 6.2)."""
    text = repr(float(value)).removesuffix(".0")
    return text if len(text) <= 16 else f"{value:.10g}"
