"""The demo's outcome for programs: JSON and nothing else on standard output, also when it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medai.trials.demo import command
from medai.trials.study import StudyError


@pytest.fixture(autouse=True)
def _no_study(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> tuple[()]:
        raise StudyError("no study there")

    monkeypatch.setattr(command, "_find_studies", missing)


def test_json_alone_leaves_the_story_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--json", "--dir", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"studies": [], "ok": False}
    assert "FAILED: no study there" in captured.err


def test_json_with_a_file_leaves_the_story_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "outcome.json"
    assert command.main(["--dir", str(tmp_path), "--json", str(file)]) == 1
    assert json.loads(file.read_text(encoding="utf-8")) == {"studies": [], "ok": False}
    assert "FAILED: no study there" in capsys.readouterr().out
