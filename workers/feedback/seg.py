"""A reader's SEG beside ours: structure by structure, how much of the one lies in the other.

Frames are unpacked one at a time and counted where they lie in the patient, so that memory is bounded by two frames
(and by ``BOX_LIMIT`` for the surfaces). Nothing is resampled: a SEG on another grid is refused with the reason.
Segments are matched by Segmented Property Type with its modifiers, else by label. Next: sr.py, runner.py.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.sr.coding import Code
from scipy import ndimage

from medai.models.errors import GeometryMismatch, NotAVolume
from medai.models.images.header import items, text
from medai.models.images.seg_frames import Mask, SegFrames
from medai.models.images.slices import functional_group
from medai.router.ledger.edits import Compared

TOLERANCE = 0.05
"""How far a frame may lie off our grid, in voxels: decimal strings are rounded."""
BOX_LIMIT = 8_000_000
"""Voxels of the box round both masks up to which surfaces are measured; distances take some 30 bytes each."""
ADDED_LIMIT = 100
"""Structures of the reader's alone that are kept."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A segment as its header names it."""

    number: int
    label: str
    type: Code
    modifiers: tuple[Code, ...]
    by_machine: bool

    def same_code(self, other: Labelled) -> bool:
        """The same structure by its codes; SRT and SNOMED CT are one."""
        if self.type != other.type or len(self.modifiers) != len(other.modifiers):
            return False
        return all(any(one == two for two in other.modifiers) for one in self.modifiers)

    def same_label(self, other: Labelled) -> bool:
        """Case and spaces do not matter."""
        return bool(folded(self.label)) and folded(self.label) == folded(other.label)


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Which of our segments answers to which of the reader's."""

    pairs: tuple[tuple[Labelled, Labelled], ...]
    removed: tuple[Labelled, ...]
    added: tuple[Labelled, ...]


def folded(label: str) -> str:
    """Labels that differ in case or spaces alone are one label."""
    return " ".join(label.split()).casefold()


def segments_of(seg: Dataset) -> tuple[Labelled, ...]:
    """What a SEG says it holds; no pixels are needed. Raises NotAVolume for a header that can't be read."""
    return tuple(
        Labelled(
            number=int(item.SegmentNumber),
            label=text(item, "SegmentLabel").strip(),
            type=codes(item, "SegmentedPropertyTypeCodeSequence")[0],
            modifiers=_modifiers(item),
            by_machine=text(item, "SegmentAlgorithmType") == "AUTOMATIC",
        )
        for item in items(seg, "SegmentSequence")
        if int(item.SegmentNumber) > 0  # in a LABELMAP 0 may be described, as background
    )


def _modifiers(item: Dataset) -> tuple[Code, ...]:
    kind = items(item, "SegmentedPropertyTypeCodeSequence")
    return codes(kind[0], "SegmentedPropertyTypeModifierCodeSequence", some=False) if kind else ()


def codes(item: Dataset, keyword: str, *, some: bool = True) -> tuple[Code, ...]:
    """The codes of a sequence; ``some``: an empty code where there is none."""
    found = tuple(
        Code(text(each, "CodeValue") or text(each, "LongCodeValue"), text(each, "CodingSchemeDesignator"), "")
        for each in items(item, keyword)
    )
    return found or ((Code("", "", ""),) if some else ())


def match(ours: Sequence[Labelled], theirs: Sequence[Labelled]) -> Matching:
    """By code where that tells one from the others, else by label; each segment at most once."""
    pairs: list[tuple[Labelled, Labelled]] = []
    rules: tuple[Callable[[Labelled, Labelled], bool], ...] = (
        lambda one, two: one.same_code(two) and one.same_label(two),
        lambda one, two: bool(one.type.value) and one.same_code(two),
        lambda one, two: one.same_label(two),
    )
    left, right = list(ours), list(theirs)
    while found := next((new for rule in rules if (new := _sure(rule, left, right))), []):
        pairs += found
        left = [one for one in left if all(one is not pair[0] for pair in found)]
        right = [two for two in right if all(two is not pair[1] for pair in found)]
    pairs.sort(key=lambda pair: pair[0].number)
    return Matching(pairs=tuple(pairs), removed=tuple(left), added=tuple(right[:ADDED_LIMIT]))


