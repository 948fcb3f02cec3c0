"""A 3D convolution on a CPU asks oneDNN itself, and answers as before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from medai.models.networks.onednn import DirectConv3d, direct

FEW = torch.linspace(-1, 1, 4 * 6 * 7 * 8).reshape(1, 4, 6, 7, 8)


class Asked(TorchDispatchMode):
    """Which of torch's kernels were asked."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    "shape",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "bias": False},
        {"kernel_size": (1, 3, 3), "padding": (0, 1, 1), "stride": (1, 2, 2)},
        {"kernel_size": 3, "dilation": 2, "padding": 2, "groups": 2},
        {"kernel_size": 1},
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_the_answer_stays(shape: dict[str, Any], turned: bool) -> None:
    layer = nn.Conv3d(4, 6, **shape)
    few = FEW.transpose(2, 4) if turned else FEW  # a view whose voxels do not lie in order

    with torch.inference_mode():
        before = layer(few)
        after = direct(layer)(few)

    assert isinstance(layer, DirectConv3d)
    torch.testing.assert_close(after, before)


def test_one_small_image_asks_onednn() -> None:
    network = direct(nn.Sequential(nn.Conv3d(4, 6, 3), nn.ReLU(), nn.Sequential(nn.Conv3d(6, 2, 1))))

    with torch.inference_mode(), Asked() as asked:
        network(FEW)

    assert asked.names.count("mkldnn_convolution") == 2


def test_a_network_that_learns_learns_as_before() -> None:
    plain = nn.Conv3d(4, 2, 3)
    quick = nn.Conv3d(4, 2, 3)
    quick.load_state_dict(plain.state_dict())
    direct(quick)

    for layer in (plain, quick):
        layer(FEW).square().sum().backward()

    assert plain.weight.grad is not None
    torch.testing.assert_close(quick.weight.grad, plain.weight.grad)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv3d(4, 2, 3, padding="same"), nn.Conv3d(4, 2, 3, padding=1, padding_mode="replicate"), nn.Conv2d(4, 2, 3)],
)
def test_what_onednn_pads_otherwise_is_left_alone(layer: nn.Module) -> None:
    kind = type(layer)

    assert type(direct(layer)) is kind


def test_other_numbers_than_float32_go_the_old_way() -> None:
    layer = direct(nn.Conv3d(4, 2, 3)).double()

    with torch.inference_mode():
        assert layer(FEW.double()).dtype == torch.float64
