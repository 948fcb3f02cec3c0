"""What a series shows, from its pixels alone: the body part, and whether it lies as its header says.

A small DenseNet looks at axial slices on a coarse grid, in any modality: values are scaled by percentiles, and it was
trained on remapped contrasts. A part's probability is its mean over the slices. Next: workers/guard.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as functional
from pydantic import BaseModel, ConfigDict

from medai.models.errors import ModelRefused, ModelUnavailable
from medai.models.format.bundle import Bundle
from medai.models.format.recipe import Intensity
from medai.models.images.preprocess import to_axial
from medai.models.networks.runners import ready
from medai.models.segmenters.feed import scale
from medai.models.volume import ModelCard, Volume, Voxels

SIDE = 96
"""Pixels of a slice that the network sees."""
PIXEL_MM = 4.0
MOST_SLICES = 32
WAYS = 4
"""In which a slice is turned to see whether it lies as it should."""
PERCENTILES = Intensity(kind="zscore", low=1.0, high=99.0)


class Parameters(BaseModel):
    """``inference.json`` of the bundle: the last channel of the network says upright, the others the parts."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    network_def: dict[str, object]
    parts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a series shows. ``upright`` is the probability that its pixels lie as its header says: against a quarter
    turn, half a turn and a flip of front and back, so that chance is 0.2."""

    part: str
    probabilities: Mapping[str, float] = field(hash=False)
    upright: float


def parameters_of(bundle: Bundle) -> Parameters:
    """A bundle's inference.json. Raises ModelUnavailable."""
    try:
        return Parameters.model_validate(dict(bundle.parameters))
    except ValueError as error:
        raise ModelUnavailable(f"{bundle.name}: inference.json: {error}") from error


class SeriesKind:
    """The classifier, ready to look."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.card: ModelCard = bundle.card
        parameters = parameters_of(bundle)
        self.parts, self._device = parameters.parts, device
        self._network = ready(parameters.network_def, bundle.weights[0], device)

    def classify(self, volume: Volume) -> Kind:
        """Raises ModelRefused for an image without any content."""
        slices = axial_slices(volume)
        return kind_of(self.logits(slices), self.logits_turned(slices), self.parts)

    def logits_turned(self, slices: Voxels) -> Voxels:
        """[way, slice]: how upright each slice looks when it is turned in each way."""
        return np.stack([self.logits(np.stack([turned(one, way) for one in slices]))[:, -1] for way in range(WAYS)])

    def logits(self, slices: Voxels) -> Voxels:
        """[slice, parts and upright] of slices [slice, SIDE, SIDE] as the network sees them."""
        with torch.inference_mode():
            found: Voxels = self._network(torch.from_numpy(slices[:, None]).to(self._device)).float().cpu().numpy()
        return found


def kind_of(logits: Voxels, when_turned: Voxels, parts: Sequence[str]) -> Kind:
    """From logits [slice, parts and upright], and upright's [way, slice] for the slices turned, to one answer."""
    mean = _shares(logits[:, :-1], axis=1).mean(axis=0)
    probabilities = {part: float(value) for part, value in zip(parts, mean, strict=True)}
    # Some kinds of slices look less upright than others whichever way they lie: only the ways are compared.
    upright = _shares(np.concatenate([logits[None, :, -1], when_turned]), axis=0)[0].mean()
    return Kind(
        part=max(probabilities, key=lambda part: probabilities[part]),
        probabilities=probabilities,
        upright=float(upright),
    )


def _shares(logits: Voxels, *, axis: int) -> Voxels:
    shifted = np.exp(logits - logits.max(axis=axis, keepdims=True))
    found: Voxels = shifted / shifted.sum(axis=axis, keepdims=True)
    return found


def turned(image: Voxels, way: int) -> Voxels:
    """A slice that does not lie as it should: front and back exchanged, or one to three quarter turns."""
    return np.ascontiguousarray(np.rot90(image, way) if way else image[::-1])


def axial_slices(volume: Volume, most: int = MOST_SLICES) -> Voxels:
    """Evenly chosen axial slices as the network sees them, float32 [slice, SIDE, SIDE]; empty ones are left out."""
    axial, _ = to_axial(volume)
    count = len(axial.voxels)
    chosen = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
    x_mm, y_mm, _ = axial.geometry.spacing_mm
    shown = [one for index in chosen if (one := network_slice(axial.voxels[index], y_mm, x_mm)) is not None]
    if not shown:
        raise ModelRefused("the image is empty: nearly all voxels have the same value")
    return np.stack(shown)


def network_slice(image: Voxels, row_mm: float, column_mm: float) -> Voxels | None:
    """One slice on the network's grid around its middle; None for an empty one."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float32))
    rows, columns = (max(1, round(n * mm / PIXEL_MM)) for n, mm in zip(values.shape, (row_mm, column_mm), strict=True))
    small = functional.interpolate(torch.from_numpy(values)[None, None], (rows, columns), mode="area")[0, 0].numpy()
    try:
        scaled = scale(small, PERCENTILES)
    except ModelRefused:
        return None
    return standardised(_fitted(scaled))


def standardised(image: Voxels) -> Voxels:
    """Mean 0, deviation 1: what lies around the patient must not tell one scanner from another."""
    scaled: Voxels = ((image - image.mean()) / (image.std() + 1e-6)).astype(np.float32)
    return scaled


def _fitted(image: Voxels) -> Voxels:
    """Cut or padded with the darkest value to SIDE x SIDE."""
    whole = np.full((SIDE, SIDE), image.min(), dtype=np.float32)
    rows, columns = (min(SIDE, n) for n in image.shape)
    top, left = ((n - m) // 2 for n, m in zip(image.shape, (rows, columns), strict=True))
    first, second = (SIDE - rows) // 2, (SIDE - columns) // 2
    whole[first : first + rows, second : second + columns] = image[top : top + rows, left : left + columns]
    return whole
