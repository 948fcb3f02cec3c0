"""A candidate serves only when it is shown not to be worse; every decision is on record; there is a way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import judging_cases as cases
import pytest

from medai.models.format import versions
from medai.training import cli
from medai.training.export.bundle import export
from medai.training.export.description import read_description

TEST = ["c", "d", "e", "f", "g", "h"]
GOOD = 3.0
A_LITTLE_WORSE = 3.88
"""Loses the darkest core voxels: under a hundredth of Dice."""
WORSE = 3.97


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two cases that trained, six held out."""
    return cases.write_blocks(tmp_path / "blocks", dict.fromkeys("abcdefgh", 0))


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A folder of models in which a good one serves as ``blocks``."""
    folder = tmp_path / "served"
    versions.install(bundle(tmp_path, "current", GOOD), folder, "blocks")
    return folder


def bundle(tmp_path: Path, name: str, core: float, **more: Any) -> Path:
    split = more.pop("split", {"train": ["a"], "validation": ["b"], "test": TEST})
    run = cases.make_run(
        tmp_path / "runs" / name,
        weights=cases.threshold_weights(core=core),
        split=split,
        config=more.pop("config", None),
    )
    folder = tmp_path / "candidates" / name / "blocks"
    export(
        [run], folder, read_description(cases.write_description(tmp_path / name, more.pop("text", cases.DESCRIPTION)))
    )
    return folder


def promote(candidate: Path, data: Path, served: Path, *words: object) -> int:
    return cli.main(
        ["promote", str(candidate), "--data", str(data), "--into", str(served), "--by", "A. Tester", *map(str, words)]
    )


def recorded(served: Path) -> list[dict[str, Any]]:
    lines = (served / "promotions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def version(served: Path) -> str:
    found = versions.current(served, "blocks")
    assert found is not None
    return found.version


def test_a_candidate_that_is_not_inferior_serves_and_the_former_is_kept(
    tmp_path: Path, data: Path, served: Path
) -> None:
    before = version(served)
    assert promote(bundle(tmp_path, "next", A_LITTLE_WORSE), data, served, "--margin", 0.05) == 0
    assert version(served) != before
    assert [item.version for item in versions.previous(served, "blocks")] == [before]
    (entry,) = recorded(served)
    assert (entry["action"], entry["by"], entry["margin"]) == ("promoted", "A. Tester", 0.05)
    assert entry["at"].endswith("+00:00")
    core = entry["structures"]["core"]
    assert core["current"] == pytest.approx(1.0)
    assert core["candidate"] == pytest.approx(1.0 + core["difference"])
    assert -0.05 < core["lower"] <= core["difference"] < 0
    assert (entry["data"]["name"], entry["data"]["cases"]) == ("blocks", 6)
    assert entry["candidate"]["fingerprint"] != entry["current"]["fingerprint"]


def test_an_inferior_candidate_is_refused_with_both_figures_and_the_bound(
    tmp_path: Path, data: Path, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = version(served)
    assert promote(bundle(tmp_path, "next", WORSE), data, served) == 1
    text = capsys.readouterr().err
    assert "blocks is not promoted: " in text
    assert "core Dice 0." in text
    assert "against 1.0000" in text
    assert "with 95% confidence, which the margin of 0.01 does not allow" in text
    assert version(served) == before
    (entry,) = recorded(served)
    assert (entry["action"], len(entry["refusals"])) == ("refused", 2)


def test_one_class_that_is_worse_is_enough_to_refuse(tmp_path: Path, data: Path, served: Path) -> None:
    promote(bundle(tmp_path, "next", WORSE), data, served, "--margin", 0.05)
    found = recorded(served)[0]["structures"]
    assert found["shell"]["lower"] > -0.05
    assert found["core"]["lower"] < -0.05


def test_the_margin_of_the_folder_may_be_made_stricter_but_not_laxer(
    tmp_path: Path, data: Path, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (served / "promotion.toml").write_text("margin = 0.05\n[models.blocks]\nmargin = 0.02\n", encoding="utf-8")
    candidate = bundle(tmp_path, "next", A_LITTLE_WORSE)
    assert promote(candidate, data, served, "--margin", 0.04) == 2
    assert "laxer than the 0.02" in capsys.readouterr().err
    promote(candidate, data, served, "--margin", 0.00001)
    promote(candidate, data, served)
    assert [entry["margin"] for entry in recorded(served)] == [0.00001, 0.02]


def test_the_folder_may_fix_the_held_out_cases(
    tmp_path: Path, data: Path, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (served / "promotion.toml").write_text(f"[models.blocks]\ncases = {TEST[:5]}\n", encoding="utf-8")
    candidate = bundle(tmp_path, "next", A_LITTLE_WORSE)
    assert promote(candidate, data, served, "--split", "all") == 2
    assert "fixes the held-out cases" in capsys.readouterr().err
    promote(candidate, data, served, "--margin", 0.05)
    assert recorded(served)[0]["data"]["cases"] == 5


def test_a_fault_in_the_folders_rules_is_named(
    tmp_path: Path, data: Path, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (served / "promotion.toml").write_text("margn = 0.05\n", encoding="utf-8")
    assert promote(bundle(tmp_path, "next", GOOD + 0.1), data, served) == 2
    assert "promotion.toml: margn" in capsys.readouterr().err


@pytest.mark.parametrize("side", ["train", "validation"])
def test_a_candidate_that_has_seen_a_held_out_case_is_refused(
    tmp_path: Path, data: Path, served: Path, side: str, capsys: pytest.CaptureFixture[str]
) -> None:
    split = {"train": ["a"], "validation": ["b"], "test": ["d", "e", "f", "g", "h"]}
    split[side] = [*split[side], "c"]
    assert promote(bundle(tmp_path, "next", A_LITTLE_WORSE, split=split), data, served) == 1
    assert "1 of the 6 held-out cases (such as c) are among those that trained" in capsys.readouterr().err


def test_a_candidate_trained_on_another_case_of_a_held_out_patient_is_refused(
    tmp_path: Path, data: Path, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "patients.csv").write_text("name,patient\nz,p\nc,p\n", encoding="utf-8")
    cases.write_blocks(data, {"z": 0})
    split = {"train": ["a", "z"], "validation": ["b"], "test": TEST[1:]}
    assert promote(bundle(tmp_path, "next", A_LITTLE_WORSE, split=split), data, served) == 1
    assert "(such as c)" in capsys.readouterr().err


def test_a_candidate_without_a_split_needs_somebody_who_vouches(
    tmp_path: Path, data: Path, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate = bundle(tmp_path, "next", A_LITTLE_WORSE)
    (candidate / "docs" / "split.json").unlink()
    assert promote(candidate, data, served, "--margin", 0.05) == 1
    assert "--vouch" in capsys.readouterr().err
    assert promote(candidate, data, served, "--margin", 0.05, "--vouch") == 0


def test_the_first_model_of_a_name_must_be_called_that_and_is_recorded_with_its_figures(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate, folder = bundle(tmp_path, "next", GOOD), tmp_path / "empty"
    assert promote(candidate, data, folder) == 1
    assert "use --first" in capsys.readouterr().err
    assert promote(candidate, data, folder, "--first", "--json") == 0
    assert json.loads(capsys.readouterr().out)["structures"]["shell"]["candidate"] == pytest.approx(1.0)
    (entry,) = recorded(folder)
    assert (entry["action"], entry["current"]) == ("promoted", None)
    assert promote(candidate, data, folder, "--first") == 1
    assert "serves already" in capsys.readouterr().err


def test_the_very_same_bundle_is_nothing_to_promote(
    tmp_path: Path, data: Path, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote(tmp_path / "candidates" / "current" / "blocks", data, served) == 1
    assert "is this very bundle" in capsys.readouterr().err


def test_too_few_cases_show_nothing(
    tmp_path: Path, data: Path, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "few.txt"
    names.write_text("c\nd\n", encoding="utf-8")
    assert promote(bundle(tmp_path, "next", GOOD + 0.1), data, served, "--cases", names) == 1
    assert "2 held-out cases prove nothing" in capsys.readouterr().err


def test_a_candidate_that_draws_less_is_refused(
    tmp_path: Path, data: Path, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate = bundle(tmp_path, "next", GOOD)
    path = candidate / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    del metadata["medai"]["evaluation"]["classes"]["core"]
    path.write_text(json.dumps(metadata), encoding="utf-8")
    assert promote(candidate, data, served, "--ignore-labels") == 1
    assert "does not draw core" in capsys.readouterr().err


def test_a_run_is_not_promoted(tmp_path: Path, data: Path, served: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert promote(tmp_path / "runs" / "current", data, served) == 1
    assert "medai-train export" in capsys.readouterr().err


def test_rollback_returns_to_what_served_before_and_is_recorded(
    tmp_path: Path, data: Path, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = version(served)
    files = {path.name: path.read_bytes() for path in (served / "blocks").rglob("*") if path.is_file()}
    assert promote(bundle(tmp_path, "next", A_LITTLE_WORSE), data, served, "--margin", 0.05) == 0
    after = version(served)
    words = ["rollback", "blocks", "--into", str(served)]
    assert cli.main(words) == 1
    assert "say why" in capsys.readouterr().err
    assert cli.main([*words, "--reason", "draws too little", "--by", "B. Tester"]) == 0
    assert version(served) == before
    assert {path.name: path.read_bytes() for path in (served / "blocks").rglob("*") if path.is_file()} == files
    entry = recorded(served)[-1]
    assert (entry["action"], entry["from"], entry["to"]) == ("rolled back", after, before)
    assert (entry["by"], entry["reason"]) == ("B. Tester", "draws too little")
    capsys.readouterr()
    assert cli.main([*words, "--list"]) == 0
    assert capsys.readouterr().out == f"{before} serves; before: {after}\n"


def test_rollback_without_an_earlier_version_says_so(served: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rollback", "blocks", "--into", str(served), "--reason", "x"]) == 1
    assert "no earlier version" in capsys.readouterr().err


def test_rollback_to_a_version_that_never_was_names_those_that_were(
    tmp_path: Path, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    versions.install(bundle(tmp_path, "next", GOOD + 0.5), served, "blocks")
    assert cli.main(["rollback", "blocks", "--into", str(served), "--to", "9.9", "--reason", "x"]) == 1
    assert "has no earlier version 9.9; there are 1.0.0+" in capsys.readouterr().err
