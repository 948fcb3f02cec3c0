"""One reading's own words and pictures: its slices with outlines, its structured report, its messages.

All is read from the archive and the ledger, as others get it: what is shown here is what was stored and sent. Slices
and outlines hold no patient data; the messages' are hidden unless asked for, and asking is written down.
Next: outlines.py, viewer.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from pydicom import Dataset, dcmread

from medai.router.console.api import REFUSALS, JobName, ledger_of, now_of
from medai.router.console.auth import Reader, require
from medai.router.console.caches import Shelf
from medai.router.console.looks import looked
from medai.router.console.outlines import frame_bits, outline, rows_of
from medai.router.console.study_responses import Outline, ReportItem, SegmentEntry, Slices
from medai.router.errors import OrthancRefused, PermanentError
from medai.router.hl7.redaction import HIDDEN, hidden
from medai.router.ledger.accounts import Account, Role
from medai.router.orthanc.client import Orthanc
from medai.router.reports import story
from medai.router.reports.story import ReadObjects, SentMessage
from medai.router.words import counted

pictures = APIRouter(prefix="/api", tags=["look"], responses=REFUSALS, dependencies=[Depends(require())])
SliceNumber = Annotated[int, Path(ge=0, le=100_000, description="From 0, in the order of the slices.")]
KEPT = 4
"""So many readings' segmentations stay decoded; a chest CT's takes 20 MB."""
BINARY = "1.2.840.10008.5.1.4.1.1.66.4"
Origin = tuple[str, int]
"""SOP Instance UID and frame number (from 1) of a source image."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One slice of the source: where its pixels are, and how it lies."""

    instance: str
    """Orthanc's id."""
    number: int
    """Frame within the instance, from 1."""
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A reading's source, slice by slice, and its segmentation."""

    frames: tuple[Frame, ...]
    rows: int
    columns: int
    spacing_mm: tuple[float, float]
    """Between rows, between columns."""
    letters: tuple[str, str, str, str]
    """Of the patient's directions at the left, right, top and bottom edge; empty where unknown."""
    windowed: bool
    """Whether the source says how bright it is to be shown."""
    segments: tuple[SegmentEntry, ...]
    packed: bytes = field(repr=False)
    masks: Mapping[tuple[Origin, int], int] = field(repr=False)
    """(source slice, segment number) -> frame of the segmentation, from 0."""


# -- slices


@pictures.get("/readings/{job_id}/slices")
def slices(job_id: JobName, who: Reader, request: Request) -> Slices:
    """The slices that were read, in the order in which they lie, and the segments found on each."""
    found = _pictures(request, job_id, who)
    on: dict[Origin, list[int]] = {}
    for origin, number in sorted(found.masks, key=lambda key: key[1]):
        on.setdefault(origin, []).append(number)
    return Slices(
        rows=found.rows,
        columns=found.columns,
        spacing_mm=found.spacing_mm,
        letters=found.letters,
        segments=found.segments,
        slices=tuple(tuple(on.get(frame.origin, ())) for frame in found.frames),
    )


@pictures.get("/readings/{job_id}/slices/{number}/image", response_class=Response)
def slice_image(job_id: JobName, number: SliceNumber, who: Reader, request: Request) -> Response:
    """A slice as PNG, as the archive draws it."""
    found = _pictures(request, job_id, who)
    frame = _frame(found, number)
    png = _orthanc(request).drawn(frame.instance, frame.number, windowed=found.windowed)
    return Response(png, media_type="image/png", headers={"Cache-Control": "private, max-age=600"})


@pictures.get("/readings/{job_id}/slices/{number}/outlines")
def slice_outlines(job_id: JobName, number: SliceNumber, who: Reader, request: Request) -> list[Outline]:
    """The edge of each segment on a slice, as an SVG path in pixels of the image."""
    found = _pictures(request, job_id, who)
    origin = _frame(found, number).origin
    drawn = []
    for segment in found.segments:
        mask = found.masks.get((origin, segment.number))
        if mask is None:
            continue
        path = outline(rows_of(found.packed, mask, found.rows, found.columns))
        if path:
            drawn.append(Outline(segment=segment.number, path=path))
    return drawn


