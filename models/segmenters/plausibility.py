"""Is what a model drew plausible? Every look at a label map is a Check; what cannot be true is refused.

Each segment: its volume, whether it is cut off, its pieces. Across segments, as the bundle's ``checks`` say: pairs
that should be alike, left and right, totals. All is measured on axes turned to the patient, without interpolation.
Next: format/bundle.py (where the limits come from), volume.py (Check, Plausibility).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import cc3d
import numpy as np
import numpy.typing as npt
from cc3d.types import StatisticsSlicesDict

from medai.models.errors import ModelRefused, ModelUnavailable
from medai.models.format.bundle import Bundle
from medai.models.format.metadata import LeftOfCheck, PairCheck, Plausible, TotalCheck, VolumeRange
from medai.models.geometry import Geometry
from medai.models.images.boxes import Box, bounding_box
from medai.models.images.preprocess import to_axial
from medai.models.volume import Check, Labels, Segment, Segmentation, Total, Volume

EDGES = (("feet", "head"), ("front", "back"), ("right", "left"))
"""The sides of an axial volume [slice, row, column]: where an index is 0, and where it is highest."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A label map [slice, row, column] on axial axes, and what is measured on it."""

    labels: Labels = field(repr=False)
    geometry: Geometry

    @cached_property
    def _whole(self) -> Box:
        """Where anything was drawn: the rest is not looked at."""
        whole = bounding_box(self.labels)
        return whole if whole[0].stop else (slice(0, 1), slice(0, 1), slice(0, 1))

    @cached_property
    def _statistics(self) -> StatisticsSlicesDict:
        return cc3d.statistics(np.ascontiguousarray(self.labels[self._whole]))

    def voxels(self, numbers: Sequence[int]) -> npt.NDArray[np.int64]:
        """How many voxels each of these segments has."""
        counts = np.asarray(self._statistics["voxel_counts"])
        return np.array([counts[number] if number < len(counts) else 0 for number in numbers], dtype=np.int64)

    def ml(self, numbers: Sequence[int]) -> float:
        """Volume of these segments together, millilitres."""
        return int(self.voxels(numbers).sum()) * self.geometry.voxel_ml

    def box(self, number: int) -> Box:
        """The smallest box that holds a segment; only for one that is there."""
        sides = zip(self._statistics["bounding_boxes"][number], self._whole, strict=True)
        z, y, x = (slice(side.start + whole.start, side.stop + whole.start) for side, whole in sides)
        return z, y, x

    def edges(self, number: int) -> list[str]:
        """The sides of the field of view that a segment touches."""
        found = []
        for side, length, (low, high) in zip(self.box(number), self.labels.shape, EDGES, strict=True):
            found += [low] if side.start == 0 else []
            found += [high] if side.stop == length else []
        return found

    def pieces(self, number: int) -> int:
        """How many pieces a segment has (26 neighbours)."""
        mask = self.labels[self.box(number)] == number
        return int(cc3d.connected_components(mask.astype(np.uint8)).max())

    def left_mm(self, numbers: Sequence[int]) -> float:
        """How far to the patient's left (LPS x) the centre of these segments lies, millimetres; one must be there."""
        there = [number for number in numbers if self.voxels([number])[0]]
        centres = np.asarray(self._statistics["centroids"])[there]
        centre = np.average(centres, axis=0, weights=self.voxels(there))
        z, y, x = centre + [side.start for side in self._whole]
        return float((self.geometry.affine @ np.array([x, y, z, 1.0]))[0])


def finish(labels: Labels, volume: Volume, bundle: Bundle) -> Segmentation:
    """A label map with its checks. Raises ModelRefused where it cannot be what the model says that it is."""
    if labels.shape != volume.geometry.shape or labels.dtype != np.uint8:
        raise ModelUnavailable(
            f"{bundle.name} gave labels of another shape or type than its source: a fault in the model"
        )
    axial = to_axial(Volume(voxels=labels, geometry=volume.geometry, modality=volume.modality))[0]
    result = Segmentation(
        labels=labels,
        segments=bundle.segments,
        geometry=volume.geometry,
        model=bundle.card,
        totals=tuple(Total(name=c.name, segments=c.segments) for c in bundle.checks if isinstance(c, TotalCheck)),
    )
    for check in look(Drawn(labels=axial.voxels, geometry=axial.geometry), bundle):
        result = result.checked(check)
    return result


