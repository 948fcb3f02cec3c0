"""However an array is cut up, the answers are those of the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medai.models.format.recipe import Inferer
from medai.models.networks.sliding import divided, predict, predict_slices

CPU = torch.device("cpu")


def bright(images: torch.Tensor) -> torch.Tensor:
    """Logits of background and of what is brighter than 0.5."""
    return torch.cat([torch.zeros_like(images), images - 0.5], dim=1)


def leaning(images: torch.Tensor) -> torch.Tensor:
    """Logits that depend on the column, so that a flip changes them."""
    ramp = torch.linspace(-1, 1, images.shape[-1])
    return torch.cat([torch.zeros_like(images), images - 0.5 + ramp], dim=1)


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).random((11, 18, 21)).astype(np.float32)


@pytest.mark.parametrize("inferer", [Inferer(multiple=8), Inferer(roi=(8, 8, 8)), Inferer(dims=2, batch=3, multiple=8)])
def test_every_way_answers_on_the_arrays_own_grid(array: np.ndarray, inferer: Inferer) -> None:
    found = predict(bright, array, inferer, CPU)
    assert found.shape == (2, *array.shape)
    np.testing.assert_array_equal(found.argmax(axis=0), array > 0.5)


@pytest.mark.parametrize("mirror", [(), (2,), (0, 1)])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_slices_a_few_at_a_time_are_those_of_the_whole(
    array: np.ndarray, mirror: tuple[int, ...], activation: str
) -> None:
    inferer = Inferer(dims=2, batch=4, multiple=8, mirror=mirror, activation=activation, threshold=0.6)  # type: ignore[arg-type] # both are meant
    whole = predict(leaning, array, inferer, CPU).argmax(axis=0)
    assert set(np.unique(whole)) > {0}
    np.testing.assert_array_equal(predict_slices(leaning, array, inferer, CPU), whole)


def test_mirrored_answers_are_averaged(array: np.ndarray) -> None:
    plain = predict(leaning, array, Inferer(multiple=1), CPU)
    turned = predict(leaning, array[:, :, ::-1], Inferer(multiple=1), CPU)[..., ::-1]
    both = predict(leaning, array, Inferer(multiple=1, mirror=(2,)), CPU)
    np.testing.assert_allclose(both, (plain + turned) / 2, rtol=1e-5)


def test_shifted_answers_are_averaged_in_their_places(array: np.ndarray) -> None:
    inferer = Inferer(multiple=1, shifted=True)
    np.testing.assert_allclose(predict(bright, array, inferer, CPU), predict(bright, array, Inferer(), CPU), rtol=1e-5)

    def blocks(images: torch.Tensor) -> torch.Tensor:
        """What a network that halves the size answers: one value for every second column and its neighbour."""
        halved = torch.nn.functional.avg_pool3d(images, (1, 1, 2), ceil_mode=True)
        return bright(halved.repeat_interleave(2, dim=-1)[..., : images.shape[-1]])

    even = array[..., :20]
    padded = [np.pad(even, [(0, 0), (0, 0), side], mode="edge") for side in ((0, 1), (1, 0))]
    single = [predict(blocks, moved, Inferer(multiple=1), CPU) for moved in padded]
    both = (single[0][..., :20] + single[1][..., 1:]) / 2
    np.testing.assert_allclose(predict(blocks, even, inferer, CPU), both, rtol=1e-4)


def test_two_classes_meet_at_the_plane_that_their_probabilities_favour() -> None:
    far = np.zeros((4, 10, 4), dtype=np.float32)
    far[:, 6:] = 1.0
    second = np.clip(far + np.random.default_rng(3).normal(0, 0.4, far.shape).astype(np.float32), 0, 1) * 0.9
    first = 0.9 - second
    probabilities = np.stack([np.full_like(first, 0.1), first, second])
    found = divided(probabilities, 1, 1, 2)
    np.testing.assert_array_equal(found.argmax(axis=0), np.where(far > 0, 2, 1))
    np.testing.assert_allclose(found.sum(axis=0), 1.0, rtol=1e-5)
    background = np.stack([np.full_like(first, 0.8), first / 4.5, second / 4.5])
    assert not divided(background, 1, 1, 2).argmax(axis=0).any(), "what is background stays background"


def test_a_plane_is_of_an_axis_and_of_classes() -> None:
    with pytest.raises(ValueError, match="class before"):
        Inferer(divide=(3, 1, 2))
    with pytest.raises(ValueError, match="class before"):
        Inferer(divide=(1, 0, 2))


def test_a_voxel_below_the_threshold_is_background(array: np.ndarray) -> None:
    def one_class(images: torch.Tensor) -> torch.Tensor:
        return torch.logit(images.clamp(1e-4, 1 - 1e-4))

    found = predict(one_class, array, Inferer(activation="sigmoid", threshold=0.8, multiple=1), CPU)
    np.testing.assert_array_equal(found.argmax(axis=0), array > 0.8)


def test_windows_slide_over_each_slice_and_change_nothing_for_a_voxel_wise_network() -> None:
    image = np.random.default_rng(0).normal(size=(3, 20, 18)).astype(np.float32)

    def network(batch: torch.Tensor) -> torch.Tensor:
        assert batch.shape[2:] in ((8, 8), (20, 18), (24, 24))
        return torch.cat([-batch, batch], dim=1)

    whole = predict(network, image, Inferer(dims=2, multiple=1), torch.device("cpu"))
    windows = predict(network, image, Inferer(dims=2, roi=(8, 8), batch=2), torch.device("cpu"))
    larger = predict(network, image, Inferer(dims=2, roi=(24, 24), padding="constant"), torch.device("cpu"))
    assert whole.shape == (2, 3, 20, 18)
    assert np.allclose(whole, windows, atol=1e-5)
    assert np.allclose(whole, larger, atol=1e-5)
