"""What happens to a patch: shares of classes that stay whole, sides that change places, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medai.models.segmenters.feed import Fed
from medai.training.config import AugmentationConfig, BudgetConfig
from medai.training.data.augment import RandMirrorSidesd, RandThickSlicesd, make_augmentation, patch_of, whole_shares
from medai.training.data.prepare import Prepared

STILL = {
    **{"p_affine": 0.0, "p_noise": 0.0, "p_blur": 0.0, "p_gamma": 0.0, "p_contrast": 0.0},
    **{"p_bias_field": 0.0, "p_low_resolution": 0.0},
}
BUDGET = BudgetConfig(patch=(16, 16, 16), crop="centre")


def case() -> Prepared:
    """A thin sheet (class 1) and a block (class 2) on the other side."""
    target = np.zeros((16, 16, 16), dtype=np.uint8)
    target[:, 4:12, 3] = 1
    target[4:12, 4:12, 9:14] = 2
    image = target.astype(np.float32) * 10
    fed: Fed = None  # type: ignore[assignment] # the way back is not asked for
    return Prepared(name="a", image=image, target=target, fed=fed)


def test_without_chance_a_patch_is_the_case_itself() -> None:
    image, target = patch_of(case(), make_augmentation(AugmentationConfig(**STILL), BUDGET, 3), (1, 2, 3))
    np.testing.assert_array_equal(image[0].numpy(), case().image)
    np.testing.assert_array_equal(target.argmax(dim=0).numpy(), case().target)
    assert set(np.unique(target.numpy())) == {0.0, 1.0}


def test_turned_targets_hold_shares_that_sum_to_one_and_thin_nothing() -> None:
    turned = AugmentationConfig(**{**STILL, "p_affine": 1.0, "rotate_deg": 25.0, "scale": 0.0, "shift_voxels": 0.0})
    transform = make_augmentation(turned, BUDGET, 3)
    volumes = []
    for number in range(12):
        _, target = patch_of(case(), transform, (number,))
        torch.testing.assert_close(target.sum(dim=0), torch.ones(16, 16, 16), atol=1e-5, rtol=0)
        volumes.append(float(target[2].sum()))
    assert np.mean(volumes) == pytest.approx(float((case().target == 2).sum()), rel=0.03)


def test_the_same_seed_gives_the_same_patch() -> None:
    transform = make_augmentation(AugmentationConfig(), BUDGET, 3)
    one, again, other = (patch_of(case(), transform, seed) for seed in ((1, 2), (1, 2), (1, 3)))
    torch.testing.assert_close(one[0], again[0], rtol=0, atol=0)
    torch.testing.assert_close(one[1], again[1], rtol=0, atol=0)
    assert not torch.equal(one[0], other[0])


def test_what_lies_outside_is_background() -> None:
    shares = whole_shares(torch.zeros(3, 2, 2, 2))
    assert float(shares[0].min()) == 1.0


def test_mirrored_sides_change_places() -> None:
    mirror = RandMirrorSidesd([(1, 2)])
    target = torch.zeros(3, 2, 2, 4)
    target[1, ..., 0] = 1
    target[0, ..., 1:] = 1
    done: Any = None
    for seed in range(20):
        mirror.set_random_state(seed=seed)
        done = mirror({"image": target[:1].clone(), "target": target})
        if not torch.equal(done["target"], target):
            break
    assert float(done["target"][2, ..., 3].min()) == 1.0, "what was right and first is left and last"
    assert not done["target"][1].any()
    torch.testing.assert_close(done["image"][0], target[0].flip(-1))


def test_thick_slices_are_means_and_targets_stay() -> None:
    thick = RandThickSlicesd(1.0, (2, 2))
    image = torch.arange(5, dtype=torch.float32).reshape(1, 5, 1, 1)
    done = thick({"image": image, "target": image})
    assert done["image"].ravel().tolist() == [0.5, 0.5, 2.5, 2.5, 4.0]
    assert torch.equal(done["target"], image)
