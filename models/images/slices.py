"""From the headers of a series to one regular grid, or to the reason why there is none.

No pixels here: an image, or a frame of an enhanced object, becomes a ``Plane``; ``arrange`` puts planes in
their order along the slice normal and checks that they make one volume. Texts name an image by its Instance
Number, and a slice by its number from 1 in that order; never by a UID.
Next: decode.py (pixels), preprocess.py (both together).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from medai.models.errors import NotAVolume
from medai.models.geometry import Geometry
from medai.models.images.header import item, items, text, value, whole

MIN_SLICES = 3
ORIENTATION_TOLERANCE = 1e-3
"""Largest difference of direction cosines within a series (about 0.06 degrees)."""
UNIT_TOLERANCE = 1e-3
"""How far direction cosines may be from unit length and from a right angle (rounding in the header)."""
INCREMENT_TOLERANCE = 0.01
"""Increments may differ by 1% of their median ..."""
INCREMENT_TOLERANCE_MM = 0.1
"""... or by 0.1 mm, if that is less than a fifth of it: scanners that round positions to 0.1 mm are regular."""
SAME_PLACE_MM = 0.01
"""Images closer than this are two images of one place."""
SIDEWAYS_TOLERANCE_PIXELS = 0.1
"""How far slices may lie off the line along their normal, in pixels."""

SPACING_MM = (1e-4, 100.0)
"""Distances between pixels that images of a body have, with room on both sides."""
FARTHEST_MM = 1e5
"""Positions lie within so much of the scanner's origin; farther ones are a damaged header."""
LONGEST_MM = 5000.0
"""No volume of a patient reaches farther in any direction. A wrong spacing would make a model's grid of it that fills
any memory."""