def _frame(found: Pictures, number: int) -> Frame:
    if number >= len(found.frames):
        raise HTTPException(404, f"the series has {counted(len(found.frames), 'slice')}, counted from 0")
    return found.frames[number]


def _orthanc(request: Request) -> Orthanc:
    orthanc: Orthanc = request.app.state.orthanc
    return orthanc


def _reading(request: Request, job_id: str) -> ReadObjects:
    found = story.read_objects(ledger_of(request), job_id)
    if found is None:
        raise HTTPException(404, "there is no such reading")
    return found


def _object(request: Request, job_id: str, kind: str) -> Dataset:
    """A result object as the archive holds it."""
    made = _reading(request, job_id).results.get(kind)
    if made is None:
        raise HTTPException(404, f"this reading has no {kind.upper()}")
    return dcmread(BytesIO(_there(lambda: _orthanc(request).file(made.orthanc_id), f"its {kind.upper()}")))


def _there(ask: Callable[[], T], what: str) -> T:
    try:
        return ask()
    except OrthancRefused as error:
        if error.status == 404:
            raise HTTPException(404, f"{what} is not in the archive, or no longer") from error
        raise


def _pictures(request: Request, job_id: str, who: Account) -> Pictures:
    """A reading's slices; looking at them is written down."""
    shelf: Shelf[Pictures] = request.app.state.shelf
    looked(request, who, "images", _reading(request, job_id).study_id, job_id)

    def make() -> Pictures:
        orthanc, series = _orthanc(request), _reading(request, job_id).series
        found = _there(lambda: [item for each in series for item in orthanc.instances(each)], "a series that was read")
        return arrange(_object(request, job_id, "seg"), found, orthanc)

    return shelf.get(job_id, make)


def arrange(seg: Dataset, instances: Sequence[Mapping[str, Any]], orthanc: Orthanc) -> Pictures:
    """Find each source slice that the segmentation is about, and order them as they lie in the patient.

    Raises PermanentError for a segmentation that can't be shown here (fractional, label map, compressed).
    """
    if (
        str(seg.SOPClassUID) != BINARY
        or seg.SegmentationType != "BINARY"
        or seg.file_meta.TransferSyntaxUID.is_encapsulated
    ):
        raise PermanentError("only an uncompressed binary segmentation can be shown here: open it in the viewer")
    packed, pixels = bytes(seg.PixelData), int(seg.Rows) * int(seg.Columns)
    masks = {
        key: index
        for index, frame in enumerate(seg.PerFrameFunctionalGroupsSequence)
        if frame_bits(packed, index, pixels)
        for key in _masks(frame, seg.SharedFunctionalGroupsSequence[0])
    }
    known = {str(item["MainDicomTags"]["SOPInstanceUID"]): str(item["ID"]) for item in instances}
    first = next(iter(known.values()), None)
    if first is None:
        raise PermanentError("none of the images that were read is in the archive any more")
    tags = orthanc.tags(first)
    origins = _origins(seg, known, tags)
    shared = seg.SharedFunctionalGroupsSequence[0]
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    plane = shared.get("PlaneOrientationSequence") or seg.PerFrameFunctionalGroupsSequence[0].get(
        "PlaneOrientationSequence"
    )
    direction = [float(v) for v in plane[0].ImageOrientationPatient] if plane else []
    places = _places(seg, direction)
    frames = [
        Frame(instance=known[uid], number=number, origin=(uid, number)) for uid, number in origins if uid in known
    ]
    frames.sort(key=lambda frame: places.get(frame.origin, _place_of(instances, frame, direction)))
    return Pictures(
        frames=tuple(frames), rows=int(seg.Rows), columns=int(seg.Columns), packed=packed, masks=masks,
        spacing_mm=(float(spacing[0]), float(spacing[1])), letters=_letters(direction),
        windowed=bool(tags.get("WindowCenter")), segments=tuple(_segment(item) for item in seg.SegmentSequence),
    )  # fmt: skip


