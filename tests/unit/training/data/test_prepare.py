"""Cases as a network sees them: labels merged into classes, and images that two sides share noticed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from judging_cases import block_case

from medai.training.cases import Case
from medai.training.config import TrainingConfig, parse
from medai.training.data.prepare import merge, prepare, prepare_split
from medai.training.data.splits import Split
from medai.training.errors import DataError, LeakageError


def config(**classes: Sequence[int]) -> TrainingConfig:
    table: dict[str, Any] = {
        "name": "x", "data": {"classes": classes or {"shell": [1], "core": [2]}}, "feed": {"axes": "LPS"},
        "budget": {"patch": [8, 8, 8]},
    }  # fmt: skip
    return parse(table, where="test")


def case(name: str, noise: int) -> Case:
    return Case(name=name, patient=name, read=lambda: block_case(noise=noise))


def test_values_become_class_numbers_and_all_others_background() -> None:
    labels = np.array([[[0, 1, 2, 3, 7, 255]]], np.uint8)
    assert merge(labels, [[2, 7], [1]]).tolist() == [[[0, 2, 1, 0, 1, 0]]]


def test_a_case_is_scaled_and_its_labels_lie_on_the_networks_grid() -> None:
    example = block_case()
    found = prepare(case("a", 0), example, config(core=[2]))
    assert found.image.dtype == np.float32
    assert found.image.shape == found.target.shape == found.fed.grid.shape
    assert np.array_equal(found.target > 0, example.labels == 2)


def test_an_image_that_cannot_be_fed_names_its_case() -> None:
    example = block_case()
    example.volume.voxels[:] = 3
    with pytest.raises(DataError, match="case flat: the image is empty"):
        prepare(case("flat", 0), example, config())


def test_only_the_sides_asked_for_are_kept_but_all_are_watched() -> None:
    sides = Split(train=(case("a", 1),), validation=(case("b", 2),), test=(case("c", 3),))
    found = prepare_split(sides, config(), sides=("train", "validation"))
    assert {side: [one.name for one in prepared] for side, prepared in found.items()} == {
        "train": ["a"], "validation": ["b"],
    }  # fmt: skip
    with pytest.raises(LeakageError, match="hold the same image"):
        prepare_split(Split(train=(case("a", 1),), validation=(), test=(case("c", 1),)), config(), sides=("train",))


def test_a_class_that_no_training_case_holds_is_told() -> None:
    sides = Split(train=(case("a", 1),), validation=(), test=())
    with pytest.raises(DataError, match="no training case holds tail: check"):
        prepare_split(sides, config(core=[2], tail=[9]), sides=("train",))