Vector = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Where one image lies: LPS millimetres, as in PS3.3 C.7.6.2.

    ``orientation`` holds the direction cosines of the rows (x) and of the columns (y); ``spacing_mm`` is
    (x, y), that is, between columns and between rows.
    """

    name: str
    index: int
    position_mm: Vector
    orientation: Vector
    spacing_mm: Vector
    rows: int
    columns: int
    frame_of_reference_uid: str = ""

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        """Unit vector across the image, right-handed with its rows and columns."""
        cross = np.cross(self.orientation[:3], self.orientation[3:])
        return np.asarray(cross / np.linalg.norm(cross), dtype=np.float64)


def image_name(dataset: Dataset) -> str:
    """How a person finds this image in a viewer."""
    try:
        number = whole(dataset, "InstanceNumber")
    except NotAVolume:
        number = None
    return "an image without Instance Number" if number is None else f"the image with Instance Number {number}"


def plane_of(dataset: Dataset, index: int) -> Plane:
    """The plane of a single-frame image; raises NotAVolume when it has no place in the patient."""
    name = image_name(dataset)
    _require_place(dataset, name)
    return _plane(name, index, dataset, dataset, dataset, dataset)


def planes_of_frames(dataset: Dataset) -> list[Plane]:
    """The planes of an enhanced multi-frame image, by its functional groups (PS3.3 C.7.6.16)."""
    planes = []
    for index in range(frame_count(dataset)):
        name = f"frame {index + 1}"
        position = functional_group(dataset, index, "PlanePositionSequence")
        orientation = functional_group(dataset, index, "PlaneOrientationSequence")
        measures = functional_group(dataset, index, "PixelMeasuresSequence")
        if position is None or orientation is None or measures is None:
            raise NotAVolume(f"{name} of this multi-frame image has no place in the patient")
        planes.append(_plane(name, index, dataset, position, orientation, measures))
    return planes


def frame_count(dataset: Dataset) -> int:
    """Number of frames of an image; 1 where the header is silent."""
    try:
        frames = whole(dataset, "NumberOfFrames") or 1
    except NotAVolume:
        raise NotAVolume(f"{image_name(dataset)} has an unreadable Number of Frames") from None
    if frames < 0:
        raise NotAVolume(f"{image_name(dataset)} has a Number of Frames below zero")
    return frames


def functional_group(dataset: Dataset, frame: int, keyword: str) -> Dataset | None:
    """The item of a functional group for a frame (from 0), from the per-frame or the shared groups."""
    for name, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        groups = item(dataset, name, index)
        found = [] if groups is None else items(groups, keyword)
        if found:
            return found[0]
    return None


def arrange(planes: Sequence[Plane]) -> tuple[list[Plane], Geometry]:
    """Planes in ascending order along their normal, and the grid that they make.

    Raises NotAVolume: fewer than MIN_SLICES, different sizes or orientations, several images at one
    place, gantry tilt, sideways shifts, uneven increments.
    """
    _require_alike(planes)
    if len(planes) < MIN_SLICES:
        raise NotAVolume(f"the series has {_count(len(planes), 'slice')}; a volume needs at least {MIN_SLICES}")
    normal = planes[0].normal
    ordered = sorted(planes, key=lambda plane: (float(np.dot(plane.position_mm, normal)), plane.index))
    positions = np.array([plane.position_mm for plane in ordered])
    offsets_mm = (positions - positions[0]) @ normal
    _require_one_image_per_place(ordered, offsets_mm)
    _require_straight(positions, offsets_mm, normal, ordered[0].spacing_mm)
    _require_even(offsets_mm)
    return ordered, _geometry(ordered, normal, float(offsets_mm[-1]) / (len(ordered) - 1))


def _geometry(ordered: Sequence[Plane], normal: npt.NDArray[np.float64], increment_mm: float) -> Geometry:
    first = ordered[0]
    axes: Any = (first.orientation[:3], first.orientation[3:], normal)
    x, y, z = first.position_mm
    return Geometry(
        origin_mm=(x, y, z),
        direction=tuple(np.column_stack(axes).ravel().tolist()),
        spacing_mm=(first.spacing_mm[0], first.spacing_mm[1], round(increment_mm, 9)),
        shape=(len(ordered), first.rows, first.columns),
        frame_of_reference_uid=first.frame_of_reference_uid,
    )


def _require_place(dataset: Dataset, name: str) -> None:
    if "Rows" not in dataset or "Columns" not in dataset:
        raise NotAVolume(f"{name} is not an image: it has no rows and columns")
    image_type = [str(word).upper() for word in _words(value(dataset, "ImageType"))]
    if "LOCALIZER" in image_type:
        raise NotAVolume(f"{name} is a localizer (scout) image, not a slice of a volume")
    if not value(dataset, "ImagePositionPatient") or not value(dataset, "ImageOrientationPatient"):
        kind = "secondary capture" if text(dataset, "Modality") == "OT" or "SECONDARY" in image_type else "image"
        raise NotAVolume(
            f"{name} is {'a ' if kind != 'image' else 'an '}{kind} without position and orientation in the patient "
            "(as screenshots, summaries and ultrasound are): it cannot be part of a volume"
        )


def _words(found: Any) -> list[Any]:
    if found is None or isinstance(found, str):
        return [found] if found else []
    return list(found) if isinstance(found, Sequence) else [found]


def _plane(name: str, index: int, image: Dataset, position: Dataset, orientation: Dataset, spacing: Dataset) -> Plane:
    row_spacing_mm, column_spacing_mm = _numbers(spacing, "PixelSpacing", 2, name, "Pixel Spacing")
    least_mm, most_mm = SPACING_MM
    if not least_mm <= min(row_spacing_mm, column_spacing_mm) <= max(row_spacing_mm, column_spacing_mm) <= most_mm:
        raise NotAVolume(f"{name} has a Pixel Spacing of {row_spacing_mm:g} x {column_spacing_mm:g} mm")
    plane = Plane(
        name=name,
        index=index,
        position_mm=_numbers(position, "ImagePositionPatient", 3, name, "Image Position"),
        orientation=_numbers(orientation, "ImageOrientationPatient", 6, name, "Image Orientation"),
        spacing_mm=(column_spacing_mm, row_spacing_mm),
        rows=int(_numbers(image, "Rows", 1, name, "number of rows")[0]),
        columns=int(_numbers(image, "Columns", 1, name, "number of columns")[0]),
        frame_of_reference_uid=text(image, "FrameOfReferenceUID"),
    )
    _require_valid(plane)
    return plane


def _numbers(dataset: Dataset, keyword: str, count: int, name: str, words: str) -> Vector:
    try:
        found = value(dataset, keyword)
        several = found.split("\\") if isinstance(found, str) else found  # text, where the file names another VR
        numbers = [float(part) for part in (several if count > 1 else [found])]
    except (NotAVolume, TypeError, ValueError, OverflowError):
        raise NotAVolume(f"{name} has no readable {words}") from None
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise NotAVolume(f"{name} has no valid {words}")
    return tuple(numbers)


def _require_valid(plane: Plane) -> None:
    if max(abs(place) for place in plane.position_mm) > FARTHEST_MM:
        raise NotAVolume(f"{plane.name} has an Image Position {FARTHEST_MM / 1000:g} m or more from the origin")
    if plane.rows < 2 or plane.columns < 2:
        raise NotAVolume(f"{plane.name} has {plane.rows} x {plane.columns} pixels")
    x, y = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    faults = abs(x @ x - 1), abs(y @ y - 1), abs(x @ y)
    if max(faults) > UNIT_TOLERANCE:
        raise NotAVolume(f"{plane.name} has an invalid Image Orientation: its axes are not at right angles")


def _require_alike(planes: Sequence[Plane]) -> None:
    first = planes[0]
    sizes = Counter(f"{plane.rows} x {plane.columns}" for plane in planes)
    if len(sizes) > 1:
        raise NotAVolume(f"the images have different sizes: {_tally(sizes)} rows x columns")
    if any(_differ(plane.orientation, first.orientation) > ORIENTATION_TOLERANCE for plane in planes):
        planes_of_view = Counter(_view(plane) for plane in planes)
        detail = f" ({_tally(planes_of_view)})" if len(planes_of_view) > 1 else ""
        raise NotAVolume(f"the images have different orientations{detail}: they are not parallel slices")
    if any(_differ(plane.spacing_mm, first.spacing_mm) > 1e-4 * first.spacing_mm[0] for plane in planes):
        spacings = Counter(f"{plane.spacing_mm[1]:g} x {plane.spacing_mm[0]:g} mm" for plane in planes)
        raise NotAVolume(f"the images have different pixel spacings: {_tally(spacings)}")
    frames = {plane.frame_of_reference_uid for plane in planes}
    if len(frames) > 1:
        raise NotAVolume(f"the images belong to {len(frames)} frames of reference: the patient may have moved")


def require_reach(geometry: Geometry) -> None:
    """Raise NotAVolume for a grid longer than LONGEST_MM."""
    reach_mm = max(count * step for count, step in zip(geometry.shape[::-1], geometry.spacing_mm, strict=True))
    if reach_mm > LONGEST_MM:
        raise NotAVolume(
            f"the volume would be {reach_mm / 1000:.3g} m long: are its Pixel Spacing and positions in mm?"
        )


def _differ(a: Vector, b: Vector) -> float:
    return max(abs(p - q) for p, q in zip(a, b, strict=True))


def _view(plane: Plane) -> str:
    return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(plane.normal)))]


def _tally(counts: Counter[str]) -> str:
    return ", ".join(f"{text} ({_count(number, 'image')})" for text, number in counts.most_common(4))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _require_one_image_per_place(ordered: Sequence[Plane], offsets_mm: npt.NDArray[np.float64]) -> None:
    same = np.diff(offsets_mm) < SAME_PLACE_MM
    if not same.any():
        return
    places = len(ordered) - int(same.sum())
    if places == 1:
        raise NotAVolume(f"all {len(ordered)} images lie at the same place (repeated or monitored): not a volume")
    at = int(np.argmax(same))
    raise NotAVolume(
        f"{ordered[at].name} and {ordered[at + 1].name} lie at the same place: {len(ordered)} images at {places} "
        "places. The series seems to hold several phases, echoes or repeats; each must be a series of its own"
    )


def _require_straight(
    positions: npt.NDArray[np.float64],
    offsets_mm: npt.NDArray[np.float64],
    normal: npt.NDArray[np.float64],
    spacing_mm: Vector,
) -> None:
    sideways = positions - positions[0] - np.outer(offsets_mm, normal)
    sideways_mm = np.linalg.norm(sideways, axis=1)
    limit_mm = SIDEWAYS_TOLERANCE_PIXELS * min(spacing_mm)
    if sideways_mm.max() <= limit_mm:
        return
    drift = sideways[-1] / offsets_mm[-1]
    if np.linalg.norm(sideways - np.outer(offsets_mm, drift), axis=1).max() <= limit_mm:
        angle = math.degrees(math.atan(float(np.linalg.norm(drift))))
        raise NotAVolume(f"gantry tilt: each slice is shifted against the last ({angle:.1f} degrees)")
    worst = int(np.argmax(sideways_mm))
    raise NotAVolume(f"slice {worst + 1} is shifted sideways by {sideways_mm[worst]:.1f} mm against slice 1")


def _require_even(offsets_mm: npt.NDArray[np.float64]) -> None:
    increments_mm = np.diff(offsets_mm)
    usual_mm = float(np.median(increments_mm))
    limit_mm = max(INCREMENT_TOLERANCE * usual_mm, min(INCREMENT_TOLERANCE_MM, 0.2 * usual_mm)) + 1e-6
    odd = np.flatnonzero(np.abs(increments_mm - usual_mm) > limit_mm)
    if odd.size:
        at = int(odd[0])
        more = f" ({_count(odd.size - 1, 'more gap')} out of step)" if odd.size > 1 else ""
        raise NotAVolume(
            f"slices {at + 1} and {at + 2} are {increments_mm[at]:.4g} mm apart, the others {usual_mm:.4g} mm{more}: "
            "an image may be missing"
        )
    ideal_mm = np.linspace(0, offsets_mm[-1], len(offsets_mm))
    worst = int(np.argmax(np.abs(offsets_mm - ideal_mm)))
    if abs(offsets_mm[worst] - ideal_mm[worst]) > limit_mm:
        raise NotAVolume(
            f"the distance between slices changes along the series: from {increments_mm.min():.4g} "
            f"to {increments_mm.max():.4g} mm; slice {worst + 1} is the farthest from a regular grid"
        )