def _masks(frame: Dataset, shared: Dataset) -> Iterator[tuple[Origin, int]]:
    """Which slice and segment a frame of a segmentation is of; the frames of a single segment may share its number."""
    group = frame if "SegmentIdentificationSequence" in frame else shared
    number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
    return ((origin, number) for origin in _sources(frame))


def _sources(frame: Dataset) -> Iterator[Origin]:
    for derivation in frame.get("DerivationImageSequence") or []:
        for source in derivation.get("SourceImageSequence") or []:
            numbers = source.get("ReferencedFrameNumber", 1)
            first = numbers[0] if isinstance(numbers, Sequence) else numbers
            yield str(source.ReferencedSOPInstanceUID), int(first)


def _origins(seg: Dataset, known: Mapping[str, str], tags: Mapping[str, Any]) -> set[Origin]:
    """Every slice of the series: also those on which nothing was found."""
    named = {origin for frame in seg.PerFrameFunctionalGroupsSequence for origin in _sources(frame)}
    many = int(_number(tags.get("NumberOfFrames"), 1))
    return named | {(uid, number) for uid in known for number in range(1, many + 1)}


def _normal(direction: Sequence[float]) -> tuple[float, float, float]:
    a, b = direction[:3], direction[3:]
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def _along(position: Sequence[Any], direction: Sequence[float]) -> float:
    return math.fsum(float(p) * n for p, n in zip(position, _normal(direction), strict=True)) if direction else 0.0


def _places(seg: Dataset, direction: Sequence[float]) -> dict[Origin, float]:
    """Where each slice lies along the normal, in mm."""
    return {
        origin: _along(frame.PlanePositionSequence[0].ImagePositionPatient, direction)
        for frame in seg.PerFrameFunctionalGroupsSequence
        if "PlanePositionSequence" in frame
        for origin in _sources(frame)
    }


def _place_of(instances: Sequence[Mapping[str, Any]], frame: Frame, direction: Sequence[float]) -> float:
    """The same from what Orthanc keeps of an instance; its number where it keeps no position."""
    tags = next(item["MainDicomTags"] for item in instances if item["ID"] == frame.instance)
    position = [_number(part, math.nan) for part in str(tags.get("ImagePositionPatient", "")).split("\\")]
    if len(position) == 3 and not any(map(math.isnan, position)):
        return _along(position, direction)
    return _number(tags.get("InstanceNumber"), 0) + frame.number


def _number(text: object, otherwise: float) -> float:
    """What Orthanc keeps is what the sender wrote: a number of frames may be "ab" or two values."""
    try:
        value = float(str(text))
    except ValueError:
        return otherwise
    return value if math.isfinite(value) else otherwise


def _letters(direction: Sequence[float]) -> tuple[str, str, str, str]:
    """Patient directions at the left, right, top and bottom edge of an image (PS3.3 C.7.6.2.1.1: x to L, y to P)."""
    if not direction:
        return ("", "", "", "")
    right, down = _letter(direction[:3]), _letter(direction[3:])
    return (OPPOSITE[right], right, OPPOSITE[down], down)


OPPOSITE = {"L": "R", "R": "L", "P": "A", "A": "P", "H": "F", "F": "H"}


def _letter(vector: Sequence[float]) -> str:
    axis = max(range(3), key=lambda i: abs(vector[i]))
    return ("LPH" if vector[axis] > 0 else "RAF")[axis]


