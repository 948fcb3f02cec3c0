"""Models on the same unseen cases: tests and corrections as in the books, leakage refused, one page."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path
from typing import Any

import judging_cases as cases
import pytest

from medai.training import cli

SPLIT = {"train": ["a"], "validation": ["b"], "test": ["c", "d", "e", "f"]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cases that trained, four for the test; nobody changes them."""
    return cases.write_blocks(tmp_path_factory.mktemp("data") / "blocks", dict.fromkeys("abcdef", 0))


def run_of(tmp_path: Path, name: str, core: float, **more: Any) -> Path:
    split = more.get("split", SPLIT)
    return cases.make_run(tmp_path / "runs" / name, weights=cases.threshold_weights(core=core), split=split)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A comparison of a good and a worse model, with its page; nobody changes it."""
    tmp_path = tmp_path_factory.mktemp("compared")
    good, worse = run_of(tmp_path, "good", 3.0), run_of(tmp_path, "worse", 3.97)
    words = ["compare", good, worse, "--data", data, "--out", tmp_path / "out"]
    assert cli.main([*map(str, words), "--markdown", str(tmp_path / "docs" / "comparison.md")]) == 0
    return tmp_path


def seconds_of(table: Path, model: str) -> list[float]:
    with table.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["model"] == model]
    return list({row["case"]: float(row["seconds"]) for row in rows}.values())


def test_everything_is_measured_on_the_common_test_cases(compared: Path) -> None:
    found = json.loads((compared / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert found["data"]["cases"] == SPLIT["test"]
    good, worse = found["models"]["good"], found["models"]["worse"]
    assert good["structures"]["core"]["dice"]["mean"] == pytest.approx(1.0)
    assert worse["structures"]["core"]["dice"]["mean"] < 0.95
    assert good["parameters"] == 33
    assert (good["epochs"], good["training_s"]) == (3, 90.0)
    seconds = seconds_of(compared / "out" / "cases.csv", "good")
    assert good["seconds_per_case"] == pytest.approx(statistics.median(seconds))
    assert good["voxels_per_second"] == pytest.approx(statistics.median(16**3 / each for each in seconds))
    core = [pair for pair in found["pairs"] if pair["structure"] == "core"]
    assert [(pair["first"], pair["second"], pair["effect"]) for pair in core] == [("good", "worse", 1.0)]


def test_tables_and_pictures_are_written(compared: Path) -> None:
    out = compared / "out"
    names = {path.name for path in out.iterdir()}
    assert {"table.csv", "table.md", "table.tex", "cases.csv", "comparison.json"} <= names
    assert {"dice.png", "speed.png", "training.png", "differences.png"} <= names
    assert r"\begin{tabular}{lrr}" in (out / "table.tex").read_text(encoding="utf-8")
    assert (out / "table.csv").read_text(encoding="utf-8").startswith('model,network,"Dice, shell"')


def test_the_page_says_how_it_was_made_and_links_pictures_that_are_there(compared: Path) -> None:
    page = (compared / "docs" / "comparison.md").read_text(encoding="utf-8")
    assert "Written by `medai-train compare runs/good runs/worse --data DATA" in page
    assert str(compared) not in page
    links = [line.split("](")[1].split(")")[0] for line in page.splitlines() if line.startswith("![")]
    assert len(links) == 4
    assert all((compared / "docs" / link).is_file() for link in links)


def test_only_timings_differ_when_it_is_done_again(compared: Path, data: Path, tmp_path: Path) -> None:
    runs, again = compared / "runs", tmp_path / "again"
    words = ["compare", runs / "good", runs / "worse", "--data", data, "--out", again]
    assert cli.main(list(map(str, words))) == 0
    for name in ("dice.png", "differences.png", "training.png"):
        assert (compared / "out" / name).read_bytes() == (again / name).read_bytes()
    one, other = (json.loads((each / "comparison.json").read_text("utf-8")) for each in (compared / "out", again))
    assert one["pairs"] == other["pairs"]
    assert one["models"]["worse"]["structures"] == other["models"]["worse"]["structures"]


def fails(capsys: pytest.CaptureFixture[str], *words: object, code: int = 1) -> str:
    assert cli.main(["compare", *map(str, words)]) == code
    return capsys.readouterr().err


def test_a_model_that_was_trained_on_anothers_test_case_is_refused(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = run_of(tmp_path, "one", 3.0)
    other = run_of(tmp_path, "other", 3.0, split={"train": ["a", "c"], "validation": ["b"], "test": ["d", "e", "f"]})
    text = fails(capsys, one, other, "--data", data, "--out", tmp_path / "out")
    assert "other was trained on 1 test cases of one, such as c" in text


def test_named_cases_that_a_model_has_seen_are_refused(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a\nc\n", encoding="utf-8")
    one, other = run_of(tmp_path, "one", 3.0), run_of(tmp_path, "other", 3.1)
    text = fails(capsys, one, other, "--data", data, "--out", tmp_path / "out", "--cases", names)
    assert "one was trained on a" in text


def test_models_without_a_common_test_case_or_class_are_refused(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = run_of(tmp_path, "one", 3.0, split={"train": ["a"], "validation": ["b"], "test": ["c"]})
    two = run_of(tmp_path, "two", 3.0, split={"train": ["a"], "validation": ["b"], "test": ["d"]})
    assert "no test case in common" in fails(capsys, one, two, "--data", data, "--out", tmp_path / "out")
    config = cases.training_config(data={"classes": {"shell": [1], "core": [2, 3]}})
    other = cases.make_run(tmp_path / "runs" / "other", split=SPLIT, config=config)
    assert "they cannot be compared" in fails(capsys, one, other, "--data", data, "--out", tmp_path / "out")


def test_one_model_is_no_comparison(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = run_of(tmp_path, "one", 3.0)
    assert "at least two" in fails(capsys, one, "--data", data, "--out", tmp_path / "out", code=2)
    assert "named twice" in fails(capsys, one, one, "--data", data, "--out", tmp_path / "out", code=2)
