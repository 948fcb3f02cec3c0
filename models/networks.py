"""Network architectures that are ours to define, for checkpoints that hold weights alone.

Next: inference.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def double_convolution(channels_in: int, channels_out: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch normalisation and ReLU; the size stays."""
    layers: list[nn.Module] = []
    for channels in (channels_in, channels_out):
        layers += [
            nn.Conv2d(channels, channels_out, kernel_size=3, padding=1),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class SmallUNet(nn.Module):
    """A 2D U-Net (Ronneberger 2015) with three levels, as the checkpoint UNet_wdk24 needs it.

    Input [batch, 1, rows, columns] with sides that are multiples of 8; output: logits of the same shape.
    The layers' names are the checkpoint's keys, which is why MONAI's UNet cannot stand in.
    """

    def __init__(self, channels: Sequence[int] = (16, 32, 64, 128)) -> None:
        super().__init__()
        one, two, three, deepest = channels
        self.conv1 = double_convolution(1, one)
        self.conv2 = double_convolution(one, two)
        self.conv3 = double_convolution(two, three)
        self.middle = double_convolution(three, deepest)
        self.upsample3 = _double_size(deepest, three)
        self.upconv3 = double_convolution(2 * three, three)
        self.upsample2 = _double_size(three, two)
        self.upconv2 = double_convolution(2 * two, two)
        self.upsample1 = _double_size(two, one)
        self.upconv1 = double_convolution(2 * one, one)
        self.final = nn.Conv2d(one, 1, kernel_size=1)
        self.halve = nn.MaxPool2d(kernel_size=2)

    def fused(self) -> SmallUNet:
        """The same function for inference, each normalisation folded into its convolution (2-4 times as fast)."""
        self.eval()
        for name, block in list(self.named_children()):
            if isinstance(block, nn.Sequential):
                setattr(self, name, _fused(list(block)))
        return self.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return] # missing in stubs

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits; their sigmoid is the probability of the structure."""
        full = self.conv1(images)
        half = self.conv2(self.halve(full))
        quarter = self.conv3(self.halve(half))
        deep = self.middle(self.halve(quarter))
        quarter = self.upconv3(torch.cat([self.upsample3(deep), quarter], dim=1))
        half = self.upconv2(torch.cat([self.upsample2(quarter), half], dim=1))
        full = self.upconv1(torch.cat([self.upsample1(half), full], dim=1))
        logits: torch.Tensor = self.final(full)
        return logits


def _double_size(channels_in: int, channels_out: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels_in, channels_out, kernel_size=3, stride=2, padding=1, output_padding=1)


def _fused(layers: Sequence[nn.Module]) -> nn.Sequential:
    """double_convolution without its normalisations."""
    fused: list[nn.Module] = []
    for convolution, normalisation in zip(layers[0::3], layers[1::3], strict=True):
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(normalisation, nn.BatchNorm2d)
        fused += [fuse_conv_bn_eval(convolution, normalisation), nn.ReLU(inplace=True)]
    return nn.Sequential(*fused)
