"""Each fault that is planted into a sound data set is found, named, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from qa_cases import head

from medai.training.cli import main
from medai.training.data.datasets import write_pair


def written(folder: Path) -> Path:
    for number in range(7):
        write_pair(head(number), f"case{number}", folder)
    return folder


def test_the_command_writes_a_report_and_passes_a_sound_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = written(tmp_path / "data")
    assert main(["qa", str(data), "--out", str(tmp_path / "out")]) == 0
    assert "7 cases, 0 errors, 0 warnings" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Nothing found." in page
    assert page.count("data:image/png;base64,") == 2
    assert "<script" not in page
    assert not [word for word in ('src="http', 'href="http', "url(http") if word in page]


def test_the_command_fails_where_there_are_errors_and_says_all_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path)
    (data / "labels" / "case2.nii.gz").unlink()
    (data / "images" / "case3.nii.gz").write_bytes(b"no image")
    write_pair(head(4), "twin", data)
    assert main(["qa", str(data), "--json"]) == 1
    summary = json.loads(capsys.readouterr().out)
    errors = {(one["check"], one["case"]) for one in summary["findings"] if one["level"] == "error"}
    assert errors == {("files", ""), ("reading", "case3"), ("duplicates", "twin")}
    assert summary["errors"] == 3
