"""Every command of ``medai`` and ``medai-train`` answers programs too, and its help has an example that parses."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from command_lines import commands, words_after

from medai.router.cli import main as medai
from medai.training import cli as train

ROOT = Path(__file__).resolve().parents[4]
SERVES = {
    "medai router": "serves until it is stopped; its log is JSON lines on standard error",
    "medai worker": "serves until it is stopped; its log is JSON lines on standard error",
    "medai console": "serves until it is stopped; its log is JSON lines on standard error, and it has an API",
    "medai dicom-front": "serves until it is stopped; its log is JSON lines on standard error",
    "medai ris": "serves until it is stopped; its page and its JSON are on --http-port",
}
"""Commands without --json, and why."""
COMMANDS = {name: (parser, whole) for name, parser, whole in commands()}


def test_the_walk_finds_the_commands_of_every_package() -> None:
    assert {"medai jobs", "medai survey summary", "medai process", "medai models add", "medai demo", "medai ris",
            "medai top", "medai-train fit", "medai-train etl run"} <= set(COMMANDS)  # fmt: skip
    assert {name.split()[1] for name in COMMANDS if name.startswith("medai-train")} == set(train.COMMANDS)
    assert {name.split()[1] for name in COMMANDS if name.startswith("medai ")} >= set(medai.ELSEWHERE)
    assert set(COMMANDS) >= set(SERVES)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_json_or_a_reason_why_not(name: str) -> None:
    parser, _ = COMMANDS[name]
    assert ("--json" in parser._option_string_actions) != (name in SERVES)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_an_example_that_parses(name: str) -> None:
    parser, whole = COMMANDS[name]
    lines = [line.strip().removeprefix("example: ") for line in (parser.epilog or "").splitlines()]
    examples = [line for line in lines if line.startswith(f"{name} ") or line == name]
    assert examples, parser.epilog
    for line in examples:
        whole.parse_args(words_after(line, name))  # exits where it does not parse
    text = parser.format_help()
    assert " ".join(examples[0].split()) in " ".join(text.split())


@pytest.mark.parametrize("main", [medai.main, train.main])
def test_an_error_is_json_where_that_was_asked_for(
    main: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["jobs"] if main is medai.main else ["rollback", "nobody", "--into", str(tmp_path)]
    code = main([*words, "--json"])  # type: ignore[operator]
    captured = capsys.readouterr()
    assert captured.out == ""
    told = json.loads(captured.err)
    assert told["exit_code"] == code == (2 if main is medai.main else 1)
    assert told["error"]
    assert main(words) == code  # type: ignore[operator]
    assert capsys.readouterr().err.strip() == f"{'medai' if main is medai.main else 'medai-train'}: {told['error']}"


@pytest.mark.parametrize("words", [["help"], ["--help"], ["-h"], []])
def test_the_shell_command_prints_help_without_setting_anything_up(words: list[str]) -> None:
    out = subprocess.run([ROOT / "medai", *words], capture_output=True, text=True, check=True)
    assert "Usage: ./medai COMMAND" in out.stdout
    assert "medai top" in out.stdout
    assert out.stderr == ""
