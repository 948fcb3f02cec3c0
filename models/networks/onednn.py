"""Convolutions in three dimensions take oneDNN's way on a CPU, whatever their size.

PyTorch asks oneDNN for a 3D convolution only where the batch holds two images or more, or where one is large (batch x
channels x the two outer sides above 20,480); the small, deep levels of a U-Net that reads one window at a time take a
way that is several times as slow. The function is the same, to rounding. Next: runners.py (who asks for it).
"""

from __future__ import annotations

import torch
from torch import nn


class DirectConv3d(nn.Conv3d):
    """A convolution that asks oneDNN itself where nothing is trained; elsewhere what it was before."""

    def _conv_forward(self, images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if images.device.type != "cpu" or images.dtype != torch.float32 or torch.is_grad_enabled():
            usual: torch.Tensor = super()._conv_forward(images, weight, bias)
            return usual
        padding = tuple(int(side) for side in self.padding)
        found: torch.Tensor = torch.mkldnn_convolution(
            images.contiguous(), weight.contiguous(), bias, padding, self.stride, self.dilation, self.groups
        )
        return found


def direct(network: nn.Module) -> nn.Module:
    """The same network with its 3D convolutions made direct; its weights stay where they are."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call] # torch has no types here
        return network
    for module in network.modules():
        if type(module) is nn.Conv3d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            # The layer keeps its place, its hooks and its parameters: only what it does with them changes.
            module.__class__ = DirectConv3d
    return network
