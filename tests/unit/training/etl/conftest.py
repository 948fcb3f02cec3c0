"""A small data set and its configuration, for the steps of the pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judging_cases import block_case

from medai.training import config
from medai.training.config import TrainingConfig
from medai.training.data.datasets import write_pair

CONFIG = """\
name = "blocks"
seed = 5

[data]
classes = { core = [2], shell = [1] }

[split]
test = 0.25
validation = 0.25

[feed]
axes = "RAS"
spacing_mm = [2.0, 2.0, 2.0]
intensity = { kind = "zscore", low = 1.0, high = 99.0 }

[budget]
patch = [8, 8, 8]
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight cases of four patients."""
    folder = tmp_path / "data"
    for number in range(8):
        example = block_case(noise=number + 1, side=6 + number % 2)
        voxels = example.volume.voxels + np.random.default_rng(number).normal(0, 0.4, (16, 16, 16))
        volume = replace(example.volume, voxels=voxels.astype(np.float32))
        write_pair(replace(example, volume=volume), f"case{number}", folder)
    rows = [f"case{number},person{number // 2}" for number in range(8)]
    (folder / "patients.csv").write_text("\n".join(["name,patient", *rows, ""]), encoding="utf-8")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> TrainingConfig:
    """The configuration, also as config.toml."""
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    return config.read(tmp_path / "config.toml")
