"""From the configuration of a foreign MONAI bundle to a recipe, by reading it alone.

MONAI's ``inference.json`` is half declaration, half program: ``$`` marks Python, ``@`` refers to another key. The
declared half says all that a recipe needs; it is translated transform by transform, and what has no counterpart is
refused by its name. Nothing is evaluated; an ``@`` is looked up where it leads to plain values.

Axes: MONAI's arrays are [x, y, z] and Orientationd("RAS") lets x grow to the right, y to the front, z to the head.
A network's kernels know that order, so it is kept: our [slice, row, column] becomes [x, y, z], which is
``feed.axes`` = "SAR" (column, row and slice grow to S, A, R), with spacings turned round alike. Next: read.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from medai.models.errors import ModelUnavailable
from medai.models.networks.definition import FOREIGN, MONAI_NETWORKS

NO_CHANGE = frozenset(
    {
        *("LoadImage", "EnsureChannelFirst", "AddChannel", "EnsureType", "ToTensor", "CastToType", "ToDevice"),
        *("SelectItems", "Identity", "Invert", "SaveImage", "CopyItems", "DeleteItems", "ToNumpy", "AsChannelFirst"),
    }
)
"""Transforms that change no value, or whose work is done here in another way (reading, turning back, saving)."""
SKIPPED = {"CropForeground": "CropForegroundd is left out: the whole field of view is read"}
WINDOWS = frozenset({"SlidingWindowInferer", "SliceInferer"})
NO_PARAMETER = frozenset(
    {"_target_", "_desc_", "_requires_", "_disabled_", "_mode_", "keys", "allow_missing_keys", "transform"}
)
"""Keys of a step that are not about its values."""


@dataclass
class Draft:
    """A recipe in the making. ``axes`` and ``spacing_mm`` are in MONAI's order [x, y, z]."""

    axes: str = ""
    spacing_mm: tuple[float, ...] = ()
    intensity: dict[str, Any] = field(default_factory=dict)
    inferer: dict[str, Any] = field(default_factory=dict)
    cleaning: dict[str, Any] = field(default_factory=dict)
    slice_axis: int = 0
    remarks: list[str] = field(default_factory=list)


def translate(config: Mapping[str, Any], *, network: bool) -> tuple[dict[str, Any], list[str]]:
    """The recipe of an inference configuration, and remarks on what is done otherwise.

    ``network`` says whether ``network_def`` is needed (weights alone), or the graph is in the file. Raises
    ModelUnavailable, naming the transform or the key that cannot be translated.
    """
    draft = Draft()
    for step in _steps(config, "preprocessing"):
        _apply(PREPROCESSING, step, draft, config, "preprocessing")
    for step in _steps(config, "postprocessing"):
        _apply(POSTPROCESSING, step, draft, config, "postprocessing")
    _inferer(_table(config, "inferer"), draft, config)
    recipe: dict[str, Any] = {"feed": _feed(draft), "inferer": draft.inferer}
    if draft.cleaning:
        recipe["cleaning"] = draft.cleaning
    if network:
        recipe["network_def"] = network_def(config)
    return recipe, draft.remarks


def network_def(config: Mapping[str, Any]) -> dict[str, Any]:
    """The network's definition with its class's full name and its references looked up."""
    found = looked_up(_table(config, "network_def"), config, "network_def")
    name = str(found.pop("_target_", "")).rpartition(".")[2]
    found = {key: value for key, value in found.items() if key not in NO_PARAMETER}
    if name not in FOREIGN:
        raise ModelUnavailable(
            f"network_def names {name or 'no _target_'}; of MONAI's networks {', '.join(sorted(FOREIGN))} are built. "
            "Any other runs as TorchScript: put models/model.ts into the bundle"
        )
    if found.get("in_channels", 1) != 1:
        raise ModelUnavailable(f"network_def reads {found['in_channels']} channels; a model here reads one image")
    return {"_target_": f"{MONAI_NETWORKS}{name}", **found}


def looked_up(value: Any, config: Mapping[str, Any], where: str, depth: int = 0) -> Any:
    """A value whose ``@`` references are replaced by what they name; expressions are refused."""
    if depth > 20:
        raise ModelUnavailable(f"{where}: its references form a circle")
    if isinstance(value, Mapping):
        return {key: looked_up(item, config, f"{where}.{key}", depth) for key, item in value.items()}
    if isinstance(value, list):
        return [looked_up(item, config, where, depth) for item in value]
    if isinstance(value, str) and value.startswith("@"):
        return looked_up(_referred(value, config, where), config, where, depth + 1)
    if isinstance(value, str) and value.startswith(("$", "%")):
        raise ModelUnavailable(
            f"{where} is the expression {value!r}; expressions are code and are not run: write it out"
        )
    return value


