"""``medai models``: what each command prints, and where it looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from foreign_cases import torchscript_folder

from medai.models.foreign import dry_run
from medai.models.foreign.dry_run import Trial
from medai.models.format.metadata import faults_of
from medai.workers.models_cli import EXAMPLE, main


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory with no system in it; the dry run is another test's matter."""
    done = Trial(seconds=0.1, load_seconds=0.1, memory_mb=1, voxels=(4, 4, 4), found=())
    monkeypatch.setattr(dry_run, "run", lambda bundle, limit_s: done)
    monkeypatch.delenv("MEDAI_CONFIG", raising=False)
    monkeypatch.delenv("MEDAI_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    """Exit code, and standard output as JSON."""
    capsys.readouterr()
    code = main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_model_is_added_listed_shown_removed_and_brought_back(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = torchscript_folder(place / "lungs", weights={"licence": "MIT", "origin": "here"})
    code, added = run(capsys, "add", str(folder))
    assert (code, added["ok"], added["name"], added["changed"]) == (0, True, "lungs", True)
    assert added["folder"] == ".medai/site/medai-models/lungs"
    mine = next(row for row in run(capsys, "list")[1]["models"] if row["name"] == "lungs")
    assert (mine["origin"], mine["available"], mine["version"], mine["licence"]) == (
        "added",
        True,
        added["version"],
        "MIT",
    )
    shown = run(capsys, "show", "lungs")[1]
    assert (shown["input"]["modalities"], shown["segments"][0]["name"]) == (["CT"], "Lung")
    assert "Landlock" in shown["held_by"]
    assert main(["show", "lungs"]) == 0
    assert "runs in       a process of its own, held by Landlock" in capsys.readouterr().out
    assert run(capsys, "remove", "lungs")[0] == 0
    assert "lungs" not in [row["name"] for row in run(capsys, "list")[1]["models"]]
    assert run(capsys, "rollback", "lungs")[1]["version"] == added["version"]
    assert [entry["action"] for entry in run(capsys, "show", "lungs")[1]["history"]] == ["install", "remove", "restore"]


def test_a_model_that_ships_runs_in_the_workers_process(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "show", "ct_lungs")[1]["held_by"] == ""
    assert main(["show", "ct_lungs"]) == 0
    assert "runs in       the worker's process\n" in capsys.readouterr().out


def test_a_refusal_is_told_with_the_steps_before_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = run(capsys, "add", str(torchscript_folder(place / "lungs", segments=[])))
    assert (code, answer["ok"]) == (1, False)
    assert "medai.segments" in answer["reason"]
    assert [step["what"] for step in answer["steps"]] == ["files", "form", "hashes"]


def test_where_a_configuration_is_models_go_beside_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "etc").mkdir()
    (place / "etc" / "medai.toml").write_text("")
    added = run(capsys, "add", str(torchscript_folder(place / "lungs")), "--config", "etc/medai.toml")[1]
    assert added["folder"] == str(place / "etc" / "medai-models" / "lungs")


def test_pages_for_people_name_what_to_do(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = torchscript_folder(place / "lungs")
    assert main(["add", str(folder), "--to", "elsewhere"]) == 0
    out = capsys.readouterr().out
    assert 'model = "lungs"' in out
    assert "elsewhere must be among [models] folders" in out
    assert main(["add", str(folder)]) == 0
    assert main(["show", "lungs"]) == 0
    assert "segment 1     Lung (39607008 SCT)" in capsys.readouterr().out
    assert main(["list"]) == 0
    assert "can run" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["remove", "rollback"])
def test_a_model_that_ships_is_left_alone(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = run(capsys, command, "mr_brain")
    assert (code, answer["ok"]) == (1, False)
    assert "ships with Med-AI" in answer["reason"]


def test_an_unknown_model_gets_the_nearest_name(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean mr_brain?" in run(capsys, "show", "mr_brian")[1]["reason"]


def test_the_example_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add", "--example"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(EXAMPLE)
    section = {key: value for key, value in printed["medai"].items() if key not in ("feed", "inferer", "cleaning")}
    section |= {"segmenter": "network", "weights": {"source": "bundle", "files": {"model.ts": ""}}}
    section["segments"] = [{"colour": (0, 0, 0), **segment} for segment in section["segments"]]
    assert faults_of(section) == []


def test_a_path_is_needed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add"]) == 2
    assert "give the path of a model" in capsys.readouterr().err
