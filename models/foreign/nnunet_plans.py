"""From the plans of an nnU-Net v2 results folder to a recipe: what its preprocessing and prediction would do.

Followed: axes (``transpose_forward``), spacing, normalisation, patch size with half overlap and Gaussian weights,
mirroring, the mean over folds. Done otherwise: images are resampled linearly (nnU-Net: cubic splines), and the
empty border of an image is not cut off first. Next: networks/nnunet.py (the network), read.py (the folder).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medai.models.errors import ModelUnavailable
from medai.models.networks.nnunet import PACKAGE

STORED_AXES = "LPS"
"""How the training images lay in their files, where the user does not say otherwise: axial, as DICOM has them."""


def translate(
    plans: Mapping[str, Any],
    dataset: Mapping[str, Any],
    name: str,
    *,
    mirror: Sequence[int] = (),
    axes: str = STORED_AXES,
) -> dict[str, Any]:
    """The recipe of one configuration, such as 3d_fullres. Raises ModelUnavailable for what has no counterpart."""
    configuration = _configuration(plans, name)
    if configuration.get("previous_stage"):
        raise ModelUnavailable(f"{name} is the second stage of a cascade, which does not run here: train 3d_fullres")
    if len(channels(dataset)) != 1:
        raise ModelUnavailable(f"the model reads {len(channels(dataset))} images; a model here reads one")
    patch = [int(side) for side in configuration["patch_size"]]
    dims = len(patch)
    return {
        "runner": "nnunet",
        "network_def": _network_def(configuration, dims, classes=len(labels(dataset)) + 1),
        "feed": {
            "axes": _axes(axes, plans.get("transpose_forward", [0, 1, 2])),
            "spacing_mm": _spacing_mm(configuration["spacing"]),
            "intensity": _intensity(plans, configuration),
        },
        "inferer": {
            "dims": dims,
            "roi": tuple(patch),
            "overlap": 0.5,
            "padding": "constant",
            # The network's axes; a slice-wise one does not see the first axis of the array.
            "mirror": tuple(int(axis) + 3 - dims for axis in mirror),
        },
    }


def labels(dataset: Mapping[str, Any]) -> dict[int, str]:
    """The structures' names by their value. Raises ModelUnavailable for regions, which overlap."""
    found = dataset.get("labels", {})
    if "regions_class_order" in dataset or not all(isinstance(value, int) for value in found.values()):
        raise ModelUnavailable("dataset.json defines overlapping regions; plain labels 1, 2, ... can be read")
    return {value: str(key) for key, value in sorted(found.items(), key=lambda item: item[1]) if _counts(key, value)}


def _counts(name: str, value: int) -> bool:
    return value > 0 and name != "ignore"


def channels(dataset: Mapping[str, Any]) -> list[str]:
    """The names of the images that the network reads together."""
    found = dataset.get("channel_names") or dataset.get("modality") or {}
    return [str(found[key]) for key in sorted(found, key=int)]


def _configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration with what it inherits."""
    there = plans.get("configurations", {})
    chain: list[dict[str, Any]] = []
    wanted: Any = name
    while wanted is not None:
        if wanted not in there or len(chain) > len(there):
            raise ModelUnavailable(f"plans.json has no configuration {wanted!r}; there are {', '.join(sorted(there))}")
        chain.append(there[wanted])
        wanted = there[wanted].get("inherits_from")
    return {key: value for one in reversed(chain) for key, value in one.items()}


def _network_def(configuration: Mapping[str, Any], dims: int, *, classes: int) -> dict[str, Any]:
    if "architecture" in configuration:
        architecture = configuration["architecture"]
        target, parameters = str(architecture["network_class_name"]), dict(architecture["arch_kwargs"])
    else:
        target, parameters = _before_2_5(configuration, dims)
    if target == f"{PACKAGE}.architectures.residual_unet.ResidualEncoderUNet":  # where it was once
        target = f"{PACKAGE}.architectures.unet.ResidualEncoderUNet"
    return {"_target_": target, **parameters, "input_channels": 1, "num_classes": classes}


def _before_2_5(configuration: Mapping[str, Any], dims: int) -> tuple[str, dict[str, Any]]:
    """Older plans describe the network by its pools; these parameters were the same for all of them."""
    name = str(configuration.get("UNet_class_name", ""))
    encoder = configuration.get("n_conv_per_stage_encoder", [])
    base, most = configuration.get("UNet_base_num_features", 32), configuration.get("unet_max_num_features", 320)
    convolutions = "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"
    return f"{PACKAGE}.architectures.unet.{name}", {
        "n_stages": len(encoder),
        "features_per_stage": [min(base * 2**stage, most) for stage in range(len(encoder))],
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "kernel_sizes": configuration.get("conv_kernel_sizes", []),
        "strides": configuration.get("pool_op_kernel_sizes", []),
        convolutions: encoder,
        "n_conv_per_stage_decoder": configuration.get("n_conv_per_stage_decoder", []),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def _axes(stored: str, forward: Sequence[int]) -> str:
    """Where column, row and slice grow after nnU-Net's transposition; ``stored`` says it of the files' x, y, z."""
    if sorted(forward) != [0, 1, 2]:
        raise ModelUnavailable(f"plans.json: transpose_forward {list(forward)} is not an order of three axes")
    array = stored[::-1]  # nnU-Net reads [z, y, x]
    return "".join(array[axis] for axis in reversed(forward))


def _spacing_mm(spacing: Sequence[float]) -> tuple[float, float, float]:
    """From nnU-Net's order [z, y, x] (2D: [y, x], slices are kept) to x, y, z."""
    z, y, x = ([0.0] * (3 - len(spacing))) + [float(side) for side in spacing]
    return x, y, z


def _intensity(plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> dict[str, Any]:
    scheme = str(configuration["normalization_schemes"][0])
    if scheme == "CTNormalization":
        known = plans["foreground_intensity_properties_per_channel"]["0"]
        mean, deviation = float(known["mean"]), max(float(known["std"]), 1e-8)
        low, high = float(known["percentile_00_5"]), float(known["percentile_99_5"])
        return {"kind": "window", "low": low, "high": high, "to": ((low - mean) / deviation, (high - mean) / deviation)}
    if scheme == "ZScoreNormalization":
        masked = bool(configuration.get("use_mask_for_norm", [False])[0])
        return {"kind": "zscore", "low": 0.0, "high": 100.0, "nonzero": masked}
    if scheme == "RescaleTo01Normalization":
        return {"kind": "percentile", "low": 0.0, "high": 100.0, "to": (0.0, 1.0)}
    if scheme == "NoNormalization":
        return {"kind": "none"}
    raise ModelUnavailable(f"the normalisation {scheme} has no counterpart here")
