"""What a training leaves in its folder, and when it may go on there."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from medai.training.config import TrainingConfig, parse, read
from medai.training.errors import TrainingError
from medai.training.fitting.run_folder import RunFolder
from medai.training.fitting.task import State


def config(**changes: Any) -> TrainingConfig:
    table: dict[str, Any] = {"name": "x", "data": {"classes": {"a": [1]}}, "budget": {"patch": [8, 8, 8]}}
    return parse({**table, **changes}, where="test")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A training that has done an epoch."""
    found = RunFolder(tmp_path / "run")
    found.start(config())
    found.keep({"state": {"epoch": 1}, "network": {"w": torch.ones(2)}}, [{"epoch": 0.0, "loss": 2.0}])
    return found


def test_a_folder_begins_with_its_configuration_and_is_not_begun_twice(folder: RunFolder) -> None:
    assert read(folder.path / "config.toml") == config()
    with pytest.raises(TrainingError, match="holds a training run: continue it with --resume"):
        folder.start(config())


def test_a_checkpoint_comes_back_and_holds_no_code(folder: RunFolder) -> None:
    found = folder.checkpoint()
    assert found["state"] == {"epoch": 1}
    assert torch.equal(found["network"]["w"], torch.ones(2))


def test_the_history_has_a_column_for_all_that_any_epoch_says(folder: RunFolder) -> None:
    folder.keep({}, [{"epoch": 0.0, "loss": 2.0}, {"epoch": 1.0, "loss": 1.0, "score": 0.5}])
    with (folder.path / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows == [{"epoch": "0.0", "loss": "2.0", "score": ""}, {"epoch": "1.0", "loss": "1.0", "score": "0.5"}]


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"classes": {"a": [1]}, "root": "/elsewhere"}},
        {"compute": {"threads": 3}},
        {"budget": {"patch": [8, 8, 8], "minutes": 5.0}},
    ],
)
def test_a_training_goes_on_elsewhere_on_another_machine_and_for_another_time(
    change: dict[str, Any], folder: RunFolder
) -> None:
    folder.require_same(config(**change))


@pytest.mark.parametrize("change", [{"seed": 9}, {"data": {"classes": {"a": [2]}}}, {"optimiser": {"lr": 0.5}}])
def test_another_training_does_not_go_on_here(change: dict[str, Any], folder: RunFolder) -> None:
    with pytest.raises(TrainingError, match="differs from the configuration given"):
        folder.require_same(config(**change))


def test_nothing_to_go_on_with_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no training run to continue; leave out --resume"):
        RunFolder(tmp_path).require_same(config())


def test_the_best_weights_and_the_summary_are_what_a_bundle_is_made_of(folder: RunFolder) -> None:
    network = torch.nn.Linear(2, 1)
    folder.keep_best(network)
    assert torch.equal(load_file(folder.path / "best.safetensors")["weight"], network.weight)
    state = State(epoch=3, best=0.75, best_epoch=2, seconds=90.0)
    summary = folder.finish(config(), {"_target_": "x"}, network, state, device="cpu")
    assert summary.parameters == 3
    assert summary.text() == "x: 3 epochs in 1.5 minutes on cpu, 3 parameters; best score 0.7500 in epoch 2"
    assert (folder.path / "summary.json").read_text() == summary.json()
    assert not list(folder.path.glob("*.part"))


def test_the_split_is_kept_with_its_data_set(folder: RunFolder) -> None:
    folder.keep_split({"train": ["a"], "validation": [], "test": ["b"]}, "blocks")
    assert folder.split() == {"dataset": "blocks", "train": ["a"], "validation": [], "test": ["b"]}
