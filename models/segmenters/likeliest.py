"""From the probabilities on a network's grid to labels on a finer one: each voxel takes its likeliest class.

Probabilities are interpolated, not labels, so that contours are smooth. Each class is looked at in its own box alone,
a few slices at a time; where the two grids are parallel (all but a crop that is turned like a head), axis by axis.
Next: feed.py (who asks), images/boxes.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from medai.models.errors import GeometryMismatch
from medai.models.geometry import Geometry
from medai.models.images.boxes import Box, bounding_box, part_of, same_box
from medai.models.images.preprocess import resample_onto
from medai.models.volume import Labels, Voxels

CHANCE = 0.05
"""A class whose probability stays below this cannot win."""
MARGIN = 2
"""Voxels around where a class has a chance: interpolation reaches one further."""
SLICES = 16
"""Of the finer grid that are made at once: they stay in the processor's cache."""
PARALLEL = 1e-3
"""Voxels by which a line of one grid may leave a line of the other, from end to end."""


def winners(probabilities: Voxels) -> Labels:
    """The class of the highest probability on the network's own grid; the first of equal ones."""
    labels, most = np.zeros(probabilities.shape[1:], dtype=np.uint8), probabilities[0].copy()
    for number, one in enumerate(probabilities[1:], start=1):
        np.copyto(labels, np.uint8(number), where=one > most)
        np.maximum(most, one, out=most)
    return labels


def likeliest(probabilities: Voxels, from_geometry: Geometry, to_geometry: Geometry) -> Labels:
    """The class of the highest probability on another grid; ``probabilities`` are [class, slice, row, column].

    Background (class 0) is what no class exceeds, what lies beyond their grid, and what lies far from any chance.
    """
    if from_geometry.frame_of_reference_uid != to_geometry.frame_of_reference_uid:
        raise GeometryMismatch("probabilities cannot be moved to another frame of reference")
    labels = np.zeros(to_geometry.shape, dtype=np.uint8)
    boxes = {number: bounding_box(one > CHANCE, MARGIN) for number, one in enumerate(probabilities) if number}
    boxes = {number: box for number, box in boxes.items() if box[0].stop}
    if not boxes:
        return labels
    places = _places(from_geometry, to_geometry)
    if places is None:
        _turned(labels, probabilities, boxes.values(), from_geometry, to_geometry)
        return labels
    parts = [_Part.of(probabilities[number], number, box, places) for number, box in boxes.items()]
    background = _Part.of(probabilities[0], 0, _around(list(boxes.values())), places)
    for slices in _few(background.there[0]):
        _draw(labels, slices, background, parts)
    return labels


Places = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Along each array axis: where each voxel of the finer grid lies among those of the network's."""


def _places(from_geometry: Geometry, to_geometry: Geometry) -> Places | None:
    """None where the grids are turned against each other."""
    matrix = np.linalg.inv(from_geometry.affine) @ to_geometry.affine
    x, y, z = (np.arange(n, dtype=np.float64) for n in to_geometry.shape[::-1])
    steps = np.diag(matrix[:3, :3])
    astray = np.abs(matrix[:3, :3] - np.diag(steps)) @ np.asarray(to_geometry.shape[::-1])
    if astray.max() > PARALLEL:
        return None
    shift = matrix[:3, 3]
    return steps[2] * z + shift[2], steps[1] * y + shift[1], steps[0] * x + shift[0]


def _around(boxes: Sequence[Box]) -> Box:
    z, y, x = (slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes)) for axis in range(3))
    return z, y, x


