"""A smooth body that a model would agree to read: for the dry run of a model whose real images are not here.

An ellipse of soft tissue with two lungs of air, a spine and a little noise, of a size and spacing that satisfy the
model's InputSpec. Nothing can be learnt from it about accuracy. Next: dry_run.py.
"""

from __future__ import annotations

import math

import numpy as np

from medai.models.format.metadata import InputSpec
from medai.models.geometry import Geometry
from medai.models.volume import Volume, Voxels

USUAL_MM = (260.0, 200.0, 120.0)
"""Right-left, front-back, feet-head."""
VOXELS = (80, 80, 48)
"""About so many along x, y and z, unless the model wants more."""
MARGIN = 1.1
HOUNSFIELD = {"air": -1000.0, "tissue": 40.0, "lung": -850.0, "spine": 400.0, "noise": 10.0}
ARBITRARY = {"air": 0.0, "tissue": 600.0, "lung": 60.0, "spine": 900.0, "noise": 10.0}


def phantom(spec: InputSpec) -> Volume:
    """A volume [slice, row, column] in LPS that ``spec`` accepts; always the same one."""
    extent_mm = [max(MARGIN * least, usual) for least, usual in zip(spec.min_extent_mm, USUAL_MM, strict=True)]
    spacing_mm = [min(spec.max_spacing_mm, extent / count) for extent, count in zip(extent_mm, VOXELS, strict=True)]
    x, y, z = (
        max(spec.min_slices, math.ceil(extent / step)) for extent, step in zip(extent_mm, spacing_mm, strict=True)
    )
    geometry = Geometry(
        origin_mm=(-extent_mm[0] / 2, -extent_mm[1] / 2, 0.0),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        spacing_mm=(spacing_mm[0], spacing_mm[1], spacing_mm[2]),
        shape=(z, y, x),
    )
    values = HOUNSFIELD if spec.unit == "HU" else ARBITRARY
    voxels = _body(geometry.shape, values) + np.random.default_rng(1).normal(0.0, values["noise"], geometry.shape)
    modality = "CT" if spec.unit == "HU" and "CT" in spec.modalities else min(spec.modalities)
    return Volume(voxels=voxels.astype(np.int16), geometry=geometry, modality=modality, unit=spec.unit)


def _body(shape: tuple[int, int, int], values: dict[str, float]) -> Voxels:
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, count) for count in shape), indexing="ij")
    voxels = np.full(shape, values["air"], dtype=np.float64)
    voxels += (values["tissue"] - values["air"]) * _inside((x / 0.85) ** 2 + (y / 0.85) ** 2)
    for side in (-1, 1):
        lung = _inside(((x - side * 0.4) / 0.28) ** 2 + ((y + 0.1) / 0.5) ** 2 + (z / 0.8) ** 2)
        voxels += (values["lung"] - values["tissue"]) * lung
    return voxels + (values["spine"] - values["tissue"]) * _inside((x / 0.1) ** 2 + ((y - 0.6) / 0.12) ** 2)


def _inside(squared: Voxels) -> Voxels:
    """1 where a squared radius is below 1, 0 above, with a soft edge."""
    soft: Voxels = 1 / (1 + np.exp(np.clip((squared - 1) * 12, -60, 60)))
    return soft
