"""Small runs, bundles and data sets whose right answers are known: a network that compares voxels with thresholds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from medai.models.geometry import Geometry
from medai.models.networks.definition import build
from medai.models.volume import Volume
from medai.training.cases import Example
from medai.training.config import TrainingConfig, parse
from medai.training.data.datasets import write_pair
from medai.training.export.bundle import export
from medai.training.export.description import read_description

CORE, SHELL, NOTHING = 4.0, 2.0, 0.0
"""Voxel values that the network draws as core, as shell, and not at all."""
NETWORK: dict[str, Any] = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [2, 2],
    "strides": [1],
    "kernel_size": 1,
    "up_kernel_size": 1,
    "act": "RELU",
    "norm": "BATCH",
}
DESCRIPTION = """\
title = "Shell and core of a block"
task = "Block in MR"
description = "Draws the shell and the core of a bright block."
licence = "Apache-2.0"
data_source = "Generated blocks."
data_licence = "none needed"
intended_use = "To test the judging of models."
limits = ["It knows nothing but blocks."]
references = ["Nobody, Nowhere (2026)"]

[input]
modalities = ["MR"]

[[segments]]
number = 1
name = "Shell"
category = ["91723000", "SCT", "Anatomical Structure"]
type = ["12738006", "SCT", "Brain"]
colour = [255, 176, 0]
plausible = { ml = [0.01, 10.0], refuse_below_ml = 0.0 }

[[segments]]
number = 2
name = "Core"
category = ["91723000", "SCT", "Anatomical Structure"]
type = ["12738006", "SCT", "Brain"]
colour = [0, 176, 240]
plausible = { ml = [0.001, 10.0], warn_at_edge = false }
"""


def threshold_weights(*, outer: float = 1.0, core: float = 3.0) -> dict[str, torch.Tensor]:
    """Weights that make class 1 of values above ``outer`` and class 2 of values above ``core``."""
    network = build(NETWORK)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    for name, value in weights.items():
        if value.is_floating_point() and "running_var" not in name and not name.endswith("adn.N.weight"):
            value.zero_()
    # The first layer keeps a value's positive and negative part apart; the last one compares with thresholds.
    weights["model.0.conv.weight"][:, 0, 0, 0, 0] = torch.tensor([1.0, -1.0])
    last = weights["model.2.conv.weight"]  # [in, out, 1, 1, 1] of a transposed convolution
    for channel, slope in enumerate((0.0, 1.0, 2.0)):
        last[0, channel], last[1, channel] = slope, -slope
    weights["model.2.conv.bias"].copy_(torch.tensor([0.0, -outer, -outer - core]))
    return weights


def training_config(name: str = "blocks", **sections: Any) -> TrainingConfig:
    """The configuration of the runs here."""
    table: dict[str, Any] = {
        "name": name,
        "data": {"root": "/nowhere/data", "classes": {"shell": [1], "core": [2]}},
        "feed": {"intensity": {"kind": "none"}},
        "inferer": {"multiple": 4},
        "budget": {"patch": [8, 8, 8]},
        **sections,
    }
    return parse(table, where="test")


def make_run(
    folder: Path,
    *,
    weights: Mapping[str, torch.Tensor] | None = None,
    split: Mapping[str, Sequence[str]] | None = None,
    network_def: Mapping[str, Any] = NETWORK,
    dataset: str = "blocks",
    config: TrainingConfig | None = None,
) -> Path:
    """A finished run, as ``medai-train fit`` leaves it."""
    from medai.training.config import to_toml

    folder.mkdir(parents=True)
    settings = config or training_config()
    (folder / "config.toml").write_text(to_toml(settings), encoding="utf-8")
    sides = {"train": ["a"], "validation": ["b"], "test": ["c"], **(split or {})}
    (folder / "split.json").write_text(json.dumps({"dataset": dataset, **sides}), encoding="utf-8")
    summary = {
        "name": settings.name,
        "network_def": dict(network_def),
        "classes": list(settings.data.classes),
        "parameters": 33,
        "seed": 1,
        "epochs": 3,
        "best_epoch": 2,
        "best_score": 0.9,
        "seconds": 90.0,
        "device": "cpu",
        "versions": {"python": "3.11", "torch": "2.13.0+cpu", "monai": "1.6.1"},
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (folder / "history.csv").write_text("epoch,loss,score\n0,1.0,\n1,0.6,0.5\n2,0.4,0.9\n", encoding="utf-8")
    save_file(dict(weights or threshold_weights()), folder / "best.safetensors")
    return folder


def write_description(folder: Path, text: str = DESCRIPTION) -> Path:
    """The description as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "blocks.bundle.toml"
    path.write_text(text, encoding="utf-8")
    return path


def block_case(
    *,
    shift: int = 0,
    side: int = 6,
    shape: tuple[int, int, int] = (16, 16, 16),
    spacing_mm: float = 1.0,
    noise: int = 0,
) -> Example:
    """A block of ``side`` voxels with a core of half the side; the truth lies ``shift`` slices beside what is seen."""
    voxels, labels = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.uint8)
    low, inner = 4, 4 + side // 4
    core = side // 2
    block = (slice(low, low + side),) * 3
    middle = (slice(inner, inner + core),) * 3
    voxels[block], voxels[middle] = SHELL, CORE
    labels[block], labels[middle] = 1, 2
    voxels += np.random.default_rng(noise).normal(0, 0.05, shape).astype(np.float32)
    geometry = Geometry(
        origin_mm=(0.0, 0.0, 0.0),
        direction=(1, 0, 0, 0, 1, 0, 0, 0, 1),
        spacing_mm=(spacing_mm,) * 3,
        shape=shape,
    )
    volume = Volume(voxels=voxels, geometry=geometry, modality="MR")
    return Example(volume=volume, labels=np.roll(labels, shift, axis=0))


def write_blocks(folder: Path, shifts: Mapping[str, int], *, spacing_mm: float = 1.0) -> Path:
    """A data set: per case name, how far the truth lies beside what the network draws."""
    for number, (name, shift) in enumerate(shifts.items()):
        write_pair(block_case(shift=shift, spacing_mm=spacing_mm, noise=number), name, folder)
    return folder


def exported(tmp_path: Path, name: str = "blocks", **options: object) -> Path:
    run = tmp_path / "run"
    if not run.exists():
        make_run(run)
    bundle = tmp_path / "bundles" / name
    description = read_description(write_description(tmp_path))
    export([run], bundle, description, **options)  # type: ignore[arg-type]
    return bundle
