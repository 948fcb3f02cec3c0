"""Segmentation networks that MONAI does not have, on its blocks: DenseNet as an encoder, and DeepLabv3+.

Both work in two and three dimensions and give logits of the input's size. Like the papers', and like MONAI's U-Net,
they begin with a strided convolution and end with an upsampling (``stem_stride``), which makes them fast. Importing
this module imports MONAI. Next: definition.py (who builds them).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from monai.networks.blocks import Convolution, ResidualUnit, SimpleASPP
from monai.networks.nets import DenseNet
from torch import nn

LINEAR = {2: "bilinear", 3: "trilinear"}
NORM = "INSTANCE"


def _resized(features: torch.Tensor, size: torch.Size) -> torch.Tensor:
    mode = LINEAR[features.ndim - 2]
    return functional.interpolate(features, tuple(size), mode=mode, align_corners=False)


def _convolution(dims: int, channels_in: int, channels_out: int, **more: Any) -> nn.Module:
    block: nn.Module = Convolution(dims, channels_in, channels_out, act="LEAKYRELU", norm=NORM, **more)
    return block


def _head(dims: int, channels_in: int, classes: int, stride: int) -> nn.Module:
    """Logits at the size that the stem began with."""
    if stride == 1:
        return _convolution(dims, channels_in, classes, kernel_size=1, conv_only=True)
    return _convolution(dims, channels_in, classes, strides=stride, is_transposed=True, conv_only=True)


class DenseNetSegmenter(nn.Module):
    """DenseNet (Huang 2017) as the encoder of a U-shaped network (as FC-DenseNet, Jégou 2017).

    MONAI's DenseNet gives the dense blocks and transitions; its stem (stride 4, made for photographs) is replaced
    by a convolution of ``stem_stride``, because the structures here are a few voxels wide. ``block_config`` gives
    the layers of each dense block; sides must be multiples of ``stem_stride * 2 ** (len(block_config) - 1)``.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 2,
        init_features: int = 16,
        growth_rate: int = 8,
        block_config: Sequence[int] = (3, 4, 4, 4),
        bn_size: int = 2,
        stem_stride: int = 2,
    ) -> None:
        super().__init__()
        encoder = DenseNet(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=1,
            init_features=init_features,
            growth_rate=growth_rate,
            block_config=tuple(block_config),
            bn_size=bn_size,
            act="LEAKYRELU",
            norm=NORM,
        ).features
        self.stem = _convolution(spatial_dims, in_channels, init_features, strides=stem_stride)
        self.blocks = nn.ModuleList(getattr(encoder, f"denseblock{i + 1}") for i in range(len(block_config)))
        self.transitions = nn.ModuleList(getattr(encoder, f"transition{i + 1}") for i in range(len(block_config) - 1))
        widths, width = [], init_features
        for layers in block_config:
            width += layers * growth_rate
            widths.append(width)
            width //= 2
        self.ups = nn.ModuleList()
        above = widths[-1]
        for skip in reversed(widths[:-1]):
            self.ups.append(_convolution(spatial_dims, above + skip, max(init_features, skip // 2)))
            above = max(init_features, skip // 2)
        self.head = _head(spatial_dims, above, out_channels, stem_stride)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes, ...] of the images' size."""
        features, skips = self.stem(images), []
        for number, block in enumerate(self.blocks):
            features = block(features)
            if number < len(self.transitions):
                skips.append(features)
                features = self.transitions[number](features)
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            features = up(torch.cat([_resized(features, skip.shape[2:]), skip], dim=1))
        logits: torch.Tensor = self.head(features)
        return logits


class DeepLabV3Plus(nn.Module):
    """DeepLabv3+ (Chen 2018): residual encoder, atrous spatial pyramid, decoder with one low-level skip.

    The encoder halves the size once a level of ``channels`` after the first but the last, which widens its view by
    dilation instead (output stride 8 for four levels). The pyramid is MONAI's SimpleASPP.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 2,
        channels: Sequence[int] = (16, 32, 64, 96),
        aspp_channels: int = 24,
        low_level_channels: int = 12,
        dilations: Sequence[int] = (1, 2, 4, 6),
        stem_stride: int = 2,
    ) -> None:
        super().__init__()
        self.stem = _convolution(spatial_dims, in_channels, channels[0], strides=stem_stride)
        self.levels = nn.ModuleList()
        for number, (before, width) in enumerate(itertools.pairwise(channels)):
            last = number == len(channels) - 2
            self.levels.append(
                ResidualUnit(
                    spatial_dims,
                    before,
                    width,
                    strides=1 if last else 2,
                    dilation=2 if last else 1,
                    act="LEAKYRELU",
                    norm=NORM,
                )
            )
        self.aspp = SimpleASPP(spatial_dims, channels[-1], aspp_channels, dilations=tuple(dilations), norm_type=NORM)
        self.low = _convolution(spatial_dims, channels[0], low_level_channels, kernel_size=1)
        width = aspp_channels * len(dilations)
        self.squeeze = _convolution(spatial_dims, width, 2 * aspp_channels, kernel_size=1)
        self.decode = nn.Sequential(
            _convolution(spatial_dims, 2 * aspp_channels + low_level_channels, channels[1]),
            _convolution(spatial_dims, channels[1], channels[0]),
        )
        self.head = _head(spatial_dims, channels[0], out_channels, stem_stride)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes, ...] of the images' size."""
        low = self.stem(images)
        features = low
        for level in self.levels:
            features = level(features)
        features = _resized(self.squeeze(self.aspp(features)), low.shape[2:])
        logits: torch.Tensor = self.head(self.decode(torch.cat([features, self.low(low)], dim=1)))
        return logits
