"""The command: its exit codes, its help, and what it hands to other packages."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from medai.router.cli import main as cli
from medai.router.errors import TemporaryError
from medai.router.ledger import Ledger

OWN = (
    "up", "down", "router", "check", "jobs", "job", "status", "top", "turnaround", "dead", "retry", "drop", "survey", "edits",
)  # fmt: skip


def test_without_a_command_the_help_shows_every_command_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    text = capsys.readouterr().out
    assert all(f"    {name} " in text or f"    {name}\n" in text for name in (*OWN, *cli.ELSEWHERE))
    assert "medai process STUDY/ --out RESULTS/" in text


@pytest.mark.parametrize("command", OWN)
def test_the_help_of_a_command_has_an_example_that_parses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    examples = [line for line in capsys.readouterr().out.splitlines() if line.startswith("example: medai ")]
    assert len(examples) == 1
    options = cli.make_parser().parse_args(examples[0].split()[2:])
    assert options.command == command


def test_the_examples_of_the_overview_parse() -> None:
    for line in cli.EXAMPLES.splitlines()[1:]:
        words = line.split("   ")[0].split() if "   " in line.strip() else line.split()
        if words[1] in OWN:
            assert cli.make_parser().parse_args(words[1:]).command == words[1]
        else:
            assert words[1] in cli.ELSEWHERE


@pytest.mark.parametrize("name", cli.ELSEWHERE)
def test_a_command_of_another_package_names_a_module_that_exists(name: str) -> None:
    assert importlib.util.find_spec(cli.ELSEWHERE[name][0]) is not None


@pytest.mark.parametrize(
    ("given", "module", "rest"),
    [
        (["process", "STUDY", "--out", "R"], "medai.workers.cli", ["process", "STUDY", "--out", "R"]),
        (["worker"], "medai.workers.cli", ["worker"]),
        (["ris", "--help"], "medai.hl7_mock.cli", ["--help"]),
        (["demo", "--keep"], "medai.trials.demo.command", ["--keep"]),
    ],
)
def test_commands_of_other_packages_replace_this_process_with_their_arguments(
    given: list[str], module: str, rest: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Replaced(Exception):
        pass

    def execv(program: str, arguments: list[str]) -> None:
        raise Replaced(program, arguments)

    monkeypatch.setattr(os, "execv", execv)
    with pytest.raises(Replaced) as caught:
        cli.main(given)
    assert caught.value.args == (sys.executable, [sys.executable, "-P", "-m", module, *rest])


@pytest.mark.parametrize("given", [["nonsense"], ["job"], ["jobs", "--state", "lost"], ["jobs", "--limit", "many"]])
def test_wrong_usage_is_2(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(given)
    assert ended.value.code == 2
    assert "usage: medai" in capsys.readouterr().err


def test_no_configuration_is_2_and_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medai.router.settings.load.find_file", lambda _: None)
    assert cli.main(["jobs"]) == 2
    assert "run 'medai up', or name one with --config" in capsys.readouterr().err


def test_a_wrong_configuration_is_2_and_a_peer_that_is_away_is_1(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["status", "--config", "nowhere.toml"]) == 2

    def away(_: Ledger) -> None:
        raise TemporaryError("the ledger does not answer")

    monkeypatch.setattr(Ledger, "migrate", away)
    assert cli.main(["status"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "medai: the ledger does not answer"


def test_a_reader_that_closes_the_pipe_is_no_error(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, _: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None: ...

        def fileno(self) -> int:
            return target

    with Path("out").open("w") as file:
        target = file.fileno()
        monkeypatch.setattr(sys, "stdout", Closed())
        assert cli.main(["jobs"]) == 0
