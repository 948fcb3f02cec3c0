"""What a command tells: text, JSON on standard output alone, or both with a file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from medai.training.output import aligned, answer, json_argument, markdown_table, portable


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


def test_markdown_has_a_bar_for_each_column() -> None:
    assert markdown_table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_a_terminals_columns_are_as_wide_as_their_widest_cell() -> None:
    assert aligned([["a", "long", "x"], ["wider", "b", ""]]) == "a      long  x\nwider  b"


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("runs/one", "runs/one"),
        ("/somewhere/deep/one", "bundles/one"),
        ("../one", "bundles/one"),
        ("a/../one", "bundles/one"),
    ],
)
def test_a_document_does_not_say_where_a_folder_lies_on_one_machine(path: str, written: str) -> None:
    assert portable(Path(path)) == written
