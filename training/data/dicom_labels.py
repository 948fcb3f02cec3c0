"""Expert labels of DICOM objects on the grid of the images that they were drawn on: SEG and RTSTRUCT.

Each frame of a SEG and each contour of an RTSTRUCT is put on the slice where it lies in the patient; what does not
lie on a slice is an error, nothing is resampled. Texts name slices by their number from 1, never a UID.
Next: dicom_cases.py (which objects belong to which series).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.path import Path as Polygon
from pydicom import Dataset

from medai.models.errors import NotAVolume, UnreadableImage
from medai.models.geometry import Geometry
from medai.models.images.seg_frames import SegFrames
from medai.models.volume import Labels
from medai.training.errors import DataError

TOLERANCE = 0.05
"""How far a SEG's frame may lie off its image, in voxels: decimal strings are rounded."""
CONTOUR_TOLERANCE = 0.2
"""How far a contour's points may lie off their slice, in slice distances."""
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Structure:
    """A segment or region of interest as its header names it. ``number`` is Segment Number or ROI Number."""

    number: int
    label: str
    by_machine: bool
    """Drawn by an algorithm alone (Segment Algorithm Type or ROI Generation Algorithm AUTOMATIC)."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A structure's mask [slice, row, column] on the images' grid."""

    structure: Structure
    mask: Mask = field(repr=False, hash=False, compare=False)


def same_text(label: str) -> str:
    """Labels that differ in case or spaces alone are one label."""
    return " ".join(label.split()).casefold()


def structures(header: Dataset) -> tuple[Structure, ...]:
    """What a SEG or RTSTRUCT says it holds; no pixels are needed."""
    if header.get("Modality") == "RTSTRUCT":
        return tuple(
            Structure(
                number=int(item.ROINumber),
                label=str(item.get("ROIName") or "").strip(),
                by_machine=item.get("ROIGenerationAlgorithm") == "AUTOMATIC",
            )
            for item in header.get("StructureSetROISequence") or []
        )
    return tuple(
        Structure(
            number=int(item.SegmentNumber),
            label=str(item.get("SegmentLabel") or "").strip(),
            by_machine=item.get("SegmentAlgorithmType") == "AUTOMATIC",
        )
        for item in header.get("SegmentSequence") or []
        if int(item.SegmentNumber) > 0  # in a LABELMAP 0 may be described, as background
    )


def draw(dataset: Dataset, geometry: Geometry, wanted: Sequence[Structure]) -> Iterator[Drawn]:
    """The wanted structures of a SEG or RTSTRUCT, one after the other. Raises DataError where they do not fit."""
    if dataset.get("Modality") == "RTSTRUCT":
        yield from _draw_contours(dataset, geometry, wanted)
    else:
        yield from _draw_segments(dataset, geometry, wanted)


def merge(drawn: Iterable[Drawn], values: Mapping[str, int], shape: tuple[int, int, int], *, priority: bool) -> Labels:
    """One label map; ``values`` are by ``same_text`` of the label.

    Structures with the same value are united. Where two values meet, the higher one wins if ``priority`` (somebody
    has put the labels in an order), otherwise DataError is raised.
    """
    merged: Labels = np.zeros(shape, dtype=np.uint8)
    names: dict[int, str] = {}
    for one in drawn:
        value = values[same_text(one.structure.label)]
        names[value] = one.structure.label
        clash = one.mask & (merged != 0) & (merged != value)
        if clash.any() and not priority:
            other = names[int(merged[clash][0])]
            raise DataError(
                f"{other!r} and {one.structure.label!r} overlap in {int(clash.sum())} voxels; one voxel can have one "
                "label: list the labels in labels.csv (value,label), the higher value wins"
            )
        merged[one.mask & (merged < value)] = value
    return merged


# --- SEG ---------------------------------------------------------------------------------------------------------


def _draw_segments(dataset: Dataset, geometry: Geometry, wanted: Sequence[Structure]) -> Iterator[Drawn]:
    seg = SegFrames(dataset)
    try:
        places = _slices_of_frames(dataset, seg, geometry)
        for structure in wanted:
            mask: Mask = np.zeros(geometry.shape, dtype=bool)
            for index, frame in seg.masks(structure.number):
                mask[places[index]] |= frame
            yield Drawn(structure=structure, mask=mask)
    except (NotAVolume, UnreadableImage) as error:
        raise DataError(str(error)) from error


