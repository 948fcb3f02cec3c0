"""Whole patients on one side each, drawn by a seed; what would make a model look better than it is is an error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medai.training.cases import Case, Dataset, Example
from medai.training.config import SplitConfig
from medai.training.data.splits import ImageWatch, by_names, split
from medai.training.errors import DataError, LeakageError


def unread() -> Example:
    raise AssertionError("a split needs no voxels")


def dataset(patients: int = 20, each: int = 2) -> Dataset:
    return Dataset(
        name="d",
        cases=tuple(
            Case(name=f"c{number:02}-{part}", patient=f"p{number:02}", read=unread)
            for number in range(patients)
            for part in range(each)
        ),
    )


def names(of: Dataset, **config: object) -> dict[str, set[str]]:
    found = split(of, SplitConfig(**config)).names()  # type: ignore[arg-type]
    return {side: set(cases) for side, cases in found.items()}


def test_each_patient_is_on_one_side_and_every_case_on_some() -> None:
    found = names(dataset(), test=0.2, validation=0.25)
    assert sum(map(len, found.values())) == 40
    assert len(found["test"]) == 2 * 4
    assert len(found["validation"]) == 2 * 4
    patients = [{name[:3] for name in side} for side in found.values()]
    assert sum(map(len, patients)) == 20


def test_the_draw_is_the_seeds_and_not_the_orders() -> None:
    given = dataset()
    turned = replace(given, cases=given.cases[::-1])
    assert names(given, seed=3) == names(turned, seed=3)
    assert names(given, seed=3) != names(given, seed=4)


def test_a_new_patient_does_not_reshuffle_those_that_were_held_out() -> None:
    before = names(dataset(20), test=0.2)["test"]
    after = names(dataset(21), test=0.2)["test"]
    assert len(before & after) >= len(before) - 2


def test_named_test_cases_take_their_whole_patient_along() -> None:
    found = names(dataset(), test_cases=("c03-0",), validation=0.0)
    assert found["test"] == {"c03-0", "c03-1"}
    with pytest.raises(DataError, match="d has no case nobody"):
        names(dataset(), test_cases=("nobody",))


def test_folds_validate_every_patient_once_and_hold_out_the_same_ones() -> None:
    folds = [names(dataset(), test=0.2, folds=4, fold=fold) for fold in range(4)]
    assert len({frozenset(fold["test"]) for fold in folds}) == 1
    validated = [name for fold in folds for name in fold["validation"]]
    assert len(validated) == len(set(validated)) == 32


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"folds": 4, "fold": 4}, "fold 4 does not exist: 4 folds are counted from 0"),
        ({"folds": 30, "fold": 0, "test": 0.0}, "20 patients cannot be cut into 30 folds"),
        ({"test_cases": tuple(f"c{n:02}-0" for n in range(20))}, "d leaves no case to train on"),
    ],
)
def test_a_split_that_cannot_be_is_told(config: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        names(dataset(), **config)


def test_a_kept_split_comes_back_by_its_names() -> None:
    given = dataset(3, 1)
    kept = {"train": ["c00-0"], "validation": [], "test": ["c02-0"]}
    assert by_names(given, kept).names() == kept
    with pytest.raises(DataError, match="no case c09-0"):
        by_names(given, {"train": ["c09-0"]})


def test_one_patient_on_two_sides_is_leakage() -> None:
    with pytest.raises(LeakageError, match=r"cases c01-0 \(train\) and c01-1 \(test\) are of one patient"):
        by_names(dataset(), {"train": ["c01-0"], "validation": [], "test": ["c01-1"]})


def test_the_same_voxels_on_two_sides_are_leakage_and_on_one_side_are_not() -> None:
    one, other, third = dataset().cases[:3]
    watch, voxels = ImageWatch(), np.arange(24).reshape(2, 3, 4)
    watch.look("train", one, voxels)
    watch.look("train", other, voxels.copy())
    watch.look("test", other, voxels.reshape(4, 3, 2))  # another shape is another image
    with pytest.raises(LeakageError, match=r"cases c00-0 \(train\) and c01-0 \(test\) hold the same image"):
        watch.look("test", third, np.asfortranarray(voxels))
