"""The command: its exit codes, its help, which system it means, and what it hands to other packages."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import edit_rows
import pytest
from ledger_cases import T0, arrive, make, seen, store

from medai.router.cli import main as cli
from medai.router.cli.check import Finding
from medai.router.errors import SettingsError, TemporaryError
from medai.router.ledger import Ledger

OWN = (
    "up", "down", "router", "check", "jobs", "job", "status", "top", "turnaround", "dead", "retry", "drop", "survey", "edits",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("MEDAI_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger, with a medai.toml in the current directory that names it."""
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    (tmp_path / "medai.toml").write_text(f'[ledger]\nurl = "{url}"\n')
    ledger = Ledger(url)
    ledger.migrate()
    yield ledger
    ledger.close()


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


# -- help and dispatch


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


# -- exit codes


@pytest.mark.parametrize("given", [["nonsense"], ["job"], ["jobs", "--state", "lost"], ["jobs", "--limit", "many"]])
def test_wrong_usage_is_2(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(given)
    assert ended.value.code == 2
    assert "usage: medai" in capsys.readouterr().err


def test_no_configuration_is_2_and_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medai.router.settings.tables.find_file", lambda _: None)
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


@pytest.mark.parametrize(("level", "code"), [("ok", 0), ("warning", 0), ("error", 1)])
def test_check_is_1_when_a_finding_is_an_error(
    level: str, code: int, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [Finding(what="redis", level="ok", text="answers"), Finding(what="ris", level=level, text="see there")]
    monkeypatch.setattr("medai.router.cli.check.check", lambda _: found)
    assert cli.main(["check"]) == code
    assert "ris: see there" in capsys.readouterr().out
    assert cli.main(["check", "--json"]) == code
    assert printed(capsys)[1] == {"what": "ris", "level": level, "text": "see there"}


def test_down_where_there_is_no_system_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["down", "--dir", "nowhere"]) == 2
    assert "holds no Med-AI system" in capsys.readouterr().err


# -- which system


def chosen(*given: str) -> str:
    return cli.load_settings(cli.make_parser().parse_args(["status", *given])).results.institution


def test_the_system_is_named_by_config_then_dir_then_what_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("named.toml", "other/medai.toml", ".medai/site/medai.toml", "outside.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f'[results]\ninstitution = "{name}"\n')
    assert chosen() == ".medai/site/medai.toml"
    assert chosen("--dir", "other") == "other/medai.toml"
    assert chosen("--dir", "other", "--config", "named.toml") == "named.toml"
    (tmp_path / "medai.toml").write_text('[results]\ninstitution = "here"\n')
    assert chosen() == "here"
    monkeypatch.setenv("MEDAI_CONFIG", "outside.toml")
    assert chosen() == "outside.toml"
    assert chosen("--dir", "other") == "other/medai.toml"


def test_the_directory_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDAI_DIR", "/srv/medai")
    assert cli.site_folder(argparse.Namespace(dir=None)) == Path("/srv/medai")
    assert cli.site_folder(argparse.Namespace(dir=Path("x"))) == Path("x")


def test_a_directory_without_a_system_is_not_silently_another(ledger: Ledger) -> None:
    with pytest.raises(SettingsError, match="start a system there with 'medai up --dir other'"):
        chosen("--dir", "other")


# -- the commands that read the ledger


def test_jobs_prints_a_list_or_json(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["jobs"]) == 0
    assert "no readings yet" in capsys.readouterr().out
    job_id, _ = make(ledger, arrive(ledger, seen()))
    assert cli.main(["jobs", "--json", "--study-uid", "1.2.3"]) == 0
    told = printed(capsys)
    assert [job["job_id"] for job in told["jobs"]] == [job_id]
    assert told["study"]["instances"] == 50
    assert [item["verdict"] for item in told["decisions"]] == ["route"]


def test_a_job_is_named_by_the_beginning_of_its_id(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    assert cli.main(["job", job_id[:6]]) == 0
    assert f"job {job_id}  pending" in capsys.readouterr().out
    assert cli.main(["job", job_id, "--json"]) == 0
    assert {"decisions", "attempts", "stamps"} <= set(printed(capsys))


def test_a_job_that_does_not_exist_or_is_not_clear_is_1(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["job", "ffff"]) == 1
    assert "no job has an id that begins with 'ffff'" in capsys.readouterr().err
    make(ledger, arrive(ledger, seen(uid="1.1")))
    make(ledger, arrive(ledger, seen(uid="1.2")))
    assert cli.main(["job", ""]) == 1
    assert "more than one job" in capsys.readouterr().err


def test_status_and_turnaround_print_text_or_json(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    make(ledger, arrive(ledger, seen()), at=T0)
    assert cli.main(["status"]) == 0
    assert "queue    1 waiting" in capsys.readouterr().out
    assert cli.main(["status", "--json"]) == 0
    assert printed(capsys)["queue_depth"] == 1
    assert cli.main(["turnaround", "--since", "7d", "--by", "route"]) == 0
    assert capsys.readouterr().out == "no reading ended in the last 7d\n"
    assert cli.main(["turnaround", "--json"]) == 0
    assert printed(capsys)["groups"] == []


@pytest.mark.parametrize(
    ("text", "value"),
    [("90s", 90), ("30m", 1800), ("24h", 86400), ("7d", 604800), ("15", 15), ("1.5h", 5400), ("0", 0)],
)
def test_a_duration_is_a_number_with_a_unit(text: str, value: float) -> None:
    assert cli.parse_duration_s(text) == value


@pytest.mark.parametrize("text", ["", "h", "1w", "one hour", "-5h", "nan", "inf", "1 h 30 m"])
def test_a_duration_that_is_none_is_explained(text: str) -> None:
    with pytest.raises(SettingsError, match="write 90s, 30m, 24h or 7d"):
        cli.parse_duration_s(text)


def test_a_wrong_duration_on_the_command_line_is_2(ledger: Ledger) -> None:
    assert cli.main(["turnaround", "--since", "yesterday"]) == 2


# -- surveys


@pytest.mark.parametrize("what", ["summary", "export"])
def test_each_survey_command_has_an_example_that_parses(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["survey", what, "--help"])
    (example,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("example: medai ")]
    assert cli.make_parser().parse_args(example.split()[2:]).what == what


def answered(ledger: Ledger) -> str:
    job_id = str(make(ledger, arrive(ledger, seen()))[0])
    claim = ledger.claim(job_id, worker="w", lease_s=20, now=T0)
    assert claim is not None
    store(ledger, claim)
    ledger.answer_usefulness("ana", job_id, {"correct": 5, "time": 2}, "=1+1", T0)
    ledger.answer_sus("ana", [5, 1] * 5, T0)
    return job_id


def test_a_survey_summary_is_text_or_json(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    answered(ledger)
    assert cli.main(["survey", "summary"]) == 0
    assert "mr_brain by brain: 1 readers, 1 readings" in capsys.readouterr().out
    assert cli.main(["survey", "summary", "--json"]) == 0
    found = printed(capsys)
    assert (found["usefulness"][0]["questions"][1]["mean"], found["sus"]["mean"]) == (2.0, 100.0)


def test_a_survey_export_is_printed_or_written_and_names_nobody_unasked(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = answered(ledger)
    assert cli.main(["survey", "export", "usefulness"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.startswith("reader,answered_on,job_id,")
    assert (job_id in row, "'=1+1" in row, "ana" in row) == (True, True, False)
    assert cli.main(["survey", "export", "sus", "--names", "--out", "sus.csv"]) == 0
    assert Path("sus.csv").read_bytes().splitlines()[1].startswith(b"1,ana,2027-01-15,5,1,")
    assert cli.main(["survey", "export", "sus", "--json"]) == 0
    assert (printed(capsys)[0]["score"], ledger.actions()[1].detail) == (100.0, "sus, with names")
    assert cli.main(["survey", "export", "sus", "--out", "nowhere/sus.csv"]) == 1
    assert "can't write nowhere/sus.csv" in capsys.readouterr().err


# -- what readers made of our results


def test_edits_are_listed_by_structure(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["edits", "list"]) == 0
    assert "no reader has stored" in capsys.readouterr().out
    edit_rows.compared(ledger, edit_rows.read(ledger), [edit_rows.brain(0.87)])
    assert cli.main(["edits", "list"]) == 0
    assert "Brain" in (text := capsys.readouterr().out)
    assert "0.870" in text
    assert cli.main(["edits", "list", "--json", "--model", "other"]) == 0
    assert printed(capsys) == {"edits": []}


def test_an_export_of_edits_needs_a_folder_and_is_written_down(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["edits", "export"]) == 2
    assert "--out DIR" in capsys.readouterr().err
    assert cli.main(["edits", "export", "--out", str(tmp_path / "edits"), "--since", "30d", "--json"]) == 0
    assert printed(capsys)["cases"] == 0
    assert json.loads((tmp_path / "edits" / "manifest.json").read_text())["edits"] == []
    assert [row.action for row in ledger.actions()] == ["edits export"]
