"""``medai deidentify``: what may leave is written, what may not is counted with its reason, and fails the command."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom
import pytest
from dicom_cases import to_bytes
from outside_cases import NAME, SECRETS, patient_slice

from medai.workers.outside.cli import main


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "in" / NAME
    folder.mkdir(parents=True)
    for index in range(3):
        (folder / f"{index}.dcm").write_bytes(to_bytes(patient_slice(index)))
    (folder / "notes.txt").write_text(NAME)
    return tmp_path / "in"


def test_a_folder_leaves_without_its_patient(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, key = study.parent / "out", study.parent / "project.key"
    assert main([str(study), str(out), "--key-file", str(key)]) == 0
    assert "3 images written, 1 file passed over" in capsys.readouterr().out
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len({pydicom.dcmread(path).SeriesInstanceUID for path in files}) == 1
    for path in files:
        said = str(path.relative_to(out)).encode() + path.read_bytes()
        assert not [each for each in SECRETS if each.encode() in said.lower()]
    assert key.stat().st_mode & 0o077 == 0
    again = study.parent / "again"
    assert main([str(study), str(again), "--key-file", str(key)]) == 0
    assert {path.name for path in again.rglob("*.dcm")} == {path.name for path in files}


def test_what_may_not_leave_is_counted_and_not_written(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "screen.dcm").write_bytes(to_bytes(patient_slice(7, BurnedInAnnotation="YES")))
    (study / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 50)
    out = study.parent / "out"
    assert main([str(study), str(out), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["written"], told["no_dicom"]) == (False, 3, 1)
    assert sorted(told["left_out"].values()) == [1, 1]
    assert len(list(out.rglob("*.dcm"))) == 3


def test_the_folder_for_them_must_be_empty_and_apart(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for out in (study, study / "inside", study.parent):
        assert main([str(study), str(out)]) == 1
        assert "new or empty folder" in capsys.readouterr().err
    assert main([str(study / "absent"), str(study.parent / "out")]) == 1
