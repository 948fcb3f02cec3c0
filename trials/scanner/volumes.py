"""Real volumes as templates, from which studies are made that no two are the same: fresh identity and UIDs, one Frame
of Reference for all series of a study, the anatomy moved a little within the image, the couch along the body, and a
grain of its own in each image.

A template is decoded once and kept in memory; a study of 40 slices is made in a tenth of a second. What the headers of
the original say stays, but for identity, times and what the changes make untrue. Next: sources.py, hospital/scans.py.
"""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless
from pydicom.valuerep import format_number_as_ds

from medai.trials.study import Patient, derive, set_patient, set_times

SHIFT_PIXELS = 3
"""The anatomy lies up to so many pixels beside its place in the original, in rows and columns."""
SHIFT_MM = 20.0
"""And the couch up to so many millimetres along the body."""
LOCALIZER_SLICES = 3
LATE_SLICES = 3
WRONG_PARTS = ("ABDOMEN", "CHEST")
"""The first that the study does not show. (A paired part would need Laterality.)"""
COMPRESSED = (JPEGLSLossless, JPEG2000Lossless, RLELossless)
_ONE_AT_A_TIME = threading.Lock()
"""pylibjpeg-openjpeg 2.6 encodes in one thread only: with several, Python itself crashes."""
JPEG2000_PIXELS_MIN = 32
MPPS = "1.2.840.10008.3.1.2.3.3"
"""Modality Performed Procedure Step SOP Class."""
_OURS = (0x00080018, 0x0020000D, 0x0020000E, 0x00200052)
"""SOP Instance, Study, Series, Frame of Reference UID: set anew, never mapped."""


@dataclass(frozen=True)
class Template:
    """A series to make studies from.

    ``headers`` (without pixels) and ``pixels`` [slices, rows, columns] belong together.
    """

    modality: str
    source: str
    """What it is made from, for the report."""
    headers: tuple[Dataset, ...]
    pixels: np.ndarray[Any, Any]

    @property
    def body_part(self) -> str:
        """BodyPartExamined of the original, or empty."""
        return str(self.headers[0].get("BodyPartExamined", "") or "")


@dataclass(frozen=True, kw_only=True)
class Request:
    """Who the study is of, and what the worklist said of it."""

    patient: Patient
    accession: str
    study_uid: str
    seed: str
    acquired_at: datetime
    requested_procedure_id: str = ""
    scheduled_step_id: str = ""
    procedure: str = ""
    performed: bool = False
    """The RIS knows of the scanner's step (MPPS): the images refer to it, as IHE RAD-8 asks."""
    image_s: float = 1.0
    """Real seconds from one image to the next."""
    pause_s: float = 0.0
    """Real seconds from one series to the next."""

    @property
    def performed_step_uid(self) -> str:
        """SOP Instance UID of the performed procedure step."""
        return derive(self.seed, "performed step")


@dataclass(frozen=True, kw_only=True)
class Series:
    """One series, ready to be sent in this order."""

    name: str
    """``localizer``, ``main``, ``repeated``."""
    images: tuple[Dataset, ...]


def thinned(template: Template, *, every_nth: int, downsample: int) -> Template:
    """Each n-th slice, row and column; spacing and matrix in the headers follow."""
    headers = []
    for header in template.headers[::every_nth]:
        changed = copy.deepcopy(header)
        if "SpacingBetweenSlices" in changed:
            changed.SpacingBetweenSlices = _ds(float(changed.SpacingBetweenSlices) * every_nth)
        for name in ("PixelSpacing", "ImagerPixelSpacing"):
            if name in changed:
                setattr(changed, name, [_ds(float(value) * downsample) for value in changed[name].value])
        headers.append(changed)
    pixels = np.ascontiguousarray(template.pixels[::every_nth, ::downsample, ::downsample])
    for header in headers:
        header.Rows, header.Columns = pixels.shape[1:]
    return Template(template.modality, template.source, tuple(headers), pixels)


