"""Where templates come from: a DICOM folder, a folder of the data directory, or what the installed packages hold.

``builtin:`` sources need no data: Colin 27 (Debian's mricron-data) as MR, pydicom's CT slice stacked as CT. A
projection of a CT makes the radiograph. Next: volumes.py.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ComputedRadiographyImageStorage

from medai.router.words import counted
from medai.trials.scanner.mr_series import nifti_to_mr_series
from medai.trials.scanner.volumes import Template, thinned
from medai.trials.scenario import Case, ScenarioError
from medai.trials.study import Patient, derive

HEAD = Path("/usr/share/mricron/templates/ch2.nii.gz")
STACKED, STACKED_SLICES = "pydicom's CT_small.dcm, stacked", 40
RADIOGRAPH_MAX = 4095
_UNTRUE_PIXELS = ("PixelData", "SmallestImagePixelValue", "LargestImagePixelValue", "IconImageSequence")
"""Untrue once the pixels have moved."""
_UNTRUE_IDENTITY = (
    "PatientAge", "OtherPatientIDs", "OtherPatientIDsSequence", "OtherPatientNames", "IssuerOfPatientID",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
)  # fmt: skip
"""Of the original's patient: a made study is of somebody else, who has a name."""
_UNTRUE_COURSE = (
    "RequestAttributesSequence", "ReferencedPerformedProcedureStepSequence", "PerformedProcedureStepEndDate",
    "PerformedProcedureStepEndTime", "PerformedProcedureStepDescription", "ScheduledProcedureStepStartDate",
    "ScheduledProcedureStepStartTime", "ScheduledProcedureStepEndDate", "ScheduledProcedureStepEndTime",
    "ImagesInAcquisition", "NumberOfSeriesRelatedInstances", "NumberOfStudyRelatedInstances",
    "NumberOfStudyRelatedSeries", "ReferencedStudySequence", "ReferencedImageSequence", "SourceImageSequence",
)  # fmt: skip
"""Of the original's order, step and other series, and how many images there were."""
_NOT_KEPT = (*_UNTRUE_PIXELS, *_UNTRUE_IDENTITY, *_UNTRUE_COURSE)


@dataclass
class Sources:
    """Finds and keeps templates; ``told`` says where a case could not have what it asked for."""

    data: Path | None

    def __post_init__(self) -> None:
        self._kept: dict[tuple[str, str], Template] = {}
        self.told: list[str] = []

    def template(self, case: Case, *, whole: bool = False) -> Template:
        """The case's template, thinned as it asks unless ``whole``. Raises ScenarioError: its source can't be read."""
        key = (case.source, case.modality)
        if key not in self._kept:
            self._kept[key] = self._load(case)
        if whole or case.modality == "CR" or self._kept[key].source == STACKED:
            return self._kept[key]  # small enough
        return thinned(self._kept[key], every_nth=case.every_nth, downsample=case.downsample)

    def _load(self, case: Case) -> Template:
        wanted = "CT" if case.modality == "CR" else case.modality
        folder = self._folder(case.source)
        if folder is None:
            found = head() if wanted == "MR" else stacked_ct()
            if case.source not in ("", "builtin:head", "builtin:ct"):
                self.told.append(
                    f"case {case.name}: {case.source} is not here (--data); made from {found.source} instead"
                )
        else:
            found = from_folder(folder, wanted)
        return radiograph(found) if case.modality == "CR" else found

    def _folder(self, source: str) -> Path | None:
        if not source or source.startswith("builtin:"):
            return None
        if source.startswith("data:"):
            place = self.data / source.removeprefix("data:") if self.data else None
            return place if place is not None and place.is_dir() else None
        place = Path(source).expanduser()
        if not place.is_dir():
            raise ScenarioError(f"{place} is not a folder: a case's source must be one, or data:NAME, or builtin:head")
        return place


def from_folder(folder: Path, modality: str) -> Template:
    """The largest series of a modality below a folder, its slices along the body. Raises ScenarioError."""
    series: dict[str, list[Dataset]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except InvalidDicomError:
            continue
        if header.get("Modality") == modality and "Rows" in header and "NumberOfFrames" not in header:
            header.filename = path
            series.setdefault(str(header.SeriesInstanceUID), []).append(header)
    if not series:
        raise ScenarioError(f"{folder} holds no {modality} series")
    largest = max(series.values(), key=len)
    largest.sort(key=_along)
    return _template(largest, modality, f"{folder.name} ({counted(len(largest), 'image')})")


def head() -> Template:
    """Colin 27 as a T1 MR series. Raises ScenarioError where the package mricron-data is not installed."""
    if not HEAD.exists():
        raise ScenarioError(f"{HEAD} is missing: install the Debian package mricron-data (./medai setup does)")
    nobody = Patient(patient_id="TEMPLATE", name="Template")
    with tempfile.TemporaryDirectory(prefix="medai-head-") as place:
        made = nifti_to_mr_series(HEAD, Path(place), patient=nobody, accession="", seed="template")
        headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in made.files]
        for header, path in zip(headers, made.files, strict=True):
            header.filename = path
        return _template(headers, "MR", "Colin 27 (mricron-data)")


