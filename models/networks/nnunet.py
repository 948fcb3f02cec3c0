"""nnU-Net v2: the network of its plans with the weights of its folds, whose logits are averaged.

The architectures come from the package dynamic-network-architectures, which nnU-Net itself uses; only those listed
here are built, from numbers and from names of torch's own layers. Next: foreign/read.py (from a results folder to a
recipe), runners.py.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch

from medai.models.errors import ModelUnavailable

PACKAGE = "dynamic_network_architectures"
ARCHITECTURES = frozenset({f"{PACKAGE}.architectures.unet.{name}" for name in ("PlainConvUNet", "ResidualEncoderUNet")})
BLOCKS = frozenset({f"{PACKAGE}.building_blocks.residual.{name}" for name in ("BasicBlockD", "BottleneckD")})
LAYERS = frozenset(
    {
        *("Conv2d", "Conv3d", "InstanceNorm2d", "InstanceNorm3d", "BatchNorm2d", "BatchNorm3d"),
        *("LeakyReLU", "ReLU", "GELU", "SiLU", "Dropout2d", "Dropout3d"),
    }
)
CLASSES = ("conv_op", "norm_op", "dropout_op", "nonlin", "block")
"""Parameters of an architecture that name a class."""


def build(network_def: Mapping[str, Any]) -> torch.nn.Module:
    """A network of nnU-Net with fresh weights. Raises ModelUnavailable, saying what is wrong with its definition."""
    parameters = {key: _plain(value, key) for key, value in network_def.items() if key != "_target_"}
    for key in CLASSES:
        if isinstance(parameters.get(key), str):
            parameters[key] = _class(key, str(parameters[key]))
    target = str(network_def.get("_target_", ""))
    if target not in ARCHITECTURES:
        raise ModelUnavailable(
            f"the architecture {target or 'without a name'} is not one of {', '.join(sorted(ARCHITECTURES))}"
        )
    try:
        network: torch.nn.Module = _import(target)(**{**parameters, "deep_supervision": False})
    except (TypeError, ValueError, KeyError, IndexError, AssertionError) as error:
        raise ModelUnavailable(f"the network {target} cannot be built of these parameters: {error}") from error
    return network


def _plain(value: Any, key: str) -> Any:
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, key) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item, key) for name, item in value.items()}
    raise ModelUnavailable(f"{key} must be numbers, words or lists of them")


def _class(key: str, target: str) -> Any:
    if target in BLOCKS:
        return _import(target)
    name = target.rpartition(".")[2]
    if name in LAYERS and target.startswith("torch.nn."):
        return getattr(torch.nn, name)
    raise ModelUnavailable(f"{key} names {target}; it may be, of torch.nn, {', '.join(sorted(LAYERS))}")


def _import(target: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise ModelUnavailable(
            "a model of nnU-Net needs its architectures: pip install --no-deps dynamic-network-architectures"
        ) from error
