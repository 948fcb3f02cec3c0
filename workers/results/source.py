"""The images that were read: their headers, made safe to build results from.

Scanners leave out or misspell what the standard asks for. A result must not fail for that: what is missing is
left empty where that is allowed, and a missing Frame of Reference UID is derived from the Series Instance UID
(the positions are real; only their name is missing). Values that no object may hold (Patient's Sex "MALE", a date
"1960") are left empty rather than repeated. Next: seg.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from medai.models.errors import GeometryMismatch
from medai.models.images.header import text
from medai.models.volume import Segmentation, Volume
from medai.workers.results.frames import FrameName
from medai.workers.results.identity import frame_of_reference_uid

PATIENT_AND_STUDY = (
    "TimezoneOffsetFromUTC",
    *("PatientName", "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID"),
    *("PatientBirthDate", "PatientBirthTime", "PatientSex", "OtherPatientIDsSequence", "OtherPatientNames"),
    *("ReferencedPatientSequence", "EthnicGroup", "PatientComments", "QualityControlSubject"),
    *("PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription", "ResponsiblePerson"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("LongitudinalTemporalInformationModified", "ClinicalTrialSponsorName", "ClinicalTrialProtocolID"),
    *("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID"),
    *("ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber"),
    *("IssuerOfAccessionNumberSequence", "ReferringPhysicianName", "PhysiciansOfRecord", "ProcedureCodeSequence"),
    *("ReferencedStudySequence", "RequestingService", "NameOfPhysiciansReadingStudy"),
    *("PatientAge", "PatientSize", "PatientWeight", "AdmittingDiagnosesDescription", "Occupation"),
    *("AdmissionID", "IssuerOfAdmissionIDSequence", "ServiceEpisodeID", "PregnancyStatus"),
)
"""Carried over to every result, so that an archive files it under the same patient and study."""

REQUIRED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
TYPE_2 = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName"),
)
NAMES = ("PatientName", "ReferringPhysicianName")
"""Kept from highdicom, whose warnings about unusual names quote them; ``name_people`` puts them back."""
IMAGE = ("SpecificCharacterSet", "Modality", "PositionReferenceIndicator", "LossyImageCompression", "Manufacturer")
LOSSY = ("LossyImageCompressionRatio", "LossyImageCompressionMethod")
EQUIPMENT = ("ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "StationName")
METHOD_UNKNOWN = "not stated by the source"
"""DeidentificationMethod of a source that says PatientIdentityRemoved YES and not how, as much public data does; one of
the two attributes must be there (PS3.3 C.7.1.1), and this is what is true."""
POSITION_TOLERANCE = 0.25
"""How far a slice may lie from the grid that was made of the series, in slice spacings."""

_TIME = r"([01]\d|2[0-3])([0-5]\d([0-5]\d|60)?(\.\d{1,6})?)?"
_VALID: dict[str, Callable[[str], bool]] = {
    "PatientSex": lambda text: text in {"", "M", "F", "O"},
    "PatientBirthDate": lambda text: _is_date(text),
    "StudyDate": lambda text: _is_date(text),
    "PatientBirthTime": lambda text: not text or re.fullmatch(_TIME, text) is not None,
    "StudyTime": lambda text: not text or re.fullmatch(_TIME, text) is not None,
    "PatientIdentityRemoved": lambda text: text in {"YES", "NO"},
    "LongitudinalTemporalInformationModified": lambda text: text in {"UNMODIFIED", "MODIFIED", "REMOVED"},
    "PatientAge": lambda text: re.fullmatch(r"\d{3}[DWMY]", text) is not None,
    "TimezoneOffsetFromUTC": lambda text: re.fullmatch(r"[+-](0\d|1[0-4])[0-5]\d", text) is not None,
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """One series as it was read: ``headers[i]`` is the image of slice i of ``volume`` (pixels not needed).

    Of enhanced objects ``headers`` are one for each frame, under UIDs that ``frames`` explains (frames.py).
    """

    headers: tuple[Dataset, ...] = field(repr=False, hash=False, compare=False)
    volume: Volume
    frames: Mapping[str, FrameName] = field(default_factory=dict, repr=False, hash=False, compare=False)

    def __post_init__(self) -> None:
        slices = self.volume.geometry.shape[0]
        if len(self.headers) != slices:
            raise GeometryMismatch(f"{len(self.headers)} images were given for a volume of {slices} slices")
        affine = self.volume.geometry.affine
        allowed_mm = POSITION_TOLERANCE * self.volume.geometry.spacing_mm[2]
        for index, header in enumerate(self.headers):
            position = np.asarray([float(v) for v in header.ImagePositionPatient])
            offset_mm = float(np.abs(position - affine[:3, 3] - index * affine[:3, 2]).max())
            if offset_mm > allowed_mm:
                raise GeometryMismatch(f"slice {index + 1} lies {offset_mm:.2f} mm from its place in the volume")

    def require_fits(self, segmentation: Segmentation) -> None:
        """Raise GeometryMismatch unless the mask lies on exactly the grid of these images."""
        segmentation.geometry.require_same(self.volume.geometry, what="the mask and its source")
        if segmentation.labels.shape != self.volume.geometry.shape:
            raise GeometryMismatch(
                f"the mask has {segmentation.labels.shape} voxels, its source {self.volume.geometry.shape}"
            )

    @property
    def first(self) -> Dataset:
        """The header that speaks for the study."""
        return self.headers[0]

    @cached_property
    def clean(self) -> tuple[Dataset, ...]:
        """The headers reduced to what a result refers to, with every attribute that an encoder asks for."""
        lead = _lead(self)
        return (lead, *(_follower(self, lead, index) for index in range(1, len(self.headers))))

    def name_people(self, result: Dataset) -> None:
        """Give a result the names that its images carry."""
        for keyword in NAMES:
            if usable(self.first, keyword) is not None:
                result.add(deepcopy(self.first[keyword]))

    def moment(self, created_at: datetime) -> datetime:
        """``created_at`` on the clock that this study's dates are on, where the study says which that is."""
        offset = str(self.clean[0].get("TimezoneOffsetFromUTC", ""))
        if not offset or created_at.tzinfo is None:
            return created_at
        sign = -1 if offset[0] == "-" else 1
        return created_at.astimezone(timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))))


