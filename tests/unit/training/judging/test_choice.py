"""Which cases may judge a model."""

from __future__ import annotations

from pathlib import Path

import judging_cases as cases
import pytest

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
