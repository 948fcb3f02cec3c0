"""Network architectures: ``definition`` by name for training, ``build`` by definition for bundles.

A definition is MONAI's notation (``_target_`` and plain parameters). ``build`` makes the network of a definition,
and only of the targets listed here: a bundle's file never chooses what code runs. MONAI is imported when one of its
networks is built, not before (it takes seconds). Next: architectures.py (ours on MONAI's blocks), segmenters/load.py.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from medai.models.errors import ModelUnavailable

OURS: Mapping[str, str] = {
    "medai.models.networks.definition.SmallUNet": "medai.models.networks.definition",
    "medai.models.networks.architectures.DenseNetSegmenter": "medai.models.networks.architectures",
    "medai.models.networks.architectures.DeepLabV3Plus": "medai.models.networks.architectures",
    # as bundles made before 0.2 name them
    "models.networks.SmallUNet": "medai.models.networks.definition",
    "models.architectures.DenseNetSegmenter": "medai.models.networks.architectures",
    "models.architectures.DeepLabV3Plus": "medai.models.networks.architectures",
}
MONAI_NETWORKS = "monai.networks.nets."
FOREIGN = frozenset(
    {
        *("AHNet", "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "DenseNet", "DenseNet121", "DenseNet169"),
        *("DynUNet", "FlexibleUNet", "HighResNet", "ResNet", "SegResNet", "SegResNetDS", "SEResNet50", "SwinUNETR"),
        *("UNet", "UNETR", "VNet"),
    }
)
"""Networks of MONAI that a bundle may name: they are built from numbers and words alone."""


def definition(
    name: str, *, dims: int, channels_in: int, channels_out: int, channels: Sequence[int], **more: Any
) -> dict[str, Any]:
    """The definition of a network by its short name: a key of DEFINITIONS.

    ``channels`` are the widths from the finest level to the coarsest (densenet: the stem's width, then the number
    of layers in each dense block). ``more`` overrides single parameters. Raises ModelUnavailable for another name.
    """
    if name not in DEFINITIONS:
        raise ModelUnavailable(f"there is no network {name!r}; there are {', '.join(DEFINITIONS)}")
    return {**DEFINITIONS[name](dims, channels_in, channels_out, list(channels)), **more}


def _unet(dims: int, channels_in: int, channels_out: int, channels: list[int]) -> dict[str, Any]:
    """MONAI's U-Net with residual units (Kerfoot 2018): its first level is at half the size, which makes it fast."""
    return {
        "_target_": f"{MONAI_NETWORKS}UNet",
        "spatial_dims": dims,
        "in_channels": channels_in,
        "out_channels": channels_out,
        "channels": channels,
        "strides": [2] * (len(channels) - 1),
        "num_res_units": 2,
        "norm": "INSTANCE",
    }


def _densenet(dims: int, channels_in: int, channels_out: int, channels: list[int]) -> dict[str, Any]:
    return {
        "_target_": "medai.models.networks.architectures.DenseNetSegmenter",
        "spatial_dims": dims,
        "in_channels": channels_in,
        "out_channels": channels_out,
        "init_features": channels[0],
        "block_config": channels[1:],
    }


def _deeplab(dims: int, channels_in: int, channels_out: int, channels: list[int]) -> dict[str, Any]:
    return {
        "_target_": "medai.models.networks.architectures.DeepLabV3Plus",
        "spatial_dims": dims,
        "in_channels": channels_in,
        "out_channels": channels_out,
        "channels": channels,
    }


def _classifier(dims: int, channels_in: int, channels_out: int, channels: list[int]) -> dict[str, Any]:
    return {
        "_target_": f"{MONAI_NETWORKS}DenseNet",
        "spatial_dims": dims,
        "in_channels": channels_in,
        "out_channels": channels_out,
        "init_features": channels[0],
        "growth_rate": 12,
        "bn_size": 2,
        "block_config": channels[1:],
    }


DEFINITIONS: Mapping[str, Callable[[int, int, int, list[int]], dict[str, Any]]] = {
    "unet": _unet,
    "densenet": _densenet,
    "deeplabv3plus": _deeplab,
    "densenet_classifier": _classifier,
}


def build(network_def: Mapping[str, Any]) -> nn.Module:
    """The network of a definition, with fresh weights. Raises ModelUnavailable, saying what is wrong with it."""
    parameters = dict(network_def)
    target = str(parameters.pop("_target_", ""))
    _plain(parameters, "network_def")
    try:
        network: nn.Module = _class(target)(**parameters)
    except ImportError as error:
        raise ModelUnavailable(f"the network {target} needs {error.name or 'MONAI'}: pip install monai") from error
    except (TypeError, ValueError, KeyError, IndexError, AssertionError, NotImplementedError) as error:
        raise ModelUnavailable(f"the network {target} cannot be built of these parameters: {error}") from error
    return network


def _class(target: str) -> Callable[..., nn.Module]:
    name = target.rpartition(".")[2]
    found: Callable[..., nn.Module]
    if target in OURS:
        found = getattr(importlib.import_module(OURS[target]), name)
        return found
    if target.startswith(MONAI_NETWORKS) and name in FOREIGN:
        found = getattr(importlib.import_module("monai.networks.nets"), name)
        return found
    known = ", ".join(sorted(FOREIGN))
    raise ModelUnavailable(
        f"network_def names {target or 'no _target_'}; a bundle may name one of ours or, of {MONAI_NETWORKS}, {known}. "
        "Any other network runs as TorchScript or ONNX"
    )


def _plain(value: Any, where: str) -> None:
    """Numbers, words and lists of them; MONAI's ``$`` and ``@`` expressions would be code."""
    if isinstance(value, dict):
        for key, item in value.items():
            _plain(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for item in value:
            _plain(item, where)
    elif isinstance(value, str) and value.startswith(("$", "@", "%")):
        raise ModelUnavailable(
            f"{where} is the expression {value!r}; expressions are code and are not run. Write it out"
        )


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
