"""Run folders, read: what a run was, what it saw, and what several runs are together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import judging_cases as cases
import pytest

from medai.training import config
from medai.training.errors import TrainingError
from medai.training.runs import (
    KeptSplit,
    Run,
    fold_split,
    is_run,
    joint_recipe,
    joint_split,
    lineage,
    read_run,
    read_runs,
    read_split,
)

SIDES = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}


def sides(train: str = "", validation: str = "", test: str = "", dataset: str = "blocks") -> KeptSplit:
    """One letter a case."""
    return KeptSplit(
        dataset=dataset, sides={"train": tuple(train), "validation": tuple(validation), "test": tuple(test)}
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return read_run(cases.make_run(tmp_path / "run", split=SIDES))


def made(run: Run, name: str, split: KeptSplit, stages: Sequence[Run] = ()) -> Run:
    return replace(run, folder=Path(name), split=split, stages=tuple(stages))


def test_a_run_is_told_from_a_bundle(tmp_path: Path) -> None:
    folder = cases.make_run(tmp_path / "run")
    assert is_run(folder)
    (folder / "configs").mkdir()
    (folder / "configs" / "metadata.json").write_text("{}")
    assert not is_run(folder)
    assert not is_run(tmp_path)


def test_a_run_says_what_it_saw(run: Run) -> None:
    assert run.split.seen == {"a", "b", "c"}
    assert run.recipe.network_def == dict(run.network_def)
    assert run.stages == ()


@pytest.mark.parametrize("name", ["config.toml", "split.json", "summary.json", "best.safetensors"])
def test_an_unfinished_run_says_what_it_lacks_and_how_to_finish_it(name: str, tmp_path: Path) -> None:
    folder = cases.make_run(tmp_path / "run")
    (folder / name).unlink()
    with pytest.raises(TrainingError, match=f"is no finished run: it lacks {name}. Run medai-train fit, or finish it"):
        read_run(folder)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("summary.json", "{}", "run: summary.json names no network_def"),
        ("summary.json", "[1]", "summary.json must hold a JSON object"),
        ("split.json", "{", "split.json is missing or not JSON"),
        ("split.json", '{"train": ["a"], "test": "b"}', "split.json lacks the case names of validation, test"),
    ],
)
def test_a_damaged_run_names_the_file(name: str, content: str, words: str, tmp_path: Path) -> None:
    folder = cases.make_run(tmp_path / "run")
    (folder / name).write_text(content)
    with pytest.raises(TrainingError, match=words):
        read_run(folder)


def test_a_split_is_names_on_three_sides(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text(json.dumps({**SIDES, "dataset": "blocks", "seed": 3}))
    assert read_split(tmp_path / "split.json") == sides("ab", "c", "d")


def test_a_run_that_began_from_another_knows_it_as_long_as_it_is_there(tmp_path: Path) -> None:
    first = cases.make_run(tmp_path / "first")
    second = cases.make_run(tmp_path / "second")
    settings = config.read(second / "config.toml")
    network = settings.network.model_copy(update={"start": str(first)})
    (second / "config.toml").write_text(config.to_toml(settings.model_copy(update={"network": network})))
    assert [stage.folder for stage in read_run(second).stages] == [first]
    first.rename(tmp_path / "gone")
    assert read_run(second).stages == ()


def test_each_run_is_made_once_and_after_those_that_it_began_from(run: Run) -> None:
    first = made(run, "first", sides("a"))
    one, other = made(run, "one", sides("b"), [first]), made(run, "other", sides("c"), [first])
    assert [each.folder.name for each in lineage([one, other])] == ["first", "one", "other"]


def test_together_runs_know_what_any_of_them_was_trained_on(run: Run) -> None:
    folds = [made(run, "one", sides("ab", "c", "d")), made(run, "two", sides("ac", "b", "d"))]
    assert joint_split(folds) == sides("abc", "", "d")


def test_what_chose_a_checkpoint_and_trained_nothing_stays_a_validation_case(run: Run) -> None:
    folds = [made(run, "one", sides("a", "b", "d")), made(run, "two", sides("a", "c", "d"))]
    assert joint_split(folds) == sides("a", "bc", "d")


def test_a_stage_on_the_same_data_counts_and_one_on_other_data_does_not(run: Run) -> None:
    same, foreign = made(run, "same", sides("b")), made(run, "foreign", sides("d", dataset="others"))
    last = made(run, "last", sides("a", "c", "d"), [foreign, same])
    assert joint_split([last]) == sides("ab", "c", "d")
    assert fold_split(last) == sides("ab", "c", "d")


def test_a_case_that_one_run_holds_out_and_another_saw_is_no_test_case(run: Run) -> None:
    stage = made(run, "stage", sides("d"))
    with pytest.raises(TrainingError, match="d: held out by one run, seen by another"):
        joint_split([made(run, "last", sides("a", "b", "d"), [stage])])


def test_networks_of_one_kind_are_named_once_and_others_each(run: Run) -> None:
    same = joint_recipe([run, run])
    assert same.members == ()
    other = replace(run, network_def={**run.network_def, "channels": [4, 4]})
    found = joint_recipe([run, other, run])
    assert [dict(one).get("channels") for one in found.members] == [[4, 4], dict(run.network_def)["channels"]]
    assert found.network_def == dict(run.network_def)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"train": ["a"], "validation": [], "test": ["b"]}, "the held-out test cases"),
        ({"train": ["a"], "validation": ["b"], "test": ["d"], "dataset": "others"}, "the data set"),
    ],
)
def test_runs_that_say_different_things_are_not_averaged(
    second: Mapping[str, object], words: str, tmp_path: Path
) -> None:
    one, two = (cases.make_run(tmp_path / name, split=SIDES) for name in ("one", "two"))
    kept = json.loads((two / "split.json").read_text())
    (two / "split.json").write_text(json.dumps({**kept, **second}))
    with pytest.raises(TrainingError, match=f"one and two differ in {words}: they cannot be averaged"):
        read_runs([one, two])
