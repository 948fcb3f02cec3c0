"""Which cases may judge a model."""

from __future__ import annotations

from pathlib import Path

import judging_cases as cases
import pytest

from medai.training.cases import Case, Dataset, Example
from medai.training.errors import DataError, LeakageError, TrainingError
from medai.training.judging.choice import choose
from medai.training.runs import KeptSplit


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five cases: two that trained, three for the test; one of these lies a slice beside its truth."""
    return cases.write_blocks(tmp_path / "blocks", {"a": 0, "b": 0, "c": 0, "d": 1, "e": 0})


def test_a_test_case_of_a_patient_who_trained_the_model_is_leakage(tmp_path: Path, data: Path) -> None:
    from medai.training.data.datasets import open_dataset

    (data / "patients.csv").write_text("name,patient\na,p1\nc,p1\n", encoding="utf-8")
    kept = KeptSplit(dataset="blocks", sides={"train": ("a",), "validation": ("b",), "test": ("c",)})
    with pytest.raises(LeakageError, match="c is a test case of a patient who is in the training"):
        choose(open_dataset(str(data)), kept)


def test_without_a_kept_split_there_are_no_sides(data: Path) -> None:
    from medai.training.data.datasets import open_dataset

    with pytest.raises(TrainingError, match="keeps no split"):
        choose(open_dataset(str(data)), None, side="test")
    with pytest.raises(DataError, match="has no case z"):
        choose(open_dataset(str(data)), None, names=["z"])


def five(**sides: str) -> tuple[Dataset, KeptSplit]:
    """Cases a to e, of which d and e are of one patient, and a split by letters."""

    def unread() -> Example:
        raise AssertionError("a choice needs no voxels")

    cases = tuple(Case(name=name, patient="p" if name in "de" else name, read=unread) for name in "abcde")
    letters = {"train": "", "validation": "", "test": "", **sides}
    kept = KeptSplit(dataset="five", sides={side: tuple(names) for side, names in letters.items()})
    return Dataset(name="five", cases=cases), kept


def test_the_test_side_judges_where_its_cases_are_there_and_every_case_elsewhere() -> None:
    dataset, kept = five(train="a", validation="b", test="c")
    assert [case.name for case in choose(dataset, kept).cases] == ["c"]
    _, elsewhere = five(train="a", test="cx")
    found = choose(dataset, elsewhere)
    assert (found.side, len(found.cases), found.seen) == ("all", 5, 1)
    assert "not that of the split" in found.reason


def test_a_limit_takes_the_first_and_says_so_only_where_it_cuts() -> None:
    dataset, kept = five(test="abc")
    assert choose(dataset, kept, limit=2).reason == "the test side of the model's split; the first 2 of them"
    assert choose(dataset, kept, limit=9).reason == "the test side of the model's split"


def test_named_cases_judge_and_those_that_the_model_knows_are_counted_by_name_and_by_patient() -> None:
    dataset, kept = five(train="ad")
    found = choose(dataset, kept, names=["a", "b", "e"])
    assert [case.name for case in found.cases] == ["a", "b", "e"]
    assert (found.side, found.seen) == ("named", 2), "e is of the patient of d"


def test_a_side_that_the_data_set_lacks_or_that_is_empty_is_told() -> None:
    dataset, kept = five(test="cx", validation="")
    with pytest.raises(
        DataError, match=r"five lacks 1 of the 2 test cases of the model's split \(of five\), such as x"
    ):
        choose(dataset, kept, side="test")
    with pytest.raises(DataError, match="the side validation holds no case"):
        choose(dataset, kept, side="validation")
