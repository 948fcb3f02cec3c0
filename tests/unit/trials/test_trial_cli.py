"""The command line explains itself, and tells a mistake before anything is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from trial_cases import SCENARIO, trial

from trials import trial_cli

COMMANDS = ("run", "list", "show", "faults", "report", "summary", "simulate", "plan", "validate", "service")


def called(*arguments: str) -> int:
    return trial_cli.main(arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        called(command, "--help")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "--json" in said
    assert f"medai trial {command}" in said.split("example:")[1]


def test_scenarios_and_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert called("list", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 6
    assert called("list") == 0
    assert "monday-morning" in capsys.readouterr().out
    assert called("faults", "--json") == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["ris-away"]["lasts"]
    assert not found["workers-killed"]["lasts"]
    assert called("show", "quiet-night") == 0
    assert json.loads(capsys.readouterr().out)["name"] == "quiet-night"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "mondays", "--out", "{new}"], "no scenario is named 'mondays'"),
        (["run", "quiet-night", "--out", "{full}"], "is not empty"),
        (["run", "quiet-night", "--out", "{bad}"], "is a file: name a new folder"),
        (["run", "monday-morning.toml", "--out", "{new}"], "monday-morning.toml can't be read"),
        (["run", "{bad}", "--out", "{new}", "--short"], "no fault is named 'flood'"),
        (["show", "{bad}.toml"], "can't be read"),
        (["run", "quiet-night", "--out", "{new}", "--arms", "with-ai,both"], "name with-ai or without-ai"),
        (["run", "quiet-night", "--out", "{new}", "--arms", ""], "name with-ai or without-ai"),
        (["run", "{bad}", "--out", "{new}"], "no fault is named 'flood'"),
        (["report", "{new}"], "holds no trial"),
        (["validate", "{new}"], "holds no trial"),
        (["validate", "{run}", "--write", "{new}"], "can't be read"),
        (["validate", "{run}", "--write", "{bad}"], "has no <!-- validation:begin -->"),
        (["summary", "{run}", "{new}"], "holds no trial"),
        (["service", "{new}"], "holds no trial"),
        (
            [
                "plan",
                "quiet-night",
                "--days",
                "1",
                "--objective",
                "p95=1s",
                "--priority",
                "urgent",
                "--service",
                "{bad}",
            ],
            "no service times",
        ),
        (["simulate", "quiet-night", "--service", "heavy"], "no service times"),
        (["simulate", "{bad}"], "no fault is named 'flood'"),
        (["plan", "{bad}", "--objective", "p95=60s"], "no fault is named 'flood'"),
        (["simulate", "quiet-night", "--hospitals", "3"], "--hospitals needs --studies-per-year"),
        (["plan", "quiet-night", "--objective", "soon"], "as in p95=300s"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_started(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    (tmp_path / "bad.toml").write_text(SCENARIO + '[[faults]]\nname = "flood"\nat_s = 1\n')
    trial().write(tmp_path / "run")
    places = {name: str(tmp_path / name) for name in ("new", "full", "run")} | {"bad": str(tmp_path / "bad.toml")}
    assert called(*[each.format(**places) for each in arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_an_error_is_json_where_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert called("show", "mondays", "--json") == 2
    assert "no scenario" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize("arguments", [["simulate", "x", "--workers", "0"], ["plan", "x", "--objective", "p9=1", "--max", "-1"],
                                       ["run", "x", "--out", "y", "--accelerate", "0"], ["run", "x", "--out", "y", "--accelerate", "inf"],
                                       ["run", "x", "--out", "y", "--accelerate", "nan"], ["run", "x"],
                                       ["simulate", "x", "--gpus", "-1"], ["simulate", "x", "--days", "0"],
                                       ["plan", "x"], ["plan", "x", "--objective", "p9=1", "--priority", "soon"],
                                       ["summary"], ["fly"], []])  # fmt: skip
def test_numbers_that_mean_nothing_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        called(*arguments)
    assert ended.value.code == 2


def test_a_simulation_is_kept_and_tells_which_faults_it_leaves_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert called("simulate", "gpu-lost", "--days", "2", "--json", "--out", str(tmp_path / "kept")) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == ["redis-flushed"]
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["queue.parquet", "studies.parquet"]
    assert called("simulate", "gpu-lost", "--days", "2") == 0
    assert "does not play: redis-flushed" in capsys.readouterr().out


def test_a_simulation_is_printed_and_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert called("simulate", "quiet-night", "--days", "2", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["studies_read"] > 0
    assert {each["priority"] for each in found["turnaround_s"]} >= {"routine", "all"}
    assert called("simulate", "quiet-night", "--days", "2") == 0
    assert "priority" in capsys.readouterr().out


def test_a_list_of_ones_own_is_simulated_and_planned_from_its_own_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = SCENARIO.replace('kind = "constant"\nper_hour = 40.0', 'kind = "replay"\ncsv = "mine.csv"')
    (tmp_path / "mine.toml").write_text(listed)
    (tmp_path / "mine.csv").write_text("at_s,case\n" + "".join(f"{100 * number},chest-ct\n" for number in range(30)))
    own = str(tmp_path / "mine.toml")
    assert called("simulate", own, "--days", "2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["studies_read"] == 60
    assert called("plan", own, "--objective", "p95=60s", "--days", "1", "--json", "--max", "2") == 0


def test_a_plan_is_found_or_not_and_the_exit_code_says_which(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("plan", "quiet-night", "--days", "1", "--json", "--max", "4")
    assert called(*arguments, "--objective", "p95=60s") == 0
    assert json.loads(capsys.readouterr().out)["workers"] == 1
    assert called(*arguments, "--objective", "p95=1s") == 1, "the quiet period alone takes two"
    assert json.loads(capsys.readouterr().out)["workers"] is None


def test_a_report_is_written_again_and_service_times_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial().write(tmp_path / "run")
    assert called("report", str(tmp_path / "run")) == 0
    assert (tmp_path / "run" / "report.html").exists()
    assert called("service", str(tmp_path / "run"), "--write", str(tmp_path / "s.json")) == 0
    assert "chest-ct" in capsys.readouterr().out
    assert (tmp_path / "s.json").exists()


def test_tables_go_between_the_marks_of_a_file_or_not_at_all(tmp_path: Path) -> None:
    from trials.scenario import ScenarioError
    from trials.simulate_cli import BEGIN, END, _put

    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    _put(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ScenarioError, match="has no"):
        _put(page, "new")
    assert page.read_text() == "no marks"
