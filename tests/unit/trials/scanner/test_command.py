"""``medai scan``: what it asks for and how it says no; its patience. With real servers: integration/test_scan_command.py."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from medai.trials.scanner import command
from medai.trials.scanner.command import HABITS, Patience, main
from medai.trials.scenario import Habits


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "--archive"),
        (["--archive", "localhost"], "give HOST:PORT"),
        (["--archive", "localhost:70000"], "give HOST:PORT"),
        (["--archive", "h:1", "--ris", "h"], "--ris h: give HOST:PORT"),
        (["--archive", "h:1", "--aet", "A_TITLE_THAT_IS_TOO_LONG"], "1 to 16 characters"),
        (["--archive", "h:1", "--habit", "sleeping"], "sleeping"),
        (["--archive", "h:1", "--count", "0"], "--count must be at least 1"),
        (["--archive", "h:1", "--pace", "-1"], "--pace must be finite and not negative"),
        (["--archive", "h:1", "--pace", "nan"], "--pace must be finite and not negative"),
        (["--archive", "h:1", "--give-up", "inf"], "--give-up must be finite and not negative"),
        (["--archive", "h:1", "--source", "/nowhere"], "is not a folder"),
    ],
)
def test_a_mistake_is_told(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_folder_without_images_is_a_mistake_told_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--archive", "h:1", "--source", str(tmp_path), "--modality", "CT", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "holds no CT series" in json.loads(captured.err.splitlines()[-1])["error"]


def test_a_folder_of_ct_gives_radiographs_too(tmp_path: Path) -> None:
    for number in range(4):
        slice_ = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
        slice_.SOPInstanceUID = f"1.2.3.{number}"
        slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
        slice_.ImagePositionPatient = [0, 0, 5 * number]
        slice_.save_as(tmp_path / f"{number}.dcm")
    template = command._of_folder(tmp_path, "CR")
    assert (template.modality, len(template.headers)) == ("CR", 1)
    assert template.source.startswith("projection of")


def test_its_habits_are_those_of_a_scenario() -> None:
    assert {habit.replace("-", "_") for habit in HABITS} <= set(Habits.model_fields)


def test_patience_ends_after_a_time_without_an_image_and_begins_anew_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("medai.trials.scanner.command.time.monotonic", lambda: now[0])
    monkeypatch.setattr("medai.trials.clock.Clock.pause_s", lambda self, real_s: now.__setitem__(0, now[0] + real_s))
    patience = Patience(give_up_s=3.0)
    assert [bool(patience.pause_s(1.0)) for _ in range(4)] == [False, False, False, True]
    patience.sleep(0.0)  # before the next image
    assert not patience.pause_s(1.0)
