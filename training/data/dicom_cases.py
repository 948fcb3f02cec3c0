"""Cases of DICOM studies: an image series with the SEGs and RTSTRUCTs that were drawn on it.

``cases_of`` pairs them by what the label objects refer to (else by the frame of reference), whether they come from a
folder (here) or from an Orthanc (orthanc_cases.py). No patient identifier leaves: patients and cases are named by
hashes. Label texts become label values: by the given list, else in the order of the alphabet. Next: dicom_labels.py.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from medai.models.errors import ModelsError
from medai.models.images.preprocess import series_to_volume
from medai.models.volume import Volume
from medai.training.cases import Case, Dataset, Example, Oddity
from medai.training.data.dicom_labels import Structure, draw, merge, same_text, structures
from medai.training.errors import DataError

PSEUDONYM_KEY = "MEDAI_PSEUDONYM_KEY"
"""Environment variable: a secret of the site, so that nobody who tries all patient numbers finds whose hash it is."""
LABEL_MODALITIES = ("SEG", "RTSTRUCT")
HEADER_TAGS = (
    *("Modality", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "IssuerOfPatientID"),
    *("FrameOfReferenceUID", "Rows"),
)


@dataclass(frozen=True, kw_only=True)
class ImageSeries:
    """A CT, MR, … series. UIDs serve to pair objects and never leave this module."""

    uid: str = field(repr=False)
    study_uid: str = field(repr=False)
    patient_id: str = field(repr=False)
    frame_uid: str = field(repr=False)
    modality: str
    read: Callable[[], list[pydicom.Dataset]] = field(repr=False, hash=False, compare=False)
    """Its images, with pixels."""


@dataclass(frozen=True, kw_only=True)
class LabelObject:
    """A SEG or RTSTRUCT: its header (no pixels), and how to read all of it."""

    header: pydicom.Dataset = field(repr=False, hash=False, compare=False)
    read: Callable[[], pydicom.Dataset] = field(repr=False, hash=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Which structures are wanted, and their values. An empty list: all, in the order of the alphabet."""

    labels: tuple[tuple[int, str], ...] = ()
    """(value, label text); several texts may have one value. Where structures overlap the higher value wins."""
    experts_only: bool = False
    """Leave out what an algorithm drew by itself."""


def cases_of(name: str, images: Sequence[ImageSeries], objects: Sequence[LabelObject], wish: Wish) -> Dataset:
    """The data set that these series and label objects make."""
    by_series: dict[str, list[tuple[LabelObject, tuple[Structure, ...]]]] = defaultdict(list)
    strangers = empty = 0
    wanted_texts = {same_text(label) for _, label in wish.labels}
    for item in objects:
        wanted = _wanted(structures(item.header), wanted_texts, wish)
        series = _series_of(item.header, images)
        if series is None:
            strangers += 1
        elif not wanted:
            empty += 1
        else:
            by_series[series.uid].append((item, wanted))
    values, names = _values(by_series.values(), wish)
    paired = sorted((series for series in images if series.uid in by_series), key=case_name)
    cases = tuple(
        Case(
            name=case_name(series),
            patient=patient_name(series),
            read=partial(_read, series, tuple(by_series[series.uid]), values, priority=bool(wish.labels)),
        )
        for series in paired
    )
    modalities = sorted({series.modality for series in paired})
    return Dataset(
        name=name,
        cases=cases,
        label_names=names,
        modality=modalities[0] if len(modalities) == 1 else "",
        oddities=tuple(_oddities(strangers, empty, len(images) - len(paired))),
    )


def _oddities(strangers: int, empty: int, bare: int) -> Iterable[Oddity]:
    if strangers:
        yield Oddity(text=f"{strangers} SEG or RTSTRUCT left out: the images that they refer to are not here")
    if empty:
        yield Oddity(text=f"{empty} SEG or RTSTRUCT left out: no wanted structure in them")
    if bare:
        yield Oddity(text=f"{bare} image series left out: nobody has drawn labels on them")


def _wanted(found: Sequence[Structure], texts: set[str], wish: Wish) -> tuple[Structure, ...]:
    return tuple(
        one
        for one in found
        if (not texts or same_text(one.label) in texts) and not (wish.experts_only and one.by_machine)
    )


def _values(
    groups: Iterable[Sequence[tuple[LabelObject, tuple[Structure, ...]]]], wish: Wish
) -> tuple[dict[str, int], dict[int, str]]:
    """Value by text, and text by value."""
    if wish.labels:
        first: dict[int, str] = {}
        for value, label in wish.labels:
            first.setdefault(value, label)
        return {same_text(label): value for value, label in wish.labels}, first
    texts: dict[str, str] = {}
    for group in groups:
        for _, wanted in group:
            for one in wanted:
                texts.setdefault(same_text(one.label), one.label)
    if len(texts) > 255:
        raise DataError(f"{len(texts)} different labels; at most 255 fit: list the wanted ones in labels.csv")
    ordered = sorted(texts)
    return {text: value for value, text in enumerate(ordered, 1)}, {v: texts[text] for v, text in enumerate(ordered, 1)}