def _referred(reference: str, config: Mapping[str, Any], where: str) -> Any:
    found: Any = config
    for part in re.split(r"::|#", reference.removeprefix("@")):
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        else:
            raise ModelUnavailable(f"{where} refers to {reference}, which is not there")
    return found


def _table(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = config.get(key)
    if isinstance(found, str) and found.startswith("@"):
        found = _referred(found, config, key)
    if not isinstance(found, Mapping):
        raise ModelUnavailable(f"the configuration has no {key} that is written out (a table with _target_)")
    return dict(found)


def _steps(config: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = _table(config, key)
    name = _base(str(found.get("_target_", "")))
    steps = found.get("transforms", []) if name == "Compose" else [found]
    if isinstance(steps, str):
        steps = looked_up(steps, config, f"{key}.transforms")
    return [_entry(step, config, key) for step in steps]


def _entry(step: Any, config: Mapping[str, Any], key: str) -> dict[str, Any]:
    if isinstance(step, str) and step.startswith("@"):
        step = _referred(step, config, key)
    if not isinstance(step, Mapping):
        raise ModelUnavailable(f"{key} holds {step!r}, which is no transform that is written out")
    return dict(step)


def _base(target: str) -> str:
    """A transform's plain name: Spacingd, SpacingD and monai.transforms.SpacingDict are all Spacing."""
    return re.sub(r"(?<=[a-z])(?:d|D|Dict)$", "", target.rpartition(".")[2])


Translator = Callable[[dict[str, Any], Draft], None]


def _apply(
    known: Mapping[str, Translator], step: dict[str, Any], draft: Draft, config: Mapping[str, Any], where: str
) -> None:
    target = str(step.get("_target_", ""))
    name = _base(target)
    if step.get("_disabled_") in (True, "true") or name in NO_CHANGE:
        return
    if name in SKIPPED:
        draft.remarks.append(SKIPPED[name])
        return
    if name not in known:
        raise ModelUnavailable(
            f"{where} uses {target or 'a step without _target_'}, which has no counterpart here "
            f"(there are {', '.join(sorted(known))})"
        )
    plain = {key: value for key, value in step.items() if key not in NO_PARAMETER}
    known[name](looked_up(plain, config, target), draft)


def _orientation(step: dict[str, Any], draft: Draft) -> None:
    axes = step.get("axcodes")
    if not isinstance(axes, str) or not re.fullmatch("[LRPAIS]{3}", axes):
        raise ModelUnavailable(f"Orientationd: axcodes {axes!r} are not three of L, R, P, A, I, S")
    draft.axes = axes


def _spacing(step: dict[str, Any], draft: Draft) -> None:
    pixdim = step.get("pixdim")
    if not isinstance(pixdim, list) or len(pixdim) != 3 or not all(_positive(side) for side in pixdim):
        raise ModelUnavailable(f"Spacingd: pixdim {pixdim!r} is not three sizes in millimetres")
    draft.spacing_mm = tuple(float(side) for side in pixdim)
    if step.get("mode", "bilinear") not in ("bilinear", 1, ["bilinear"]):
        draft.remarks.append(f"Spacingd: resampled linearly, not {step['mode']}")


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _intensity_range(step: dict[str, Any], draft: Draft) -> None:
    low, high = float(step["a_min"]), float(step["a_max"])
    below, above = step.get("b_min"), step.get("b_max")
    to = (0.0, 1.0) if below is None or above is None else (float(below), float(above))
    _one_intensity(draft, {"kind": "window", "low": low, "high": high, "to": to, "clip": bool(step.get("clip", False))})


def _percentiles(step: dict[str, Any], draft: Draft) -> None:
    if step.get("relative"):
        raise ModelUnavailable("ScaleIntensityRangePercentilesd with relative has no counterpart here")
    to = (float(step["b_min"]), float(step["b_max"]))
    low, high = float(step["lower"]), float(step["upper"])
    clip = bool(step.get("clip", False))
    _one_intensity(draft, {"kind": "percentile", "low": low, "high": high, "to": to, "clip": clip})


def _least_to_most(step: dict[str, Any], draft: Draft) -> None:
    if step.get("factor") is not None:
        raise ModelUnavailable("ScaleIntensityd with factor has no counterpart here")
    to = (float(step.get("minv", 0.0)), float(step.get("maxv", 1.0)))
    _one_intensity(draft, {"kind": "percentile", "low": 0.0, "high": 100.0, "to": to})


def _normalised(step: dict[str, Any], draft: Draft) -> None:
    mean, deviation = step.get("subtrahend"), step.get("divisor")
    nonzero = bool(step.get("nonzero", False))
    if mean is None and deviation is None:
        _one_intensity(draft, {"kind": "zscore", "low": 0.0, "high": 100.0, "nonzero": nonzero})
        return
    if mean is None or deviation is None or nonzero:
        raise ModelUnavailable("NormalizeIntensityd: give both subtrahend and divisor and not nonzero, or neither")
    mean, deviation = (float(v[0] if isinstance(v, list) else v) for v in (mean, deviation))
    _one_intensity(
        draft, {"kind": "window", "low": mean - deviation, "high": mean + deviation, "to": (-1.0, 1.0), "clip": False}
    )


def _one_intensity(draft: Draft, intensity: dict[str, Any]) -> None:
    if draft.intensity:
        raise ModelUnavailable("preprocessing scales intensities twice; one scaling can be translated")
    draft.intensity = intensity


def _activation(step: dict[str, Any], draft: Draft) -> None:
    if step.get("other"):
        raise ModelUnavailable("Activationsd: only softmax and sigmoid have counterparts here")
    draft.inferer["activation"] = "sigmoid" if step.get("sigmoid") else "softmax"


def _discrete(step: dict[str, Any], draft: Draft) -> None:
    threshold = step.get("threshold")
    if step.get("argmax") or threshold is None:
        return
    if draft.inferer.get("activation") != "sigmoid":
        raise ModelUnavailable("AsDiscreted: a threshold needs Activationsd with sigmoid before it")
    draft.inferer["threshold"] = float(threshold)


def _largest(step: dict[str, Any], draft: Draft) -> None:
    draft.cleaning["components"] = int(step.get("num_components", 1))
    if step.get("applied_labels") is not None:
        draft.remarks.append("KeepLargestConnectedComponentd is applied to every structure")


def _holes(_: dict[str, Any], draft: Draft) -> None:
    draft.cleaning["fill_holes"] = True


PREPROCESSING: Mapping[str, Translator] = {
    "Orientation": _orientation,
    "Spacing": _spacing,
    "ScaleIntensityRange": _intensity_range,
    "ScaleIntensityRangePercentiles": _percentiles,
    "ScaleIntensity": _least_to_most,
    "NormalizeIntensity": _normalised,
}
POSTPROCESSING: Mapping[str, Translator] = {
    "Activations": _activation,
    "AsDiscrete": _discrete,
    "KeepLargestConnectedComponent": _largest,
    "FillHoles": _holes,
}


def _inferer(table: dict[str, Any], draft: Draft, config: Mapping[str, Any]) -> None:
    name = str(table.get("_target_", "")).rpartition(".")[2]
    if name == "SimpleInferer":
        draft.inferer |= {"roi": (), "multiple": 32}
        return
    if name not in WINDOWS:
        raise ModelUnavailable(
            f"inferer is {name or 'without _target_'}; {', '.join(sorted(WINDOWS))} and SimpleInferer are known"
        )
    plain = looked_up({key: table[key] for key in table.keys() & INFERER_KEYS}, config, "inferer")
    roi = plain.get("roi_size")
    if not isinstance(roi, list) or not all(isinstance(side, int) and side > 0 for side in roi):
        raise ModelUnavailable(f"inferer: roi_size {roi!r} is not a list of sizes in voxels")
    if plain.get("padding_mode", "constant") not in ("constant", "replicate"):
        raise ModelUnavailable(f"inferer: padding_mode {plain['padding_mode']!r} has no counterpart here")
    draft.inferer |= {
        "dims": 2 if name == "SliceInferer" else 3,
        "roi": tuple(roi),
        "overlap": float(plain.get("overlap", 0.25)),
        "batch": int(plain.get("sw_batch_size", 1)),
        "blend": str(plain.get("mode", "constant")),
        "padding": str(plain.get("padding_mode", "constant")),
    }
    draft.slice_axis = int(plain.get("spatial_dim", 0)) if name == "SliceInferer" else 0


INFERER_KEYS = frozenset({"roi_size", "sw_batch_size", "overlap", "mode", "padding_mode", "spatial_dim"})


def _feed(draft: Draft) -> dict[str, Any]:
    """The feed, its axes and spacing put into our order: array [slice, row, column], names (column, row, slice)."""
    feed: dict[str, Any] = {"intensity": draft.intensity or {"kind": "none"}}
    # The slice axis of a slice-wise network comes first, the others keep their order.
    order = [draft.slice_axis, *(axis for axis in range(3) if axis != draft.slice_axis)]
    if draft.axes:
        feed["axes"] = "".join(draft.axes[axis] for axis in reversed(order))
    if draft.spacing_mm:
        feed["spacing_mm"] = tuple(draft.spacing_mm[axis] for axis in reversed(order))
    return feed
