"""Values become what a foreign network knows, and windows slide over slices too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medai.models.errors import ModelRefused
from medai.models.format.recipe import Inferer, Intensity
from medai.models.networks.sliding import predict
from medai.models.segmenters.feed import scale

VALUES = np.array([-1000.0, 0.0, 0.0, 50.0, 100.0, 400.0])


def scaled(**values: object) -> list[float]:
    return [round(float(value), 4) for value in scale(VALUES, Intensity.model_validate(values))]


def test_a_window_goes_to_any_interval() -> None:
    assert scaled(kind="window", low=0, high=100, to=(0, 1)) == [0, 0, 0, 0.5, 1, 1]
    assert scaled(kind="window", low=0, high=100) == [-1, -1, -1, 0, 1, 1]
    assert scaled(kind="window", low=0, high=100, to=(0, 1), clip=False) == [-10, 0, 0, 0.5, 1, 4]


def test_percentiles_are_the_image_s_own() -> None:
    assert scaled(kind="percentile", low=0, high=100, to=(0, 1))[::5] == [0, 1]
    with pytest.raises(ModelRefused, match="the image is empty"):
        scale(np.zeros(5), Intensity(kind="percentile", low=0, high=100))


def test_nonzero_voxels_alone_are_normalised() -> None:
    found = np.array(scaled(kind="zscore", low=0, high=100, nonzero=True))
    assert found[1] == found[2] == 0
    rest = found[VALUES != 0]
    assert (rest.mean(), rest.std()) == (pytest.approx(0, abs=1e-3), pytest.approx(1, abs=1e-3))
    with pytest.raises(ModelRefused, match="the image is empty"):
        scale(np.zeros(5), Intensity(nonzero=True))


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


def test_a_window_has_as_many_sides_as_the_network_reads() -> None:
    with pytest.raises(ValueError, match="roi has 3 sides, the network reads 2 dimensions"):
        Inferer(dims=2, roi=(8, 8, 8))
