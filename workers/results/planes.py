"""Cuts through a volume as a radiologist looks at them: axial, coronal, sagittal in patient axes, to scale.

Each pixel's point in the patient (LPS, mm) is computed and the volume is read there by trilinear interpolation, so
orientation, obliquity and unequal spacing need no special case. Next: drawing.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medai.models.geometry import Geometry
from medai.models.volume import Labels, Voxels

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Vector = tuple[float, float, float]
MIN_FIELD_MM = 60.0
"""A small lesion is shown with at least this much around it."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A direction of looking: unit vectors (LPS) to the right and down the picture, and the letters at its edges."""

    name: str
    right: Vector
    down: Vector
    letters: tuple[str, str, str, str]
    """Left, right, top and bottom edge."""
    axis: int
    """The patient axis (0 L, 1 P, 2 H) that the plane is perpendicular to."""


AXIAL = View(name="Axial", right=(1, 0, 0), down=(0, 1, 0), letters=("R", "L", "A", "P"), axis=2)
CORONAL = View(name="Coronal", right=(1, 0, 0), down=(0, 0, -1), letters=("R", "L", "H", "F"), axis=1)
SAGITTAL = View(name="Sagittal", right=(0, 1, 0), down=(0, 0, -1), letters=("A", "P", "H", "F"), axis=0)
VIEWS = (AXIAL, CORONAL, SAGITTAL)
"""As viewed radiologically: patient's right on the image's left, head up, anterior left."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One plane of ``size`` x ``size`` pixels of ``pixel_mm``; ``grey`` is NaN outside the volume.

    ``coverage[n]`` is how much of each pixel (0 to 1) segment n takes.
    """

    view: View
    grey: Array
    coverage: dict[int, Array]
    pixel_mm: float
    position_mm: float
    """Of the plane along its axis, LPS."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """What all cuts show: a cube of ``side_mm`` around ``centre_mm``, cut at ``through_mm`` (all LPS)."""

    centre_mm: Array
    through_mm: Array
    side_mm: float


def find_field(labels: Labels, geometry: Geometry) -> Field:
    """Planes through where the segmentation is largest along each axis; the field holds it and its surroundings."""
    through, low, high = _extent(labels)
    box = _corners(geometry, np.zeros(3), np.asarray(geometry.shape[::-1]) - 1.0)
    mask = _corners(geometry, low, high)
    volume_min, volume_max = box.min(axis=0), box.max(axis=0)
    margin = np.maximum(0.5 * (mask.max(axis=0) - mask.min(axis=0)), MIN_FIELD_MM / 2)
    shown_min = np.maximum(mask.min(axis=0) - margin, volume_min)
    shown_max = np.minimum(mask.max(axis=0) + margin, volume_max)
    return Field(
        centre_mm=(shown_min + shown_max) / 2,
        through_mm=geometry.affine[:3, :3] @ through + geometry.affine[:3, 3],
        side_mm=float((shown_max - shown_min).max()) * 1.02,
    )


def cut(voxels: Voxels, labels: Labels, geometry: Geometry, field: Field, view: View, size: int) -> Cut:
    """Read one plane; ``size`` is its width and height in pixels.

    A point up to half a voxel outside the outermost centres is inside the volume still.
    """
    pixel_mm = field.side_mm / size
    centre = field.centre_mm.copy()
    centre[view.axis] = field.through_mm[view.axis]
    steps = (np.arange(size) - (size - 1) / 2) * pixel_mm
    right, down = np.asarray(view.right, dtype=float), np.asarray(view.down, dtype=float)
    points = centre + steps[None, :, None] * right + steps[:, None, None] * down
    index = (points - geometry.affine[:3, 3]) @ np.linalg.inv(geometry.affine[:3, :3]).T
    inside = np.all((index >= -0.5) & (index <= np.asarray(geometry.shape[::-1]) - 0.5), axis=-1)
    values, covered = np.zeros(np.count_nonzero(inside)), dict[int, Array]()
    for place, weight in _neighbours(index[inside], geometry.shape):
        values += weight * np.take(voxels, place)
        near = np.take(labels, place)
        for number in np.flatnonzero(np.bincount(near, minlength=1)):
            if number:
                part = covered.setdefault(int(number), np.zeros(len(values)))
                part += weight * (near == number)
    grey = np.full((size, size), np.nan)
    grey[inside] = values
    coverage = {label: np.zeros((size, size)) for label in covered}
    for label, part in covered.items():
        coverage[label][inside] = part
    return Cut(view=view, grey=grey, coverage=coverage, pixel_mm=pixel_mm, position_mm=float(centre[view.axis]))


def _extent(labels: Labels) -> tuple[Array, Array, Array]:
    """Index (column, row, slice) of the largest section along each axis, and the mask's bounding box."""
    areas = _areas(labels)
    shape = np.asarray(labels.shape[::-1], dtype=float)
    if not areas[0].any():
        return (shape - 1) // 2, np.zeros(3), shape - 1
    present = [np.flatnonzero(area) for area in areas]
    through = np.array([_widest(area) for area in areas], dtype=float)
    return (
        through,
        np.array([indices[0] for indices in present], dtype=float),
        np.array([indices[-1] for indices in present], dtype=float),
    )


def _areas(labels: Labels) -> list[npt.NDArray[np.int64]]:
    """Labelled voxels in each column, row and slice plane; slice by slice, to spare memory."""
    slices, rows, columns = labels.shape
    in_column, in_row = np.zeros(columns, dtype=np.int64), np.zeros(rows, dtype=np.int64)
    in_slice = np.zeros(slices, dtype=np.int64)
    for index, plane in enumerate(labels):
        mask = plane > 0
        in_column += mask.sum(axis=0)
        in_row += mask.sum(axis=1)
        in_slice[index] = np.count_nonzero(mask)
    return [in_column, in_row, in_slice]


def _widest(area: npt.NDArray[np.int64]) -> int:
    """The middle of the run of planes that hold the largest section (a box has many)."""
    best = np.flatnonzero(area == area.max())
    return int(best[len(best) // 2])


def _corners(geometry: Geometry, low: Array, high: Array) -> Array:
    index = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    return np.asarray(index @ geometry.affine[:3, :3].T + geometry.affine[:3, 3])


def _neighbours(index: Array, shape: tuple[int, int, int]) -> Iterator[tuple[Indices, Array]]:
    """The eight voxels around each point [n, (column, row, slice)], as places in the volume, with trilinear weights."""
    axes = []
    stride = 1
    for axis, length in enumerate(reversed(shape)):
        held = np.clip(index[..., axis], 0, length - 1)
        low = np.minimum(held.astype(np.intp), max(length - 2, 0))
        part = held - low
        axes.append(((low * stride, 1 - part), (np.minimum(low + 1, length - 1) * stride, part)))
        stride *= length
    for (z, z_part), (y, y_part), (x, x_part) in itertools.product(*reversed(axes)):
        yield z + y + x, z_part * y_part * x_part