def _sure(
    rule: Callable[[Labelled, Labelled], bool], left: Sequence[Labelled], right: Sequence[Labelled]
) -> list[tuple[Labelled, Labelled]]:
    """The pairs of which each side fits no other."""
    fits = [(one, two) for one in left for two in right if rule(one, two)]
    times = Counter(id(each) for pair in fits for each in pair)
    return [(one, two) for one, two in fits if times[id(one)] == times[id(two)] == 1]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Where our frames lie: slices are counted from the first frame, in both directions. LPS mm."""

    to_index: npt.NDArray[np.float64] = field(repr=False)
    spacing_mm: tuple[float, float, float]
    """(x, y, z)."""
    rows: int
    columns: int
    frame_of_reference_uid: str = field(repr=False)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel."""
        return float(np.prod(self.spacing_mm)) / 1000.0


def grid_of(seg: Dataset, frames: SegFrames) -> Grid:
    """The grid of our own SEG, whose frames all lie on one."""
    first = frames.planes[0]
    along, down, across = np.asarray(first.orientation[:3]), np.asarray(first.orientation[3:]), first.normal
    offsets = sorted({round(float(np.dot(plane.position_mm, across)), 4) for plane in frames.planes})
    measures = functional_group(seg, 0, "PixelMeasuresSequence")
    stated = float((measures.get("SpacingBetweenSlices") or 0) if measures is not None else 0)
    spacing_z = stated or min(np.diff(offsets), default=0.0)
    if spacing_z <= 0:
        raise NotAVolume("our own SEG does not say how far its slices lie apart")
    affine: npt.NDArray[np.float64] = np.eye(4)
    affine[:3, 0], affine[:3, 1] = along * first.spacing_mm[0], down * first.spacing_mm[1]
    affine[:3, 2], affine[:3, 3] = across * spacing_z, first.position_mm
    return Grid(
        to_index=np.asarray(np.linalg.inv(affine), dtype=np.float64),
        spacing_mm=(float(first.spacing_mm[0]), float(first.spacing_mm[1]), float(spacing_z)),
        rows=first.rows,
        columns=first.columns,
        frame_of_reference_uid=str(seg.get("FrameOfReferenceUID") or ""),
    )


class Placed:
    """A SEG whose every frame lies on a slice of a grid; raises GeometryMismatch where one does not."""

    def __init__(self, seg: Dataset, grid: Grid) -> None:
        self.frames = SegFrames(seg)
        frame_uid = str(seg.get("FrameOfReferenceUID") or "")
        if frame_uid != grid.frame_of_reference_uid:
            raise GeometryMismatch("the reader's SEG and ours have different frames of reference")
        self._grid = grid

    @cached_property
    def places(self) -> list[int]:
        """The slice of each frame."""
        return [self._place(number) for number in range(len(self.frames.planes))]

    def _place(self, number: int) -> int:
        plane, grid = self.frames.planes[number], self._grid
        if (plane.rows, plane.columns) != (grid.rows, grid.columns):
            raise GeometryMismatch(
                f"the reader's SEG has frames of {plane.rows} x {plane.columns} pixels, ours of "
                f"{grid.rows} x {grid.columns}: it was drawn on another grid"
            )
        first = np.asarray(plane.position_mm, dtype=np.float64)
        along = np.asarray(plane.orientation[:3]) * plane.spacing_mm[0] * (grid.columns - 1)
        down = np.asarray(plane.orientation[3:]) * plane.spacing_mm[1] * (grid.rows - 1)
        corners = np.column_stack([np.stack([first, first + along, first + down]), np.ones(3)])
        index = (grid.to_index @ corners.T).T[:, :3]
        place = round(float(index[0, 2]))
        ideal = np.array([[0, 0, place], [grid.columns - 1, 0, place], [0, grid.rows - 1, place]])
        if np.abs(index - ideal).max() > TOLERANCE:
            raise GeometryMismatch(
                f"frame {number + 1} of the reader's SEG lies on no slice of ours: it was drawn on another grid"
            )
        return place

    def slices(self, segment: int) -> dict[int, list[int]]:
        """Slice -> the frames that may hold a segment there."""
        found: dict[int, list[int]] = defaultdict(list)
        for index in self.frames.frames_of(segment):
            found[self.places[index]].append(index)
        return found

    def mask(self, indexes: Sequence[int], segment: int) -> Mask:
        """A segment on one slice; nothing where no frame shows it."""
        mask: Mask = np.zeros((self._grid.rows, self._grid.columns), dtype=bool)
        for index in indexes:
            mask |= self.frames.mask(index, segment)
        return mask