def look(drawn: Drawn, bundle: Bundle) -> Iterator[Check]:
    """Every check of a bundle, in the order of its segments and then of its ``checks``."""
    for segment in bundle.segments:
        yield from _segment(drawn, segment, bundle.plausible[segment.number])
    for check in bundle.checks:
        if isinstance(check, PairCheck):
            yield _pair(drawn, check)
        elif isinstance(check, LeftOfCheck):
            yield _left_of(drawn, check)
        else:
            yield _volume(check.name, drawn.ml(check.segments), check)


def _segment(drawn: Drawn, segment: Segment, plausible: Plausible) -> Iterator[Check]:
    if not drawn.ml([segment.number]) and plausible.absent == "warn":
        text = f"{segment.name}: nothing was found: is it in the field of view?"
        yield Check(name=f"{segment.name}: volume", passed=False, text=text)
        return
    yield _volume(segment.name, drawn.ml([segment.number]), plausible)
    if plausible.warn_at_edge:
        yield _field_of_view(drawn, segment, plausible)
    if plausible.pieces_max is not None:
        yield _pieces(drawn, segment, plausible.pieces_max)


def _volume(name: str, ml: float, allowed: VolumeRange) -> Check:
    if not allowed.refuse_below_ml < ml <= allowed.refuse_above_ml:
        raise ModelRefused(
            f"{name}: nothing plausible was found ({millilitres(ml)} ml). Does the series show it, in the contrast "
            "that the model knows?"
        )
    least, most = allowed.ml
    passed = least <= ml <= most
    where = "within" if passed else "outside"
    text = f"{name}: {millilitres(ml)} ml is {where} the expected range of {least:g} to {most:g} ml"
    return Check(name=f"{name}: volume", passed=passed, text=text)


def _field_of_view(drawn: Drawn, segment: Segment, plausible: Plausible) -> Check:
    name = f"{segment.name}: field of view"
    touched = [edge for edge in drawn.edges(segment.number) if edge not in plausible.edges]
    if not touched:
        return Check(name=name, passed=True, text=f"{segment.name}: the mask ends within the field of view")
    text = (
        f"{segment.name}: the mask touches the edge of the field of view ({', '.join(touched)}): "
        "the structure may be cut off"
    )
    return Check(name=name, passed=False, text=text)


def _pieces(drawn: Drawn, segment: Segment, most: int) -> Check:
    found = drawn.pieces(segment.number)
    said = f"{segment.name}: the mask is in {found} piece{'s' if found > 1 else ''}"
    passed = found <= most
    text = said if passed else f"{said}, at most {most} {'are' if most > 1 else 'is'} expected"
    return Check(name=f"{segment.name}: pieces", passed=passed, text=text)


def _pair(drawn: Drawn, check: PairCheck) -> Check:
    """Two volumes compared by their difference over their mean, so that neither side is the measure."""
    name = f"{check.name}: size"
    first, second = drawn.ml(check.first), drawn.ml(check.second)
    if not first and not second:
        return Check(name=name, passed=None, text=f"{check.name}: neither was found, there is nothing to compare")
    difference = abs(first - second) / ((first + second) / 2)
    passed = difference <= check.ratio_warn
    said = f"{check.name}: {millilitres(first)} and {millilitres(second)} ml differ by {difference:.0%}"
    text = f"{said}, {'within' if passed else 'more than'} the expected {check.ratio_warn:.0%}"
    return Check(name=name, passed=passed, text=text)


def _left_of(drawn: Drawn, check: LeftOfCheck) -> Check:
    name = f"{check.name}: sides"
    if not drawn.ml(check.left) or not drawn.ml(check.right):
        return Check(name=name, passed=None, text=f"{check.name}: one side was not found, sides cannot be compared")
    if drawn.left_mm(check.left) > drawn.left_mm(check.right):
        return Check(name=name, passed=True, text=f"{check.name}: left and right lie where they belong")
    text = (
        f"{check.name}: what was drawn as left lies on the patient's right. Is the orientation in the headers of this "
        "series true?"
    )
    if check.otherwise == "refuse":
        raise ModelRefused(text)
    return Check(name=name, passed=False, text=text)


def millilitres(ml: float) -> str:
    """A volume with the digits that it deserves."""
    return f"{ml:.0f}" if ml >= 100 else f"{ml:.1f}" if ml >= 10 else f"{ml:.2f}"