def _slices_of_frames(dataset: Dataset, seg: SegFrames, geometry: Geometry) -> list[int]:
    """The slice (from 0) where each frame lies. Raises DataError for a frame on no slice, or on another grid."""
    frame_uid = str(dataset.get("FrameOfReferenceUID") or "")
    if frame_uid and geometry.frame_of_reference_uid and frame_uid != geometry.frame_of_reference_uid:
        raise DataError("the SEG and its images have different frames of reference")
    _, rows, columns = geometry.shape
    affine = geometry.affine
    to_index = np.linalg.inv(affine)
    found = []
    for number, plane in enumerate(seg.planes, start=1):
        if (plane.rows, plane.columns) != (rows, columns):
            raise DataError(
                f"the SEG's frames are of {plane.rows} x {plane.columns} pixels, its images of {rows} x {columns}: "
                "it was drawn on another grid"
            )
        corners = _corners(plane.position_mm, plane.orientation, plane.spacing_mm, rows, columns)
        index = (to_index[:3, :3] @ corners.T).T + to_index[:3, 3]
        place = round(float(index[0, 2]))
        ideal = np.array([[0, 0, place], [columns - 1, 0, place], [0, rows - 1, place]])
        if np.abs(index - ideal).max() > TOLERANCE or not 0 <= place < geometry.shape[0]:
            raise DataError(f"frame {number} of the SEG lies on no slice of its images: it was drawn on another grid")
        found.append(place)
    return found


def _corners(
    position: Sequence[float], orientation: Sequence[float], spacing: Sequence[float], rows: int, columns: int
) -> npt.NDArray[np.float64]:
    """The first pixel's centre, the last one's of the first row, and the first one's of the last row; LPS mm."""
    first = np.asarray(position, dtype=np.float64)
    along = np.asarray(orientation[:3]) * spacing[0] * (columns - 1)
    down = np.asarray(orientation[3:]) * spacing[1] * (rows - 1)
    return np.stack([first, first + along, first + down])


# --- RTSTRUCT ----------------------------------------------------------------------------------------------------


def _draw_contours(dataset: Dataset, geometry: Geometry, wanted: Sequence[Structure]) -> Iterator[Drawn]:
    contours = {int(item.ReferencedROINumber): item for item in dataset.get("ROIContourSequence") or []}
    to_index = np.linalg.inv(geometry.affine)
    for structure in wanted:
        mask: Mask = np.zeros(geometry.shape, dtype=bool)
        sequence = contours[structure.number].get("ContourSequence") if structure.number in contours else None
        for number, item in enumerate(sequence or [], start=1):
            if item.get("ContourGeometricType") in CLOSED:
                points = _points(item, f"contour {number} of {structure.label!r}")
                index = (to_index[:3, :3] @ points.T).T + to_index[:3, 3]
                _fill(mask, index, f"contour {number} of {structure.label!r}")
        yield Drawn(structure=structure, mask=mask)


def _points(item: Dataset, name: str) -> npt.NDArray[np.float64]:
    """LPS mm [point, 3]."""
    data: Any = item.get("ContourData") or []
    if len(data) < 9 or len(data) % 3:
        raise DataError(f"{name} has no valid points")
    return np.asarray([float(value) for value in data]).reshape(-1, 3)


def _fill(mask: Mask, index: npt.NDArray[np.float64], name: str) -> None:
    """Turn round the pixels whose centre lies in the polygon, so that a contour within another cuts a hole.

    ``index`` is (column, row, slice). Even-odd within one contour, too: keyhole contours keep their hole.
    """
    place = round(float(np.median(index[:, 2])))
    if np.abs(index[:, 2] - place).max() > CONTOUR_TOLERANCE:
        raise DataError(f"{name} lies between slices or across them: it was drawn on another series")
    slices, rows, columns = mask.shape
    if not 0 <= place < slices:
        raise DataError(f"{name} lies outside the images")
    low = np.maximum(np.floor(index[:, :2].min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(index[:, :2].max(axis=0)).astype(int) + 1, [columns, rows])
    if (high <= low).any():
        raise DataError(f"{name} lies outside the images")
    x, y = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
    inside = Polygon(index[:, :2], closed=False).contains_points(np.column_stack([x.ravel(), y.ravel()]))
    mask[place, low[1] : high[1], low[0] : high[0]] ^= inside.reshape(x.shape)
