"""What a command tells: text, JSON on standard output alone, or both with a file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from medai.training.output import answer, json_argument


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    parser = argparse.ArgumentParser()
    json_argument(parser, "the figures")
    answer(parser.parse_args(words), {"dice": 0.9}, "Dice 0.9")
    return capsys.readouterr().out


def test_text_without_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert told([], capsys) == "Dice 0.9\n"


def test_json_alone_is_all_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(told(["--json"], capsys)) == {"dice": 0.9}


def test_a_file_is_written_beside_the_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "new" / "figures.json"
    assert told(["--json", str(file)], capsys) == "Dice 0.9\n"
    assert json.loads(file.read_text(encoding="utf-8")) == {"dice": 0.9}
