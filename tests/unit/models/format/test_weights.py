"""Weights go between a network and a file, each tensor once, and what does not fit is named."""

from __future__ import annotations

import pytest
import torch

from medai.models.errors import ModelUnavailable
from medai.models.format.weights import load_into, unshared


class Twice(torch.nn.Module):
    """A layer under two names, as MONAI's DynUNet has its blocks, and one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(2, 3)
        self.again = self.first
        self.own = torch.nn.BatchNorm1d(3)


def test_what_modules_share_is_kept_once_and_comes_back_under_both_names() -> None:
    torch.manual_seed(0)
    network, other = Twice(), Twice()
    kept = unshared(network)
    assert "first.weight" in kept
    assert not any(name.startswith("again.") for name in kept)
    load_into(other, kept)
    assert torch.equal(other.again.weight, network.first.weight)
    assert other.again.weight is other.first.weight


def test_a_file_that_names_the_shared_layer_the_other_way_fits_too() -> None:
    network, other = Twice(), Twice()
    whole = {name: value.clone() for name, value in network.state_dict().items()}
    load_into(other, whole)
    assert torch.equal(other.first.weight, network.first.weight)


def test_half_precision_becomes_float32_and_counters_stay_whole_numbers() -> None:
    network = Twice()
    halved = {name: v.half() if v.is_floating_point() else v for name, v in unshared(network).items()}
    load_into(network, halved)
    assert network.first.weight.dtype is torch.float32
    assert network.own.num_batches_tracked is not None
    assert network.own.num_batches_tracked.dtype is torch.int64


def test_weights_that_do_not_fit_are_named_a_few_of_many() -> None:
    network = torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(3)))
    with pytest.raises(ModelUnavailable, match=r"missing 0\.weight, 0\.bias, 1\.weight and 3 more; unknown strange"):
        load_into(network, {"strange": torch.zeros(1)})
    with pytest.raises(ModelUnavailable, match="tensors of another shape"):
        load_into(network, {name: torch.zeros(5) for name in network.state_dict()})
