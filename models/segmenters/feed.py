"""From a Volume to the array that a network reads, and back onto exactly the source's grid.

``to_network`` turns axes, resamples and scales as a bundle's Feed says; what it returns knows the way back. Training
and inference both come through here. Arrays are [slice, row, column]. Next: load.py, training/data/prepare.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cc3d
import fill_voids
import numpy as np

from medai.models.errors import GeometryMismatch, ModelRefused
from medai.models.format.recipe import Feed, Intensity
from medai.models.geometry import Geometry
from medai.models.images.boxes import bounding_box, part_of
from medai.models.images.preprocess import Reorientation, labels_to_grid, reorient, resample
from medai.models.segmenters.likeliest import likeliest, winners
from medai.models.volume import Labels, Volume, Voxels

HU_OF_AIR = -1024
HU_OF_SKIN = -400
BODY_MARGIN = 2
"""Voxels of air that a network sees around the patient."""
EMPTY = "the image is empty: nearly all voxels have the same value"


@dataclass(frozen=True, kw_only=True)
class Fed:
    """What a network reads (float32) and the way back: turned axes, grid of the network, grid of the source."""

    array: Voxels = field(repr=False, hash=False, compare=False)
    turn: Reorientation
    upright: Geometry
    """The source's grid with its axes turned."""
    grid: Geometry
    """The network's: with ``inside_body``, of the patient's box alone."""
    patient: Labels | None = field(default=None, repr=False, hash=False, compare=False)
    """With ``inside_body``: 1 in the patient, on the network's grid."""

    def labels_in(self, labels: Labels) -> Labels:
        """Labels of the source's grid on the network's: for training."""
        turned = np.ascontiguousarray(self.turn.apply(labels))
        return turned if self.grid == self.upright else labels_to_grid(turned, self.upright, self.grid)

    def labels_back(self, labels: Labels) -> Labels:
        """Labels of the network's grid on the source's."""
        self._require(labels.shape)
        upright = labels if self.grid == self.upright else labels_to_grid(labels, self.grid, self.upright)
        return self.turn.undo(upright)

    def probabilities_back(self, probabilities: Voxels) -> Labels:
        """The likeliest class on the source's grid; ``probabilities`` are [class, slice, row, column]."""
        self._require(probabilities.shape[1:])
        if self.grid == self.upright:
            return self.turn.undo(winners(probabilities))
        return self.turn.undo(likeliest(probabilities, self.grid, self.upright))

    def _require(self, shape: tuple[int, ...]) -> None:
        if tuple(shape) != self.grid.shape:
            raise GeometryMismatch(f"the network answered {tuple(shape)} voxels for {self.grid.shape}")


def to_network(volume: Volume, feed: Feed) -> Fed:
    """The array of a volume. Raises ModelRefused for an image without any content."""
    upright, turn = reorient(volume, feed.axes)
    spacing_mm = _spacing_mm(feed, upright.geometry)
    same = np.allclose(spacing_mm, upright.geometry.spacing_mm, rtol=0, atol=1e-3)
    here = upright if same else resample(upright, spacing_mm)
    empty = HU_OF_AIR if volume.unit == "HU" else 0.0
    voxels = np.nan_to_num(here.voxels.astype(np.float32), copy=False, nan=empty)
    grid, patient = here.geometry, None
    if feed.inside_body:
        voxels, grid, patient = _patient(voxels, grid)
    array = scale(voxels, feed.intensity)
    return Fed(array=array, turn=turn, upright=upright.geometry, grid=grid, patient=patient)


def _patient(hounsfield: Voxels, grid: Geometry) -> tuple[Voxels, Geometry, Labels]:
    """The patient's box with air around them, and where they are. Raises ModelRefused where there is but air."""
    mask = body(hounsfield)
    box = bounding_box(mask, margin=BODY_MARGIN)
    part = part_of(grid, box)
    if 0 in part.shape:
        raise ModelRefused("the CT holds nothing denser than air")
    return np.where(mask[box], hounsfield[box], np.float32(HU_OF_AIR)), part, mask[box]


def _spacing_mm(feed: Feed, source: Geometry) -> tuple[float, float, float]:
    """Voxel sizes (x, y, z) of the network's grid."""
    if feed.spacing_mm is None:
        return source.spacing_mm
    x, y, z = (wanted or own for wanted, own in zip(feed.spacing_mm, source.spacing_mm, strict=True))
    return x, y, z


def scale(voxels: Voxels, intensity: Intensity) -> Voxels:
    """Values as the network knows them, float32. Raises ModelRefused where all values are the same."""
    values = np.asarray(voxels, dtype=np.float32)
    if intensity.kind == "none":
        return values
    if intensity.kind == "shift":
        return np.maximum(values, np.float32(intensity.low)) - np.float32(intensity.low)
    if intensity.kind in ("window", "percentile"):
        return _mapped(values, intensity)
    return _zscore(values, intensity)


def _mapped(values: Voxels, intensity: Intensity) -> Voxels:
    """low ... high (of the unit, or percentiles) become ``intensity.to``."""
    low, high = intensity.low, intensity.high
    if intensity.kind == "percentile":
        low, high = (float(limit) for limit in np.percentile(values, [low, high]))
        if low >= high:
            raise ModelRefused(EMPTY)
    below, above = intensity.to
    kept = np.clip(values, low, high) if intensity.clip else values
    middle, half = (high + low) / 2, (high - low) / 2
    mapped: Voxels = ((kept - middle) / half * ((above - below) / 2) + (above + below) / 2).astype(np.float32)
    return mapped


def _zscore(values: Voxels, intensity: Intensity) -> Voxels:
    counted = values != 0 if intensity.nonzero else np.ones(values.shape, dtype=bool)
    if not counted.any():
        raise ModelRefused(EMPTY)
    low, high = np.percentile(values[counted], [intensity.low, intensity.high])
    clipped = np.clip(values, low, high)
    deviation = float(clipped[counted].std())
    if deviation <= 0:
        raise ModelRefused(EMPTY)
    scaled: Voxels = np.where(counted, (clipped - clipped[counted].mean()) / deviation, 0).astype(np.float32)
    return scaled


def body(hounsfield: Voxels) -> Labels:
    """1 in the patient, in axial slices: the largest piece denser than lung; holes filled in each slice."""
    pieces = cc3d.connected_components((hounsfield > HU_OF_SKIN).astype(np.uint8))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    dense = pieces == int(sizes.argmax()) if sizes.any() else np.zeros(hounsfield.shape, dtype=bool)
    filled = np.zeros(hounsfield.shape, dtype=np.uint8)
    for number, image in enumerate(dense):
        filled[number] = fill_voids.fill(image.astype(np.uint8))
    return filled