def _segment(item: Dataset) -> SegmentEntry:
    lab = item.get("RecommendedDisplayCIELabValue")
    return SegmentEntry(
        number=int(item.SegmentNumber),
        name=str(item.SegmentLabel),
        colour=srgb([int(v) for v in lab]) if lab else "#ffcc00",
    )


def srgb(stored: Sequence[int]) -> str:
    """The sRGB colour of a stored CIELab value (PS3.3 C.10.7.1.1; D50, by the sRGB ICC profile's matrix)."""
    lightness = stored[0] / 65535 * 100
    a, b = stored[1] / 65535 * 255 - 128, stored[2] / 65535 * 255 - 128
    f = (lightness + 16) / 116
    x, y, z = (
        white * (v**3 if v > 6 / 29 else 3 * (6 / 29) ** 2 * (v - 4 / 29))
        for white, v in zip((0.96422, 1.0, 0.82521), (f + a / 500, f, f - b / 200), strict=True)
    )
    linear = (
        3.1338561 * x - 1.6168667 * y - 0.4906146 * z,
        -0.9787684 * x + 1.9161415 * y + 0.0334540 * z,
        0.0719453 * x - 0.2289914 * y + 1.4052427 * z,
    )
    shown = (12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055 for v in (max(0.0, v) for v in linear))
    return "#" + "".join(f"{round(255 * min(1.0, v)):02x}" for v in shown)


# -- the report


@pictures.get("/readings/{job_id}/report")
def report(job_id: JobName, who: Reader, request: Request) -> list[ReportItem]:
    """The structured report's content tree (PS3.3 C.17.3), as text."""
    looked(request, who, "report", _reading(request, job_id).study_id, job_id)
    return [_item(item) for item in _object(request, job_id, "sr").ContentSequence]


def _item(item: Dataset) -> ReportItem:
    name = item.get("ConceptNameCodeSequence")
    return ReportItem(
        name=str(name[0].CodeMeaning) if name else "",
        value=_value(item),
        items=tuple(_item(child) for child in item.get("ContentSequence") or []),
    )


def _value(item: Dataset) -> str:
    """A content item's value by its type (PS3.3 table C.17.3-7); an image is told by its class, not by its UID."""
    kind = str(item.get("ValueType", ""))
    if kind == "NUM":
        measured = item.get("MeasuredValueSequence")
        return (
            f"{measured[0].NumericValue} {measured[0].MeasurementUnitsCodeSequence[0].CodeValue}"
            if measured
            else "no value"
        )
    if kind == "CODE":
        return str(item.ConceptCodeSequence[0].CodeMeaning)
    texts = {
        "TEXT": "TextValue",
        "PNAME": "PersonName",
        "DATE": "Date",
        "TIME": "Time",
        "DATETIME": "DateTime",
        "UIDREF": "UID",
    }
    if kind in texts:
        return HIDDEN if kind == "PNAME" else str(item[texts[kind]].value)
    if kind in ("IMAGE", "COMPOSITE"):
        return str(item.ReferencedSOPSequence[0].ReferencedSOPClassUID.name)
    return ""


# -- messages


@pictures.get("/readings/{job_id}/messages")
def messages(
    job_id: JobName,
    request: Request,
    who: Reader,
    whole: Annotated[
        bool, Query(description="With the patient's data; needs the role operator, and is recorded.")
    ] = False,
) -> list[SentMessage]:
    """What was sent to the RIS and to FHIR servers, as it went, and what they said to it."""
    reading = _reading(request, job_id)
    if whole:
        if not who.role.may(Role.OPERATOR):
            raise HTTPException(403, f"this needs the role operator; yours is {who.role.value}")
        study_id = reading.study_id
        ledger_of(request).accounts.note_action(who.name, "message", now_of(request), job_id=job_id, study_id=study_id)
    else:
        looked(request, who, "messages", reading.study_id, job_id)
    sent = story.messages(ledger_of(request), job_id)
    return sent if whole else [each.model_copy(update={"text": hidden(each.text)}) for each in sent]
