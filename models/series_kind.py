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

from models.bundle import Bundle
from models.errors import ModelRefused, ModelUnavailable
from models.feed import scale
from models.preprocess import to_axial
from models.recipe import Intensity
from models.runners import ready
from models.volume import ModelCard, Volume, Voxels

SIDE = 96
"""Pixels of a slice that the network sees."""
PIXEL_MM = 4.0
MOST_SLICES = 32
PERCENTILES = Intensity(kind="zscore", low=1.0, high=99.0)


class Parameters(BaseModel):
    """``inference.json`` of the bundle: the last channel of the network says upright, the others the parts."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    network_def: dict[str, object]
    parts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a series shows. ``upright`` is the probability that its pixels lie as its header says."""

    part: str
    probabilities: Mapping[str, float] = field(hash=False)
    upright: float


class SeriesKind:
    """The classifier, ready to look."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.card: ModelCard = bundle.card
        try:
            parameters = Parameters.model_validate(dict(bundle.parameters))
        except ValueError as error:
            raise ModelUnavailable(f"{bundle.name}: inference.json: {error}") from error
        self.parts, self._device = parameters.parts, device
        self._network = ready(parameters.network_def, bundle.weights[0], device)

    def classify(self, volume: Volume) -> Kind:
        """Raises ModelRefused for an image without any content."""
        return kind_of(self.logits(axial_slices(volume)), self.parts)

    def logits(self, slices: Voxels) -> Voxels:
        """[slice, parts and upright] of slices [slice, SIDE, SIDE] as the network sees them."""
        with torch.inference_mode():
            found: Voxels = self._network(torch.from_numpy(slices[:, None]).to(self._device)).float().cpu().numpy()
        return found


def kind_of(logits: Voxels, parts: Sequence[str]) -> Kind:
    """From logits [slice, parts and upright] to one answer."""
    shifted = np.exp(logits[:, :-1] - logits[:, :-1].max(axis=1, keepdims=True))
    mean = (shifted / shifted.sum(axis=1, keepdims=True)).mean(axis=0)
    probabilities = {part: float(value) for part, value in zip(parts, mean, strict=True)}
    upright = float((1.0 / (1.0 + np.exp(-logits[:, -1]))).mean())
    return Kind(
        part=max(probabilities, key=lambda part: probabilities[part]), probabilities=probabilities, upright=upright
    )


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
    return _fitted(scaled)


def _fitted(image: Voxels) -> Voxels:
    """Cut or padded with the darkest value to SIDE x SIDE."""
    whole = np.full((SIDE, SIDE), image.min(), dtype=np.float32)
    rows, columns = (min(SIDE, n) for n in image.shape)
    top, left = ((n - m) // 2 for n, m in zip(image.shape, (rows, columns), strict=True))
    first, second = (SIDE - rows) // 2, (SIDE - columns) // 2
    whole[first : first + rows, second : second + columns] = image[top : top + rows, left : left + columns]
    return whole