def _series_of(header: pydicom.Dataset, images: Sequence[ImageSeries]) -> ImageSeries | None:
    by_uid = {series.uid: series for series in images}
    for uid in references(header):
        if uid in by_uid:
            return by_uid[uid]
    frame = str(header.get("FrameOfReferenceUID") or "")
    same_frame = [series for series in images if frame and series.frame_uid == frame]
    return same_frame[0] if len(same_frame) == 1 and not references(header) else None


def references(header: pydicom.Dataset) -> list[str]:
    """The Series Instance UIDs that a SEG or RTSTRUCT refers to."""
    found = [str(item.SeriesInstanceUID) for item in header.get("ReferencedSeriesSequence") or []]
    for frame in header.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            found += [str(item.SeriesInstanceUID) for item in study.get("RTReferencedSeriesSequence") or []]
    return found


def _read(
    series: ImageSeries,
    objects: Sequence[tuple[LabelObject, tuple[Structure, ...]]],
    values: Mapping[str, int],
    *,
    priority: bool,
) -> Example:
    try:
        images = series.read()
        volume = volume_of(images)
        grid = volume.geometry
        drawn = (one for item, wanted in objects for one in draw(item.read(), grid, wanted))
        return Example(
            volume=volume,
            labels=merge(drawn, values, grid.shape, priority=priority),
            manufacturer=str(images[0].get("Manufacturer") or ""),
            device=str(images[0].get("ManufacturerModelName") or ""),
        )
    except (ModelsError, DataError) as error:
        raise DataError(f"case {case_name(series)}: {error}") from error


def volume_of(images: Sequence[pydicom.Dataset]) -> Volume:
    """A series' volume. Raises NotAVolume or UnreadableImage."""
    return series_to_volume(images).volume


@cache
def pseudonym(text: str, length: int = 10) -> str:
    """A name for an identifier that only its owner can find again: scrypt, keyed by MEDAI_PSEUDONYM_KEY."""
    key = os.environ.get(PSEUDONYM_KEY, "").encode() or b"medai-train"
    return hashlib.scrypt(text.encode(), salt=key, n=2**13, r=8, p=1, dklen=16).hex()[:length]


def patient_name(series: ImageSeries) -> str:
    """A hash. Without a Patient ID each study is a patient of its own."""
    return f"p{pseudonym(series.patient_id or series.study_uid)}"


def case_name(series: ImageSeries) -> str:
    """A hash of the patient and of the series."""
    return f"{patient_name(series)}-{pseudonym(series.uid, 8)}"


# --- folders -----------------------------------------------------------------------------------------------------


def read_dicom(path: Path, wish: Wish) -> Dataset:
    """All DICOM files under a folder, however they are sorted into folders. Raises DataError."""
    files: dict[str, list[tuple[Path, pydicom.Dataset]]] = defaultdict(list)
    objects = []
    for file in dicom_files(path):
        header = _header(file)
        if header is None:
            continue
        if header.get("Modality") in LABEL_MODALITIES:
            full = pydicom.dcmread(file, stop_before_pixels=True)
            objects.append(LabelObject(header=full, read=partial(pydicom.dcmread, file)))
        elif "SeriesInstanceUID" in header and "Rows" in header:
            files[str(header.SeriesInstanceUID)].append((file, header))
    images = [image_series(group[0][1], partial(_load, [file for file, _ in group])) for group in files.values()]
    return cases_of(path.resolve().name, images, objects, wish)


def image_series(header: pydicom.Dataset, read: Callable[[], list[pydicom.Dataset]]) -> ImageSeries:
    """By the header of one of its images."""
    issuer, number = str(header.get("IssuerOfPatientID") or ""), str(header.get("PatientID") or "").strip()
    return ImageSeries(
        uid=str(header.SeriesInstanceUID),
        study_uid=str(header.get("StudyInstanceUID") or ""),
        patient_id=f"{issuer}|{number}" if number else "",
        frame_uid=str(header.get("FrameOfReferenceUID") or ""),
        modality=str(header.get("Modality") or ""),
        read=read,
    )


def dicom_files(path: Path) -> Iterable[Path]:
    """Files that begin as DICOM files do, in a fixed order."""
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.name != "DICOMDIR":
            with file.open("rb") as stream:
                stream.seek(128)
                if stream.read(4) == b"DICM":
                    yield file


def _header(file: Path) -> pydicom.Dataset | None:
    try:
        return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(HEADER_TAGS))
    except (InvalidDicomError, OSError, ValueError, KeyError, AttributeError, EOFError) as error:
        raise DataError(f"{file.name} is damaged: it begins as DICOM and cannot be read") from error


def _load(files: Sequence[Path]) -> list[pydicom.Dataset]:
    try:
        return [pydicom.dcmread(file) for file in files]
    except (InvalidDicomError, OSError, ValueError, EOFError) as error:
        raise DataError("an image of the series is damaged or has gone") from error


def read_series_folder(path: Path) -> Volume:
    """A folder with the images of one series."""
    return volume_of(_load(list(dicom_files(path))))
