"""Figures of a case: the same whichever way the images lie, and nothing in them tells whose they are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medai.models.geometry import Geometry
from medai.models.segmenters.case_figures import case_figures, round_figure
from medai.models.volume import Volume


def volume(voxels: np.ndarray, *, unit: str = "HU", spacing_mm: tuple[float, float, float] = (1.0, 2.0, 3.0)) -> Volume:
    geometry = Geometry(
        origin_mm=(0.0, 0.0, 0.0), direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        spacing_mm=spacing_mm, shape=voxels.shape, frame_of_reference_uid="1.2",
    )  # fmt: skip
    return Volume(voxels=voxels.astype(np.float32), geometry=geometry, modality="CT", unit=unit)


def a_case() -> tuple[Volume, np.ndarray]:
    voxels = np.random.default_rng(1).normal(0, 100, (4, 6, 8))
    labels = np.zeros(voxels.shape, dtype=np.uint8)
    labels[1:3, 1:4, 2:6] = 1
    voxels[labels == 1] = 40.0
    return volume(voxels), labels


def test_volumes_and_values_are_those_of_the_mask() -> None:
    found = case_figures(*a_case(), [1, 2], manufacturer=" Maker ", device="")
    assert found["output.1.volume_ml"] == pytest.approx(24 * 6.0 / 1000)
    assert found["output.1.mean_hu"] == 40.0
    assert found["output.1.sd_hu"] == 0.0
    assert found["output.2.volume_ml"] == 0.0
    assert "output.2.mean_hu" not in found
    assert (found["input.spacing_x_mm"], found["input.extent_z_mm"], found["input.slices"]) == (1.0, 12.0, 4.0)
    assert found["input.manufacturer"] == "Maker"
    assert "input.device" not in found


def test_values_without_a_unit_are_told_by_their_proportions() -> None:
    image, labels = a_case()
    scaled = [volume(factor * (image.voxels + 400), unit="arbitrary") for factor in (1.0, 7.0)]
    one, other = (case_figures(each, labels, [1]) for each in scaled)
    assert one["input.p50_of_range"] == pytest.approx(float(other["input.p50_of_range"]), rel=1e-3)
    assert one["output.1.sd_of_mean"] == other["output.1.sd_of_mean"]
    assert not [key for key in one if key.endswith("_hu")]


def test_what_is_no_number_is_left_out() -> None:
    image, labels = a_case()
    image.voxels[:] = np.nan
    found = case_figures(image, labels, [1])
    assert all(math.isfinite(value) for value in found.values() if isinstance(value, float))


def test_five_digits_are_kept() -> None:
    assert round_figure(0.123456789) == 0.12346
