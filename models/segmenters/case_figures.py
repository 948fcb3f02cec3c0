"""Figures of one case that tell whether a model is shown what it was trained on: of the image, and of what was drawn.

Workers keep them with each reading, ``medai-train reference`` over the training set, so that both are measured alike.
Nothing in them tells whose image it is. Next: format/own_card.py (what a bundle says of itself),
router/reports/drift.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from medai.models.format.bundle import Bundle
from medai.models.images.preprocess import to_axial
from medai.models.volume import Labels, Volume, Voxels

MOST_SEGMENTS = 40
"""Segments that are measured; further ones would make a reading's row large and a page long."""
SAMPLED = 500_000
"""About as many voxels give the percentiles of an image."""
TEXT_LENGTH = 64
MANUFACTURER, DEVICE = "input.manufacturer", "input.device"
Figure = float | str


def case_figures(
    volume: Volume, labels: Labels, numbers: Sequence[int], *, manufacturer: str = "", device: str = ""
) -> dict[str, Figure]:
    """Quantity -> value, of a volume and a label map [slice, row, column] on its grid; ``numbers``: the segments."""
    # What is no number (an empty image, values that are none) says nothing, and JSON does not know it.
    texts = {MANUFACTURER: manufacturer.strip()[:TEXT_LENGTH], DEVICE: device.strip()[:TEXT_LENGTH]}
    found = {**input_figures(volume), **output_figures(volume, labels, numbers)}
    return {
        **{key: text for key, text in texts.items() if text},
        **{key: value for key, value in found.items() if math.isfinite(value)},
    }


def input_figures(volume: Volume) -> dict[str, float]:
    """Voxel size and field of view (x right-left, y front-back, z feet-head), number of slices, percentiles of values.

    Values without a unit are told by their proportions alone: a scanner's scale means nothing, and models undo it.
    """
    axial, _ = to_axial(volume)
    spacing_mm, shape = axial.geometry.spacing_mm, axial.geometry.shape[::-1]
    found: dict[str, float] = {f"input.spacing_{axis}_mm": s for axis, s in zip("xyz", spacing_mm, strict=True)}
    found |= {f"input.extent_{axis}_mm": n * s for axis, n, s in zip("xyz", shape, spacing_mm, strict=True)}
    found["input.slices"] = volume.geometry.shape[0]
    values = _sample(volume.voxels)
    if volume.unit == "HU":
        for percent, value in zip((5, 50, 95), np.percentile(values, (5, 50, 95)), strict=True):
            found[f"input.p{percent:02}_hu"] = float(value)
    else:
        low, middle, high = np.percentile(values, (1, 50, 99))
        if high > low:
            found["input.p50_of_range"] = float((middle - low) / (high - low))
    return {key: round_figure(value) for key, value in found.items()}


def _sample(voxels: Voxels) -> Voxels:
    """Every n-th voxel along each axis; the same ones each time."""
    step = max(1, round((voxels.size / SAMPLED) ** (1 / 3)))
    return voxels[::step, ::step, ::step]


def output_figures(volume: Volume, labels: Labels, numbers: Sequence[int]) -> dict[str, float]:
    """Of each segment its volume and, where it is there, mean and standard deviation of the values in it.

    Where values have no unit, the deviation as a part of the mean.
    """
    counts, sums, squares = _moments(volume.voxels, labels)
    found: dict[str, float] = {}
    for number in numbers[:MOST_SEGMENTS]:
        count = counts[number]
        found[f"output.{number}.volume_ml"] = count * volume.geometry.voxel_ml
        if not count:
            continue
        mean = sums[number] / count
        deviation = max(0.0, squares[number] / count - mean**2) ** 0.5
        if volume.unit == "HU":
            found |= {f"output.{number}.mean_hu": mean, f"output.{number}.sd_hu": deviation}
        elif mean > 0:
            found[f"output.{number}.sd_of_mean"] = deviation / mean
    return {key: round_figure(value) for key, value in found.items()}


def _moments(voxels: Voxels, labels: Labels) -> tuple[Voxels, Voxels, Voxels]:
    """By label value: number, sum and sum of squares of its voxels. Slice by slice: no second volume in memory."""
    totals = np.zeros((3, 256), dtype=np.float64)
    for values, drawn in zip(voxels, labels, strict=True):
        inside = drawn > 0
        if inside.any():
            here, what = drawn[inside], values[inside].astype(np.float64)
            for row, weights in zip(totals, (None, what, what**2), strict=True):
                row += np.bincount(here, weights=weights, minlength=256)
    return totals[0], totals[1], totals[2]


def round_figure(value: float) -> float:
    """Five digits: more would say nothing, and would make of a spacing a name for its scanner."""
    return float(f"{float(value):.5g}")


INPUT_TITLES: Mapping[str, tuple[str, str]] = {
    "input.spacing_x_mm": ("Voxel size, right-left", "mm"),
    "input.spacing_y_mm": ("Voxel size, front-back", "mm"),
    "input.spacing_z_mm": ("Voxel size, feet-head", "mm"),
    "input.extent_x_mm": ("Field of view, right-left", "mm"),
    "input.extent_y_mm": ("Field of view, front-back", "mm"),
    "input.extent_z_mm": ("Field of view, feet-head", "mm"),
    "input.slices": ("Number of slices", ""),
    "input.p05_hu": ("Values of the image, 5th percentile", "HU"),
    "input.p50_hu": ("Values of the image, median", "HU"),
    "input.p95_hu": ("Values of the image, 95th percentile", "HU"),
    "input.p50_of_range": ("Median, as a part of the range from 1st to 99th percentile", ""),
    MANUFACTURER: ("Manufacturer", ""),
    DEVICE: ("Device", ""),
}
OUTPUT_TITLES: Mapping[str, tuple[str, str]] = {
    "volume_ml": ("volume", "ml"),
    "mean_hu": ("mean", "HU"),
    "sd_hu": ("standard deviation", "HU"),
    "sd_of_mean": ("standard deviation as a part of the mean", ""),
}


def titles(bundle: Bundle) -> dict[str, tuple[str, str]]:
    """Quantity -> what people call it, and its unit, of all that may be measured for a model."""
    outputs = {
        f"output.{segment.number}.{what}": (f"{segment.name}: {text}", unit)
        for segment in bundle.segments[:MOST_SEGMENTS]
        for what, (text, unit) in OUTPUT_TITLES.items()
    }
    return {**INPUT_TITLES, **outputs}