def _few(whole: slice) -> Iterator[slice]:
    for first in range(whole.start, whole.stop, SLICES):
        yield slice(first, min(first + SLICES, whole.stop))


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One class in its box, and what it takes to look at it on the finer grid."""

    number: int
    values: Voxels = field(repr=False)
    """[slice, row, column] of the network's grid, in the box."""
    there: Box
    """The box on the finer grid."""
    slices: _Taps
    rows: _Taps
    columns: Voxels = field(repr=False)
    """[column of the box, column of the finer grid]: a matrix that interpolates."""

    @classmethod
    def of(cls, probabilities: Voxels, number: int, box: Box, places: Places) -> _Part:
        there, taps = [], []
        for side, positions in zip(box, places, strict=True):
            inside = np.flatnonzero((positions >= side.start - 0.5) & (positions <= side.stop - 0.5))
            first, behind = (int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, 0)
            there.append(slice(first, behind))
            taps.append(_Taps.of(positions[first:behind] - side.start, side.stop - side.start))
        slices, rows, columns = taps
        return cls(
            number=number,
            values=probabilities[box],
            there=(there[0], there[1], there[2]),
            slices=slices,
            rows=rows,
            columns=columns.matrix(box[2].stop - box[2].start),
        )

    def look(self, chosen: slice) -> Iterator[tuple[int, Voxels]]:
        """The class on some slices of the finer grid: (slice, values [row, column] of its box)."""
        z = self.there[0]
        first, behind = max(chosen.start, z.start) - z.start, min(chosen.stop, z.stop) - z.start
        if first >= behind:
            return
        low, high = self.slices.low[first:behind], self.slices.high[first:behind]
        start, stop = int(min(low.min(), high.min())), int(max(low.max(), high.max())) + 1
        wide = self.values[start:stop] @ self.columns
        for index in range(first, behind):
            share = self.slices.share[index]
            below, above = wide[self.slices.low[index] - start], wide[self.slices.high[index] - start]
            yield z.start + index, self.rows.of_rows(below + share * (above - below))


@dataclass(frozen=True, kw_only=True)
class _Taps:
    """Which two voxels each position lies between, and how near to the second."""

    low: npt.NDArray[np.intp] = field(repr=False)
    high: npt.NDArray[np.intp] = field(repr=False)
    share: npt.NDArray[np.float32] = field(repr=False)

    @classmethod
    def of(cls, positions: npt.NDArray[np.float64], count: int) -> _Taps:
        """Positions among ``count`` voxels; beyond the first and the last, these."""
        held = np.clip(positions, 0, count - 1)
        low = np.minimum(held.astype(np.intp), max(0, count - 2))
        return cls(low=low, high=np.minimum(low + 1, count - 1), share=(held - low).astype(np.float32))

    def matrix(self, count: int) -> Voxels:
        """[voxel, position], float32."""
        found = np.zeros((count, len(self.low)), dtype=np.float32)
        positions = np.arange(len(self.low))
        found[self.low, positions] = 1 - self.share
        found[self.high, positions] += self.share
        return found

    def of_rows(self, plane: Voxels) -> Voxels:
        """A plane [row, column] with a row for each position."""
        below = plane[self.low]
        change = plane[self.high]
        change -= below
        change *= self.share[:, None]
        change += below
        return change


def _draw(labels: Labels, slices: slice, background: _Part, parts: Sequence[_Part]) -> None:
    """The winners on some slices of the finer grid."""
    _, top, left = (side.start for side in background.there)
    best = dict(background.look(slices))
    for part in parts:
        rows, columns = part.there[1:]
        inside = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        for index, here in part.look(slices):
            most = best[index][inside]
            np.copyto(labels[index, rows, columns], np.uint8(part.number), where=here > most)
            np.maximum(most, here, out=most)


def _turned(
    labels: Labels, probabilities: Voxels, boxes: Iterable[Box], from_geometry: Geometry, to_geometry: Geometry
) -> None:
    """The winners on a grid that is turned against the network's."""
    chance = _around(list(boxes))
    box, part = same_box(chance, from_geometry, to_geometry)
    if 0 in part.shape:
        return
    source = part_of(from_geometry, chance)
    best = np.full(part.shape, -1.0, dtype=np.float32)
    for number, one in enumerate(probabilities):
        here = resample_onto(one[chance], source, part)
        np.copyto(labels[box], np.uint8(number), where=here > best)
        np.maximum(best, here, out=best)