@dataclass
class Overlap:
    """Voxels of two masks, of both at once, and the box [slice, row, column] that holds them."""

    ours: int = 0
    theirs: int = 0
    both: int = 0
    low: npt.NDArray[np.int64] = field(default_factory=lambda: np.full(3, 2**31))
    high: npt.NDArray[np.int64] = field(default_factory=lambda: np.full(3, -(2**31)))

    @property
    def dice(self) -> float | None:
        """None where both are empty."""
        return 2.0 * self.both / (self.ours + self.theirs) if self.ours + self.theirs else None

    def add(self, place: int, ours: Mask, theirs: Mask) -> None:
        """Count a slice."""
        self.ours += int(np.count_nonzero(ours))
        self.theirs += int(np.count_nonzero(theirs))
        self.both += int(np.count_nonzero(ours & theirs))
        either = ours | theirs
        rows, columns = np.flatnonzero(either.any(axis=1)), np.flatnonzero(either.any(axis=0))
        if rows.size:
            self.low = np.minimum(self.low, [place, rows[0], columns[0]])
            self.high = np.maximum(self.high, [place + 1, rows[-1] + 1, columns[-1] + 1])


def compare_segs(ours: Dataset, theirs: Dataset) -> list[Compared]:
    """Every structure of both; raises NotAVolume, UnreadableImage or GeometryMismatch."""
    grid = grid_of(ours, SegFrames(ours))
    mine, other = Placed(ours, grid), Placed(theirs, grid)
    matching = match(segments_of(ours), segments_of(theirs))
    rows = [_pair(mine, other, grid, one, two) for one, two in matching.pairs]
    rows += [
        Compared(structure=one.label, outcome="removed", ours=_volume_ml(mine, grid, one), segment=one.number)
        for one in matching.removed
    ]
    rows += [
        Compared(structure=two.label, outcome="added", theirs=_volume_ml(other, grid, two), edited_segment=two.number)
        for two in matching.added
    ]
    return rows


def _pair(mine: Placed, other: Placed, grid: Grid, one: Labelled, two: Labelled) -> Compared:
    overlap = Overlap()
    for place, a, b in _together(mine, other, one.number, two.number):
        overlap.add(place, a, b)
    return Compared(
        structure=one.label,
        outcome="matched",
        ours=round(overlap.ours * grid.voxel_ml, 3),
        theirs=round(overlap.theirs * grid.voxel_ml, 3),
        dice=overlap.dice,
        hd95_mm=_hd95(mine, other, grid, overlap, (one.number, two.number)),
        segment=one.number,
        edited_segment=two.number,
    )


def _together(mine: Placed, other: Placed, one: int, two: int) -> Iterator[tuple[int, Mask, Mask]]:
    here, there = mine.slices(one), other.slices(two)
    for place in sorted(here.keys() | there.keys()):
        yield place, mine.mask(here.get(place, []), one), other.mask(there.get(place, []), two)


def _volume_ml(placed: Placed, grid: Grid, one: Labelled) -> float:
    voxels = sum(
        int(np.count_nonzero(placed.mask(frames, one.number))) for frames in placed.slices(one.number).values()
    )
    return round(voxels * grid.voxel_ml, 3)


def _hd95(mine: Placed, other: Placed, grid: Grid, overlap: Overlap, numbers: tuple[int, int]) -> float | None:
    """The larger of the two directed 95th percentiles of the surfaces' distances, as ``medai-train`` has it.

    None where one mask is empty or the box is too large to be cheap.
    """
    size = overlap.high - overlap.low
    if not overlap.ours or not overlap.theirs or int(np.prod(size)) > BOX_LIMIT:
        return None
    if overlap.ours == overlap.theirs == overlap.both:
        return 0.0
    masks = np.zeros((2, *(int(n) for n in size)), dtype=bool)
    (z, y, x), (_, y1, x1) = overlap.low, overlap.high
    for place, a, b in _together(mine, other, *numbers):
        if 0 <= place - z < size[0]:
            masks[0, place - z], masks[1, place - z] = a[y:y1, x:x1], b[y:y1, x:x1]
    spacing = grid.spacing_mm[::-1]
    surfaces = [_surface(mask) for mask in masks]
    directed = [
        float(np.percentile(ndimage.distance_transform_edt(~there, sampling=spacing)[here], 95))
        for here, there in (surfaces, surfaces[::-1])
    ]
    return round(max(directed), 2)


def _surface(mask: Mask) -> Mask:
    """The voxels of a mask that touch its outside; what lies beyond the box is outside."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def by_machine_alone(found: Sequence[Labelled]) -> bool:
    """Whether an algorithm drew all of it (Segment Algorithm Type AUTOMATIC)."""
    return bool(found) and all(one.by_machine for one in found)
