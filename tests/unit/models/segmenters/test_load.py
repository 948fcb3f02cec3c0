"""Segmenters give a mask on exactly their source's grid, a warning, or a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from medai.models.errors import ModelRefused
from medai.models.format.bundle import Bundle
from medai.models.geometry import Geometry
from medai.models.images.preprocess import nifti_to_volume, reorient, resample, series_to_volume
from medai.models.registry import Registry
from medai.models.segmenters.plausibility import finish
from medai.models.volume import Segmentation, Volume

SharedData = Callable[[str], Path]
COLIN = Path("/usr/share/mricron/templates/ch2.nii.gz")
COLIN_BRAIN = COLIN.with_name("ch2bet.nii.gz")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(device="cpu")


@pytest.fixture(scope="module")
def brain_bundle(registry: Registry) -> Bundle:
    return registry.metadata("mr_brain")


@pytest.fixture(scope="module")
def colin() -> Volume:
    if not COLIN.exists():
        pytest.skip("the Colin 27 head (Debian's mricron-data) is not installed")
    return nifti_to_volume(COLIN)


@pytest.fixture(scope="module")
def colin_brain(registry: Registry, colin: Volume) -> Segmentation:
    return registry.load("mr_brain").segment(colin)


def cube(shape: tuple[int, int, int] = (40, 40, 40), spacing_mm: float = 4.0, modality: str = "MR") -> Volume:
    geometry = Geometry(
        origin_mm=(0.0, 0.0, 0.0),
        direction=(1, 0, 0, 0, 1, 0, 0, 0, 1),
        spacing_mm=(spacing_mm,) * 3,
        shape=shape,
    )
    return Volume(voxels=np.zeros(shape, np.int16), geometry=geometry, modality=modality)


@pytest.mark.parametrize(
    ("volume", "reason"),
    [
        (cube(modality="CT"), "the model reads MR, not CT"),
        (replace(cube(), unit="HU"), "units"),
        (cube((10, 40, 40)), "at least 20"),
        (cube((30, 60, 60), 3.0), "90 mm from feet to head; the model needs 100 mm"),
        (cube(spacing_mm=8.0), "voxels are 8 mm wide"),
        (cube(), "the image is empty"),
    ],
)
def test_the_brain_model_refuses_what_it_does_not_read(registry: Registry, volume: Volume, reason: str) -> None:
    with pytest.raises(ModelRefused, match=reason):
        registry.load("mr_brain").segment(volume)


def test_a_brain_drawn_into_noise_has_a_warning_at_least(registry: Registry) -> None:
    volume = cube()
    noise = np.random.default_rng(0).normal(100, 30, volume.voxels.shape).astype(np.int16)
    assert registry.load("mr_brain").segment(replace(volume, voxels=noise)).warnings


def test_an_abdomen_is_refused(
    registry: Registry, shared_data: SharedData, read_series: Callable[[Path], list[Dataset]]
) -> None:
    abdomen = series_to_volume(read_series(shared_data("mr_abdomen_T2_CMB-CRC"))).volume
    with pytest.raises(ModelRefused, match="voxels are 8 mm wide"):
        registry.load("mr_brain").segment(abdomen)
    with pytest.raises(ModelRefused, match="nothing plausible was found"):
        registry.load("mr_brain").segment(resample(abdomen, (3.0, 3.0, 4.0)))


def test_the_brain_of_a_real_head_is_found_on_its_own_grid(colin: Volume, colin_brain: Segmentation) -> None:
    result = colin_brain
    assert result.geometry == colin.geometry
    assert (result.labels.dtype, result.labels.shape) == (np.uint8, colin.voxels.shape)
    assert set(np.unique(result.labels)) == {0, 1}
    assert int(result.labels.sum()) == 1956468  # what the deepbet package itself gives for this file
    assert any("feet" in warning for warning in result.warnings)
    if COLIN_BRAIN.exists():
        other = nifti_to_volume(COLIN_BRAIN).voxels > 0
        ours = result.labels > 0
        dice = 2 * (ours & other).sum() / (ours.sum() + other.sum())
        assert dice > 0.9, "an independent brain extraction (BET) of the same head"


def test_the_same_head_stored_along_other_axes_gives_the_same_mask(
    registry: Registry, colin: Volume, colin_brain: Segmentation
) -> None:
    sagittal, turn = reorient(colin, "PSR")
    assert np.array_equal(turn.undo(registry.load("mr_brain").segment(sagittal).labels), colin_brain.labels)


def test_a_model_is_loaded_once(registry: Registry) -> None:
    assert registry.load("mr_brain") is registry.load("mr_brain")


def test_plausibility_comes_from_the_bundle(brain_bundle: Bundle) -> None:
    volume = cube()
    labels = np.zeros(volume.voxels.shape, np.uint8)
    labels[5:20, 5:20, 5:20] = 1  # 216 ml
    with pytest.raises(ModelRefused, match=r"nothing plausible was found \(216 ml\)"):
        finish(labels, volume, brain_bundle)
    labels[5:30, 5:30, 5:30] = 1  # 1000 ml
    assert finish(labels, volume, brain_bundle).warnings == ()
    labels[10:, :, 10:] = 1  # 2304 ml
    warnings = " ".join(finish(labels, volume, brain_bundle).warnings)
    assert "outside the expected range of 900 to 2100 ml" in warnings
    assert "(head, front, back, left)" in warnings


def test_the_lung_bases_of_an_abdominal_ct_are_found_left_and_right_and_said_to_be_cut_off(
    registry: Registry, shared_data: SharedData, read_series: Callable[[Path], list[Dataset]]
) -> None:
    volume = series_to_volume(read_series(shared_data("ct_abdomen_CRLM"))).volume
    result = registry.load("ct_lungs").segment(volume)
    inside = volume.voxels[result.labels > 0]
    assert 1000 < len(inside) * volume.geometry.voxel_ml < 1500
    assert -850 < inside.mean() < -650, "lung, not air or soft tissue"
    assert any("(head)" in warning for warning in result.warnings)
    columns = [float(np.argwhere(result.labels == number)[:, 2].mean()) for number in (1, 2)]
    assert columns[0] + 50 < columns[1], "in an axial LPS image the left lung has the larger columns"
