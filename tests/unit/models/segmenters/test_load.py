"""Segmenters give a mask on exactly their source's grid, a warning, or a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import Dataset

from medai.models.errors import ModelRefused
from medai.models.format.bundle import Bundle
from medai.models.geometry import Geometry
from medai.models.images.preprocess import nifti_to_volume, reorient, resample, series_to_volume
from medai.models.networks.definition import SmallUNet
from medai.models.registry import Registry
from medai.models.segmenters.cleaning import largest, within
from medai.models.segmenters.feed import body
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


def test_the_largest_pieces_stay_and_crumbs_go() -> None:
    mask = np.zeros((10, 10, 10), bool)
    mask[:4], mask[6:8], mask[9, 9, 9] = True, True, True
    kept = largest(mask, 3)
    assert kept[:4].all()
    assert kept[6:8].all()
    assert not kept[9].any()
    assert not largest(np.zeros((3, 3, 3), bool), 2).any()


def test_a_blanket_is_not_in_the_body_but_a_lung_is() -> None:
    chest = np.full((6, 40, 40), -1000, np.int16)
    chest[:, 10:30, 5:35] = 40
    chest[:, 15:25, 10:20] = -850
    mask = chest == -850
    mask[:, 4:6, 5:35] = True
    kept = within(mask, body(chest) > 0)
    assert kept[:, 15:25, 10:20].all()
    assert kept.sum() == 6 * 100


def test_folding_the_normalisation_changes_nothing() -> None:
    torch.manual_seed(0)
    network = SmallUNet((4, 8, 8, 8)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)  # type: ignore[union-attr,operator] # tensors, by torch's documentation
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr,operator] # as above
    images = torch.rand(1, 1, 32, 40)
    with torch.inference_mode():
        before = network(images)
        after = network.fused()(images)
    assert after.shape == images.shape
    assert torch.allclose(before, after, atol=1e-4)


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
