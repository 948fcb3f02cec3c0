"""Weights are stored whole or rounded, and rounding may not change what is drawn."""

from __future__ import annotations

from pathlib import Path

import judging_cases as cases
import pytest
import torch
from judging_cases import exported
from safetensors.torch import load_file

from medai.training.errors import TrainingError


def test_weights_in_16_bits_take_half_and_draw_the_same(tmp_path: Path) -> None:
    bundle = exported(tmp_path, half=True)
    weights = load_file(bundle / "models" / "model.safetensors")
    assert all(value.dtype is torch.float16 for value in weights.values() if value.is_floating_point())
    assert "Rounding changed the class of 0.0000%" in (bundle / "docs" / "README.md").read_text(encoding="utf-8")


def test_weights_beyond_16_bits_are_refused(tmp_path: Path) -> None:
    cases.make_run(tmp_path / "run", weights=cases.threshold_weights(outer=1e6))
    with pytest.raises(TrainingError, match="too large for 16 bits"):
        exported(tmp_path, half=True)


def test_rounding_that_changes_what_is_drawn_is_refused(tmp_path: Path) -> None:
    weights = cases.threshold_weights(outer=0.0, core=9.0)
    weights["model.0.conv.bias"].fill_(3000.0)
    weights["model.2.conv.weight"][:2, 1] = torch.tensor([1.0, -0.9999]).reshape(2, 1, 1, 1)
    cases.make_run(tmp_path / "run", weights=weights)
    with pytest.raises(TrainingError, match="export without --half"):
        exported(tmp_path, half=True)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    cases.make_run(tmp_path / "run", weights={"somebody.else": torch.zeros(3)})
    with pytest.raises(TrainingError, match="does not fit the network"):
        exported(tmp_path)
