"""Numbers about each segment: its volume, and its mean attenuation in CT; and total volumes. Next: sr.py, oru.py."""

from __future__ import annotations

import numpy as np

from medai.models.volume import Segmentation, Volume
from medai.router.contract import Measurement

VOLUME = "volume"
MEAN_ATTENUATION = "mean_attenuation"
MILLILITRE = "ml"
HOUNSFIELD = "[hnsf'U]"
TOTAL = 0
"""Segment number of a measurement of several segments together."""


def measure(volume: Volume, segmentation: Segmentation) -> tuple[Measurement, ...]:
    """Volume (ml: voxels times voxel volume) of every segment, and mean HU of those of a CT that are not empty.

    Then the volume of each total that the model reports. Raises GeometryMismatch when the mask does not lie on the
    volume's grid.
    """
    segmentation.geometry.require_same(volume.geometry, what="the mask and its source")
    found: list[Measurement] = []
    counted: dict[int, int] = {}
    for segment in segmentation.segments:
        voxels, total = _count_and_sum(volume, segmentation, segment.number)
        counted[segment.number] = voxels
        millilitres = voxels * segmentation.geometry.voxel_ml
        found.append(_measurement(segment.number, segment.name, VOLUME, millilitres, MILLILITRE))
        if volume.unit == "HU" and voxels:
            mean = total / voxels
            found.append(_measurement(segment.number, segment.name, MEAN_ATTENUATION, mean, HOUNSFIELD))
    for each in segmentation.totals:
        millilitres = sum(counted[number] for number in each.segments) * segmentation.geometry.voxel_ml
        found.append(_measurement(TOTAL, each.name, VOLUME, millilitres, MILLILITRE))
    return tuple(found)


def _count_and_sum(volume: Volume, segmentation: Segmentation, number: int) -> tuple[int, float]:
    """Voxels of a segment and the sum of their values; slice by slice, which needs no second volume in memory."""
    voxels, total = 0, 0.0
    for labels, values in zip(segmentation.labels, volume.voxels, strict=True):
        inside = labels == number
        here = int(np.count_nonzero(inside))
        if here:
            voxels += here
            total += float(values[inside].sum(dtype=np.float64))
    return voxels, total


def _measurement(number: int, name: str, quantity: str, value: float, unit: str) -> Measurement:
    """Rounded to what the method can carry and a decimal string (16 characters) can hold."""
    return Measurement(
        segment_number=number,
        segment_name=name,
        quantity=quantity,
        value=round(value, 3) if quantity == VOLUME else round(value, 1),
        unit=unit,
    )