def make_study(
    template: Template, request: Request, *, habits: Sequence[str] = (), images: int | None = None
) -> tuple[Series, ...]:
    """The series of a study; ``habits`` are names of ``scenario.Habits``, ``images`` cuts the main series short.

    All UIDs derive from ``request.seed``: the same request makes the same study.
    """
    dice = random.Random(f"{request.seed}|images")  # noqa: S311 - a simulation
    maker = _Maker(template, request, habits, dice)
    indices = range(len(template.headers))[: images or len(template.headers)]
    made = []
    if "localizer" in habits and len(indices) > 2 * LOCALIZER_SLICES:
        middle = len(indices) // 2
        made.append(maker.series("localizer", 1, range(middle - 1, middle - 1 + LOCALIZER_SLICES)))
    if "discontinued" in habits:
        indices = indices[: max(1, len(indices) // 2)]
    made.append(maker.series("main", 2, indices))
    if "repeated_series" in habits:
        made.append(maker.series("repeated", 3, indices))
    return tuple(made)


def wrong_part(template: Template) -> str:
    """What a technologist chose by mistake."""
    return next(part for part in WRONG_PARTS if part != template.body_part)


class _Maker:
    def __init__(self, template: Template, request: Request, habits: Sequence[str], dice: random.Random) -> None:
        self._template = template
        self._request = request
        self._habits = habits
        self._rows, self._columns = dice.randint(-SHIFT_PIXELS, SHIFT_PIXELS), dice.randint(-SHIFT_PIXELS, SHIFT_PIXELS)
        self._couch_mm = dice.uniform(-SHIFT_MM, SHIFT_MM)
        self._syntax = dice.choice(_syntaxes(template)) if "compressed" in habits else ExplicitVRLittleEndian
        self._begins = request.acquired_at
        """When the next series does."""

    def series(self, name: str, number: int, indices: Sequence[int]) -> Series:
        images = tuple(self._image(name, number, place, index) for place, index in enumerate(indices))
        self._begins += timedelta(seconds=len(images) * self._request.image_s + self._request.pause_s)
        return Series(name=name, images=images)

    def _image(self, name: str, number: int, place: int, index: int) -> Dataset:
        request, made = self._request, copy.deepcopy(self._template.headers[index])
        for tag in _OURS:
            if tag in made and tag != 0x00200052:
                del made[tag]
        made.walk(lambda _, element: _map_uid(element, request.seed))
        made.SOPInstanceUID = derive(request.seed, name, str(place))
        made.SeriesInstanceUID = derive(request.seed, name)
        made.StudyInstanceUID = request.study_uid
        if "FrameOfReferenceUID" in made:
            made.FrameOfReferenceUID = derive(request.seed, "frame of reference")
        set_patient(made, request.patient)
        age = age_years(request.patient.birth_date, request.acquired_at.date())
        if age is not None:
            made.PatientAge = f"{age:03d}Y"
        self._timed(made, self._begins + timedelta(seconds=place * request.image_s))
        made.AccessionNumber = "" if "missing_accession" in self._habits else request.accession
        made.StudyID = request.requested_procedure_id[:16]
        made.SeriesNumber, made.InstanceNumber = number, place + 1
        self._told(made, name)
        self._moved(made, index, f"{request.seed}|{name}|{place}")
        return made

    def _timed(self, made: Dataset, moment: datetime) -> None:
        """The image's own moment; the series' and the study's are the same in all their images."""
        set_times(made, moment)
        made.SeriesDate, made.SeriesTime = _date_and_time(self._begins)
        made.StudyDate, made.StudyTime = _date_and_time(self._request.acquired_at)
        made.PerformedProcedureStepStartDate, made.PerformedProcedureStepStartTime = made.StudyDate, made.StudyTime
        if "InstanceCreationDate" in made:
            made.InstanceCreationDate, made.InstanceCreationTime = made.ContentDate, made.ContentTime
        if "AcquisitionDateTime" in made:
            made.AcquisitionDateTime = f"{made.AcquisitionDate}{made.AcquisitionTime}"

    def _told(self, made: Dataset, name: str) -> None:
        """What the order and the habits change of the header."""
        request = self._request
        if name == "localizer":
            made.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            made.SeriesDescription = "Localizer"
        if "wrong_body_part" in self._habits:
            made.BodyPartExamined = wrong_part(self._template)
            if "Laterality" in made:
                del made.Laterality  # that part is not paired
        made.PerformedProcedureStepID = request.requested_procedure_id[:16] or "1"
        if request.performed:
            reference = Dataset()
            reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = MPPS, request.performed_step_uid
            made.ReferencedPerformedProcedureStepSequence = [reference]
        if request.scheduled_step_id:
            step = Dataset()
            step.RequestedProcedureID = request.requested_procedure_id
            step.ScheduledProcedureStepID = request.scheduled_step_id
            step.ScheduledProcedureStepDescription = request.procedure
            made.RequestAttributesSequence = [step]
        if request.procedure:
            made.StudyDescription = request.procedure

    def _moved(self, made: Dataset, index: int, seed: str) -> None:
        """The pixels, shifted and grained, in the transfer syntax of this study; the position along the body."""
        if "ImagePositionPatient" in made:
            x, y, z = (float(value) for value in made.ImagePositionPatient)
            made.ImagePositionPatient = [x, y, round(z + self._couch_mm, 4)]
        if "SliceLocation" in made:
            made.SliceLocation = round(float(made.SliceLocation) + self._couch_mm * _upward(made), 4)
        pixels = shifted(self._template.pixels[index], self._rows, self._columns)
        pixels = grained(pixels, seed, padding=made.get("PixelPaddingValue"))
        made.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
        made["PixelData"].VR = "OB" if int(made.BitsAllocated) == 8 else "OW"
        made.file_meta = FileMetaDataset()
        made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if self._syntax != ExplicitVRLittleEndian:
            with _ONE_AT_A_TIME:
                made.compress(self._syntax, generate_instance_uid=False)


def shifted(image: np.ndarray[Any, Any], rows: int, columns: int) -> np.ndarray[Any, Any]:
    """A slice [rows, columns] moved by whole pixels; what comes in at an edge repeats that edge."""
    size = max(abs(rows), abs(columns))
    if not size:
        return image
    padded = np.pad(image, size, mode="edge")
    height, width = image.shape
    return np.ascontiguousarray(padded[size - rows : size - rows + height, size - columns : size - columns + width])


def grained(image: np.ndarray[Any, Any], seed: str, *, padding: int | None) -> np.ndarray[Any, Any]:
    """A slice whose values are each moved by -1, 0 or 1 stored value, as the noise of another acquisition would.

    There are few shifts; by its grain no image is another's. The darkest and brightest values (air, what is saturated)
    and ``padding`` stay, and no value leaves the range of the slice or becomes padding.
    """
    dice = np.random.default_rng(int.from_bytes(sha256(seed.encode()).digest()[:8]))
    grain = dice.integers(-1, 2, image.shape, dtype=np.int8)
    kept = (image <= image.min()) | (image >= image.max())
    if padding is not None:
        kept |= np.abs(image.astype(np.int64) - int(padding)) <= 1
    grain[kept] = 0
    made: np.ndarray[Any, Any] = (image + grain).astype(image.dtype)
    return made


def _ds(number: float) -> str:
    """A decimal string holds 16 characters (PS3.5 6.2)."""
    return format_number_as_ds(number)


def _syntaxes(template: Template) -> tuple[UID, ...]:
    """What the images can be compressed with: OpenJPEG halves an image five times."""
    small = min(template.pixels.shape[1:]) < JPEG2000_PIXELS_MIN
    return tuple(syntax for syntax in COMPRESSED if not (small and syntax == JPEG2000Lossless))


def age_years(birth_date: str, today: date) -> int | None:
    """Whole years since ``birth_date`` (YYYYMMDD); None where that is no date, as a worklist may say, or to come."""
    try:
        born = datetime.strptime(birth_date, "%Y%m%d").date()  # noqa: DTZ007 - a birth date has no time zone
    except ValueError:
        return None
    if born > today:
        return None
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


def _date_and_time(moment: datetime) -> tuple[str, str]:
    return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f" if moment.microsecond else "%H%M%S")


def _upward(header: Dataset) -> float:
    """How far a slice moves along its own normal for a millimetre of the couch; 1 for an axial one."""
    if "ImageOrientationPatient" not in header:
        return 1.0
    rows_x, rows_y, _, columns_x, columns_y, _ = (float(value) for value in header.ImageOrientationPatient)
    return rows_x * columns_y - rows_y * columns_x


def _map_uid(element: Any, seed: str) -> None:
    """References to other objects of the original point into the made study, each to one place."""
    if element.VR != "UI" or element.is_empty or element.keyword.endswith(("ClassUID", "SyntaxUID", "SchemeUID")):
        return
    values = [element.value] if isinstance(element.value, str) else list(element.value)
    mapped = [old if str(old).startswith("1.2.840.10008.") else derive(seed, str(old)) for old in values]
    element.value = mapped[0] if len(mapped) == 1 else mapped
