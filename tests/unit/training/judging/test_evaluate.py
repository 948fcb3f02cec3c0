"""Judging a model on cases: the right cases, the right figures, plain reasons where data are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import judging_cases as cases
import pandas as pd
import pytest

from medai.models.images.preprocess import labels_to_nifti
from medai.training import cli
from medai.training.cases import Example
from medai.training.data.datasets import read_pair, write_pair
from medai.training.export.bundle import export
from medai.training.export.description import read_description
from medai.training.metrics import measure

TEST = ["c", "d", "e"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five cases: two that trained, three for the test; one of these lies a slice beside its truth."""
    return cases.write_blocks(tmp_path / "blocks", {"a": 0, "b": 0, "c": 0, "d": 1, "e": 0})


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose network draws what is bright."""
    run = cases.make_run(tmp_path / "runs" / "blocks", split={"test": TEST})
    export([run], tmp_path / "bundles" / "blocks", read_description(cases.write_description(tmp_path)))
    return tmp_path / "bundles" / "blocks"


def judged(tmp_path: Path, *words: object) -> dict[str, object]:
    file = tmp_path / "figures.json"
    assert cli.main(["evaluate", *map(str, words), "--json", str(file)]) == 0
    found: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
    return found


def test_the_figures_are_those_of_the_masks_that_the_model_draws(tmp_path: Path, bundle: Path, data: Path) -> None:
    found = judged(tmp_path, bundle, "--data", data)
    drawn, truth = cases.block_case().labels, cases.block_case(shift=1).labels
    expected = measure(truth == 1, drawn == 1, (1.0, 1.0, 1.0))
    shell = found["structures"]["shell"]  # type: ignore[index]
    assert expected.dice is not None
    assert shell["dice"]["mean"] == pytest.approx((2 + expected.dice) / 3)
    assert shell["hd95_mm"]["mean"] == pytest.approx(1 / 3)
    assert shell["dice"]["ci95"][0] <= shell["dice"]["mean"] <= shell["dice"]["ci95"][1]


def test_json_has_the_keys_of_the_contract(tmp_path: Path, bundle: Path, data: Path) -> None:
    found = judged(tmp_path, bundle, "--data", data, "--split", "test")
    assert {"cases", "structures", "seconds_per_case", "peak_memory_mb"} <= found.keys()
    assert found["cases"] == 3
    for entry in found["structures"].values():  # type: ignore[attr-defined]
        for key in ("dice", "surface_dice", "hd95_mm", "sensitivity", "specificity", "false_positive_rate"):
            assert {"mean", "median", "ci95", "n"} == entry[key].keys()
    assert found["seconds_per_case"] > 0  # type: ignore[operator]
    assert found["peak_memory_mb"] > 50  # type: ignore[operator]


def test_without_a_side_the_test_cases_judge_where_the_data_set_is_that_of_the_split(
    tmp_path: Path, bundle: Path, data: Path
) -> None:
    found = judged(tmp_path, bundle, "--data", data)["data"]
    assert (found["side"], found["cases"], found["seen_in_training"]) == ("test", TEST, 0)  # type: ignore[index]
    other = cases.write_blocks(tmp_path / "others", {"x": 0, "y": 1})
    found = judged(tmp_path, bundle, "--data", other)["data"]
    assert (found["side"], found["cases"]) == ("all", ["x", "y"])  # type: ignore[index]


def test_cases_that_trained_the_model_are_named_as_such(
    tmp_path: Path, bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = judged(tmp_path, bundle, "--data", data, "--split", "all")
    assert found["data"]["seen_in_training"] == 2  # type: ignore[index]
    assert "2 of the cases trained the model" in capsys.readouterr().out


def test_a_run_is_judged_as_its_bundle_would_be(tmp_path: Path, bundle: Path, data: Path) -> None:
    one = judged(tmp_path, bundle, "--data", data)
    other = judged(tmp_path, tmp_path / "runs" / "blocks", "--data", data)
    assert one["structures"] == other["structures"]


def test_tables_and_the_worst_cases_are_written(tmp_path: Path, bundle: Path, data: Path) -> None:
    judged(tmp_path, bundle, "--data", data, "--out", tmp_path / "out", "--worst", 2)
    table = pd.read_csv(tmp_path / "out" / "cases.csv")
    assert len(table) == 3 * 2
    assert table.loc[table.dice.idxmin(), "case"] == "d"
    again = pd.read_parquet(tmp_path / "out" / "cases.parquet")
    pd.testing.assert_frame_equal(table[["case", "structure", "dice"]], again[["case", "structure", "dice"]])
    pictures = sorted((tmp_path / "out" / "worst").iterdir())
    assert [path.name for path in pictures] == ["1-d.png", "2-c.png"]
    assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in pictures)


def test_the_card_gets_the_figures_between_its_markers_once(tmp_path: Path, bundle: Path, data: Path) -> None:
    before = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    judged(tmp_path, bundle, "--data", data, "--card")
    judged(tmp_path, bundle, "--data", data, "--card")
    after = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    assert after.count("| shell | 3 |") == 1
    assert "3 cases of blocks (the test split)" in after
    assert "Not judged yet" in before
    assert "Not judged yet" not in after
    assert str(tmp_path) not in after
    assert after.split("<!-- figures: end -->")[1] == before.split("<!-- figures: end -->")[1]


def test_strict_counts_what_the_model_refuses_with_its_reason(
    tmp_path: Path, bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    metadata["medai"]["input"]["min_extent_mm"] = [100, 100, 100]
    (bundle / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    found = judged(tmp_path, bundle, "--data", data, "--strict")
    assert list(found["refused"].values()) == [3]  # type: ignore[attr-defined]
    assert found["structures"]["shell"]["dice"]["n"] == 0  # type: ignore[index]
    assert "refused 3 of 3 cases" in capsys.readouterr().out
    assert judged(tmp_path, bundle, "--data", data)["refused"] == {}


def test_named_cases_and_a_limit_choose_cases(tmp_path: Path, bundle: Path, data: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("# chosen\nd\n\ne\n", encoding="utf-8")
    assert judged(tmp_path, bundle, "--data", data, "--cases", names)["data"]["cases"] == ["d", "e"]  # type: ignore[index]
    assert judged(tmp_path, bundle, "--data", data, "--limit", 1)["data"]["cases"] == ["c"]  # type: ignore[index]


def test_classes_can_be_given_for_a_model_that_names_none(tmp_path: Path, bundle: Path, data: Path) -> None:
    found = judged(tmp_path, bundle, "--data", data, "--class", "block=1,2:1,2")
    assert list(found["structures"]) == ["block"]  # type: ignore[call-overload]
    assert found["structures"]["block"]["dice"]["mean"] > 0.9  # type: ignore[index]


def fold(tmp_path: Path, number: int, **sides: list[str]) -> Path:
    split = {"train": ["a"], "validation": ["b"], "test": []} | sides
    weights = cases.threshold_weights(core=3.0 if number == 0 else 3.97)
    return cases.make_run(tmp_path / "runs" / f"fold{number}", split=split, weights=weights)


def test_cross_validation_pools_what_each_run_draws_on_its_own_cases(
    tmp_path: Path, bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [fold(tmp_path, 0, validation=["b", "c"]), fold(tmp_path, 1, train=["b"], validation=["a", "e"])]
    found = judged(tmp_path, bundle, "--data", data, "--card", "--folds", *runs)
    assert found["data"]["cases"] == ["b", "c", "a", "e"]  # type: ignore[index]
    assert found["folds"] == ["runs/fold0", "runs/fold1"]
    assert 0.8 < found["structures"]["core"]["dice"]["mean"] < 1.0  # type: ignore[index]
    text = capsys.readouterr().out
    assert "not of the bundle's own weights" in text
    assert "also chose each network's checkpoint" in text
    card = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    assert "--split validation --folds runs/fold0 runs/fold1 --card" in card


def test_folds_with_test_cases_of_their_own_are_judged_on_these(tmp_path: Path, bundle: Path, data: Path) -> None:
    runs = [fold(tmp_path, 0, test=["c"]), fold(tmp_path, 1, test=["d", "e"])]
    found = judged(tmp_path, bundle, "--data", data, "--folds", *runs)
    assert (found["data"]["side"], found["data"]["cases"]) == ("test", ["c", "d", "e"])  # type: ignore[index]


def test_a_case_that_two_folds_judge_or_that_trained_its_fold_is_refused(
    tmp_path: Path, bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [fold(tmp_path, 0, validation=["b", "c"]), fold(tmp_path, 1, validation=["c"])]
    assert "judges c, which another run also judges" in fails(capsys, bundle, "--data", data, "--folds", *runs)
    leak = fold(tmp_path, 2, train=["a", "d"], validation=["d"])
    assert "fold2 was trained on d" in fails(capsys, bundle, "--data", data, "--folds", runs[0], leak)


def test_a_case_that_trained_the_stage_before_a_fold_is_refused(
    tmp_path: Path, bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, run = fold(tmp_path, 3, train=["a", "b"], validation=["c"]), fold(tmp_path, 0, validation=["b"])
    text = (run / "config.toml").read_text(encoding="utf-8")
    (run / "config.toml").write_text(text.replace('start = ""', f'start = "{before}"'), encoding="utf-8")
    assert "fold0 was trained on b" in fails(capsys, bundle, "--data", data, "--folds", run)


def fails(capsys: pytest.CaptureFixture[str], *words: object, code: int = 1) -> str:
    assert cli.main(["evaluate", *map(str, words)]) == code
    return capsys.readouterr().err


def test_an_image_without_labels_is_a_plain_reason(
    bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "labels" / "d.nii.gz").unlink()
    assert "d" in fails(capsys, bundle, "--data", data)


def test_labels_on_another_grid_are_a_plain_reason(
    bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = cases.block_case(spacing_mm=2.0)
    labels_to_nifti(other.labels, other.volume.geometry, data / "labels" / "d.nii.gz")
    assert "case d: " in fails(capsys, bundle, "--data", data)


def test_label_values_that_no_class_names_are_a_plain_reason_unless_ignored(
    bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = read_pair("c", data / "images" / "c.nii.gz", data / "labels" / "c.nii.gz", "MR")
    labels = example.labels.copy()
    labels[0, 0, 0] = 7
    write_pair(Example(volume=example.volume, labels=labels), "c", data)
    text = fails(capsys, bundle, "--data", data)
    assert "case c holds the label values 7" in text
    assert "--ignore-labels" in text
    assert cli.main(["evaluate", str(bundle), "--data", str(data), "--ignore-labels"]) == 0


def test_an_empty_folder_is_a_plain_reason(tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "is not a data set" in fails(capsys, bundle, "--data", tmp_path / "empty")


def test_a_side_that_the_data_set_lacks_is_a_plain_reason(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = cases.write_blocks(tmp_path / "others", {"x": 0})
    assert "lacks 3 of the 3 test cases" in fails(capsys, bundle, "--data", other, "--split", "test")


def test_a_model_without_classes_says_how_to_name_them(
    bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    del metadata["medai"]["evaluation"]
    (bundle / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    assert "--class NAME=LABELS:SEGMENTS" in fails(capsys, bundle, "--data", data)
    assert "write NAME=LABELS:SEGMENTS" in fails(capsys, bundle, "--data", data, "--class", "block", code=2)