def _lead(source: Source) -> Dataset:
    header, lead = source.first, Dataset()
    for keyword in (*IMAGE, *LOSSY, *EQUIPMENT, *PATIENT_AND_STUDY, "BodyPartExamined", "Laterality"):
        if usable(header, keyword) is not None:
            lead.add(deepcopy(header[keyword]))  # setting a value changes the element in place
    for keyword in TYPE_2:
        if keyword not in lead or keyword in NAMES:
            setattr(lead, keyword, "")
    if not lead.get("LossyImageCompression"):
        lead.LossyImageCompression = "00"
    if lead.get("PatientIdentityRemoved") == "YES" and not _says_how(lead):
        lead.DeidentificationMethod = METHOD_UNKNOWN
    lead.Modality = source.volume.modality
    lead.FrameOfReferenceUID = header.get("FrameOfReferenceUID") or frame_of_reference_uid(header.SeriesInstanceUID)
    lead.PositionReferenceIndicator = header.get("PositionReferenceIndicator") or ""
    _identify(lead, header)
    _place(lead, source, 0)
    return lead


def _says_how(lead: Dataset) -> bool:
    """Whether a de-identified source says by what method; an empty or unusable statement is taken out."""
    if not text(lead, "DeidentificationMethod").replace("\\", "").strip():
        lead.pop("DeidentificationMethod", None)
    codes = lead.get("DeidentificationMethodCodeSequence")
    if codes is not None:
        parts = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
        whole = [item for item in codes if all(text(item, part).strip() for part in parts)]
        lead.DeidentificationMethodCodeSequence = whole
        if not whole:
            del lead.DeidentificationMethodCodeSequence
    return "DeidentificationMethod" in lead or "DeidentificationMethodCodeSequence" in lead


def _follower(source: Source, lead: Dataset, index: int) -> Dataset:
    image = Dataset()
    _identify(image, source.headers[index])
    image.StudyInstanceUID = lead.StudyInstanceUID
    image.SeriesInstanceUID = lead.SeriesInstanceUID
    image.FrameOfReferenceUID = lead.FrameOfReferenceUID
    _place(image, source, index)
    return image


def _identify(image: Dataset, header: Dataset) -> None:
    for keyword in REQUIRED:
        setattr(image, keyword, getattr(header, keyword))
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta = meta


def _place(image: Dataset, source: Source, index: int) -> None:
    """The slice's own position; orientation, spacing and size as the volume was made with them."""
    geometry = source.volume.geometry
    _slices, image.Rows, image.Columns = geometry.shape
    image.ImagePositionPatient = list(source.headers[index].ImagePositionPatient)
    image.ImageOrientationPatient = orientation(source)
    image.PixelSpacing = pixel_spacing(source)
    image.SpacingBetweenSlices = f"{geometry.spacing_mm[2]:.10g}"[:16]
    image.SliceThickness = thickness(source)


def orientation(source: Source) -> list[Any]:
    """ImageOrientationPatient: the first image's own text where it agrees with the geometry."""
    direction = np.asarray(source.volume.geometry.direction).reshape(3, 3)
    return _own(source, "ImageOrientationPatient", [*direction[:, 0], *direction[:, 1]], 1e-4)


def pixel_spacing(source: Source) -> list[Any]:
    """PixelSpacing, mm: between rows, then between columns."""
    x_mm, y_mm, _z_mm = source.volume.geometry.spacing_mm
    return _own(source, "PixelSpacing", [y_mm, x_mm], 1e-4)


def thickness(source: Source) -> Any:
    """SliceThickness, mm: the image's own (slices may overlap or leave gaps), else the spacing."""
    stated = source.first.get("SliceThickness")
    return stated if stated and float(stated) > 0 else f"{source.volume.geometry.spacing_mm[2]:.10g}"[:16]


def _own(source: Source, keyword: str, values: list[float], tolerance: float) -> list[Any]:
    stated = source.first.get(keyword) or []
    if len(stated) == len(values) and np.allclose([float(v) for v in stated], values, rtol=0, atol=tolerance):
        return list(stated)
    return [f"{float(value):.10g}"[:16] for value in values]


def usable(header: Dataset, keyword: str) -> Any:
    """The value of an attribute, or None where it is missing, empty or not allowed."""
    value = header.get(keyword)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    check = _VALID.get(keyword)
    if check is not None and not check(str(value).strip()):
        return None
    return value


def _is_date(text: str) -> bool:
    if not text:
        return True
    try:
        datetime.strptime(text, "%Y%m%d")  # noqa: DTZ007  (a calendar date has no zone)
    except ValueError:
        return False
    return True