def stacked_ct() -> Template:
    """pydicom's real CT slice, 128 by 128, stacked: enough for what the system does, of no anatomy along the body."""
    path = get_testdata_file("CT_small.dcm")
    assert isinstance(path, str)
    header = pydicom.dcmread(path, stop_before_pixels=True)
    header.filename = Path(path)
    one = _template([header], "CT", "")
    step = float(header.SliceThickness)
    headers = []
    for number in range(STACKED_SLICES):
        made = pydicom.dcmread(path, stop_before_pixels=True)
        x, y, z = (float(value) for value in made.ImagePositionPatient)
        made.ImagePositionPatient = [x, y, z + number * step]
        if "SliceLocation" in made:
            made.SliceLocation = float(made.SliceLocation) + number * step
        headers.append(_cleaned(made))
    pixels = np.repeat(one.pixels, STACKED_SLICES, axis=0)
    return Template("CT", STACKED, tuple(headers), pixels)


def radiograph(ct: Template) -> Template:
    """A frontal CR image (PS3.3 A.2): the mean of an axial CT from front to back, brighter where denser."""
    header = ct.headers[0]
    slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    density = np.clip(ct.pixels.astype(np.float32) * slope + intercept, -1000, 1500).mean(axis=1)[::-1]
    spacing, step = [float(value) for value in header.PixelSpacing], _step_mm(ct)
    density = np.repeat(density, max(1, round(step / spacing[1])), axis=0)
    low, high = float(density.min()), float(density.max())
    pixels = ((density - low) / max(high - low, 1.0) * RADIOGRAPH_MAX).astype(np.uint16)[None]
    made = _cr_header(header, pixels.shape[1], pixels.shape[2], spacing[1])
    return Template("CR", f"projection of {ct.source}", (made,), pixels)


def _cr_header(header: Dataset, rows: int, columns: int, spacing_mm: float) -> Dataset:
    made = Dataset()
    made.SOPClassUID = ComputedRadiographyImageStorage
    made.SOPInstanceUID, made.SeriesInstanceUID = derive("radiograph"), derive("radiograph", "series")
    made.StudyInstanceUID = derive("radiograph", "study")
    made.ImageType = ["DERIVED", "PRIMARY"]
    made.Modality, made.Manufacturer = "CR", "Med-AI trials"
    made.BodyPartExamined = str(header.get("BodyPartExamined", "") or "CHEST")
    made.ViewPosition, made.PatientOrientation = "AP", ["L", "F"]
    made.ReferringPhysicianName, made.StudyID = "", ""
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns = rows, columns
    made.ImagerPixelSpacing = [spacing_mm, spacing_mm]
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.WindowCenter, made.WindowWidth = RADIOGRAPH_MAX / 2, RADIOGRAPH_MAX
    made.SeriesNumber, made.InstanceNumber = 1, 1
    return made


def _template(headers: Iterable[Dataset], modality: str, source: str) -> Template:
    images, kept = [], []
    for header in headers:
        whole = pydicom.dcmread(str(header.filename))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a header of the wild that pydicom only remarks on
            images.append(whole.pixel_array)
        kept.append(_cleaned(header))
    return Template(modality, source, tuple(kept), np.stack(images))


def _cleaned(header: Dataset) -> Dataset:
    for keyword in _NOT_KEPT:
        if keyword in header:
            del header[keyword]
    header.remove_private_tags()
    return header


def _along(header: Dataset) -> float:
    """Where a slice lies along its normal, mm; for what has no geometry, its number."""
    if "ImagePositionPatient" not in header or "ImageOrientationPatient" not in header:
        return float(header.get("InstanceNumber", 0) or 0)
    axes = np.array([float(value) for value in header.ImageOrientationPatient]).reshape(2, 3)
    position = np.array([float(value) for value in header.ImagePositionPatient])
    return float(np.dot(np.cross(axes[0], axes[1]), position))


def _step_mm(template: Template) -> float:
    if len(template.headers) < 2:
        return float(template.headers[0].get("SliceThickness", 1.0))
    places = [_along(header) for header in template.headers]
    return abs(places[-1] - places[0]) / (len(places) - 1)
