"""The command line explains itself, and tells a mistake before anything is started."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from trial_cases import SCENARIO, WITH_AI, WITHOUT_AI, trial

from medai.trials import trial_cli
from medai.trials.box import BoxError
from medai.trials.hospital.arm import Options, Say
from medai.trials.hospital.record import TrialRun
from medai.trials.scenario import Scenario, ScenarioError, load, shipped
from medai.trials.simulation import validate
from medai.trials.simulation.command import BEGIN, END, _put

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
    said = capsys.readouterr()
    assert said.out == ""
    assert "no scenario" in json.loads(said.err)["error"]
    assert json.loads(said.err)["exit_code"] == 2


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...], Options, Path | None]]:
    """What was run: (scenario, arms, options, folder of its CSV); nothing is started, no PDF is written."""
    calls: list[tuple[str, tuple[str, ...], Options, Path | None]] = []

    def run_trial(
        of: Scenario, arms: tuple[str, ...], options: Options, *, data: Path | None, beside: Path | None, say: Say
    ) -> TrialRun:
        calls.append((of.name, tuple(arms), options, beside))
        say("playing ...")
        run = trial(arms=arms)
        if of.name == "ris-outage":
            run = replace(run, studies=(replace(run.studies[0], lost=True), *run.studies[1:]))
        if of.name == "quiet-night":
            run = replace(run, machine={**run.machine, "interrupted": True})
        return replace(run, scenario=of)

    monkeypatch.setattr(trial_cli, "run_trial", run_trial)
    monkeypatch.setattr(trial_cli, "write_report", lambda folder: (folder, folder))
    return calls


Played = list[tuple[str, tuple[str, ...], Options, Path | None]]


def test_a_good_trial_ends_with_0_and_one_document(
    played: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text(SCENARIO)
    out = tmp_path / "new" / "deep"
    asked = ("--out", str(out), "--arms", "without-ai,with-ai", "--accelerate", "90", "--seed", "3", "--json")
    assert called("run", str(tmp_path / "mine.toml"), *asked) == 0
    said = capsys.readouterr()
    assert {"scenario": "some-hours", "lost": 0, "twice": 0, "ok": True, "interrupted": False}.items() <= json.loads(
        said.out
    ).items()
    assert "playing ..." in said.err
    ((name, arms, options, beside),) = played
    assert (name, arms, options.accelerate, beside) == ("some-hours", ("without-ai", "with-ai"), 90.0, tmp_path)
    assert (options.folder, options.keep_site) == (out, False)


def test_a_lost_study_ends_a_trial_with_1(played: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert called("run", "ris-outage", "--out", str(tmp_path / "new"), "--short") == 1
    assert "60 studies, 1 lost, 0 answered twice" in capsys.readouterr().out
    assert played[0][2].accelerate == load("ris-outage").as_short().accelerate


def test_all_are_run_in_folders_of_their_own_until_one_is_interrupted(
    played: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called("run", "all", "--out", str(tmp_path), "--json") == 130
    names = [name for name, *_ in played]
    assert names == list(shipped())[: len(names)]
    assert names[-1] == "quiet-night", "none after it"
    assert [options.folder for _, _, options, _ in played] == [tmp_path / name for name in names]
    assert [each["interrupted"] for each in json.loads(capsys.readouterr().out)] == [False] * (len(names) - 1) + [True]


def test_a_part_that_fails_ends_a_trial_with_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise BoxError("redis is not running")

    monkeypatch.setattr(trial_cli, "run_trial", fails)
    assert called("run", "quiet-night", "--out", str(tmp_path)) == 1
    assert capsys.readouterr().err == "medai trial: redis is not running\n"


def test_a_run_is_validated_and_the_exit_code_is_the_verdict(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(validate, "REPLICATIONS", 3)
    monkeypatch.setattr(validate, "STUDIES", 200)
    trial().write(tmp_path / "run")
    (tmp_path / "page.md").write_text(f"{BEGIN}\n{END}\n")
    verdict = called("validate", str(tmp_path / "run"), "--json", "--write", str(tmp_path / "page.md"))
    found = json.loads(capsys.readouterr().out)
    oks = [each["ok"] for kind in ("real", "replayed", "theory") for each in found[kind]]
    assert len(found["theory"]) == 8
    assert verdict == (0 if all(oks) else 1)
    assert "| M/M/1, load 0.5 |" in (tmp_path / "page.md").read_text()
    assert called("validate", str(tmp_path / "run")) == verdict
    assert "within 15 %" in capsys.readouterr().out


def test_a_region_is_simulated_and_planned_with_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    region = ("quiet-night", "--hospitals", "3", "--studies-per-year", "40000", "--days", "2")
    assert called("simulate", *region, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["left_out"] == []
    assert 0 < found["studies_read"] < 40000 / 365 * 2 * 2
    assert called("plan", *region, "--objective", "p95=60s", "--gpu", "--max", "2", "--priority", "routine") == 0
    said = capsys.readouterr().out
    assert said.startswith("1 GPU worker keeps p95 under 60 s for routine\n")
    assert "a GPU infers 10 times as fast (assumed)" in said
    assert called("plan", *region, "--objective", "p95=1s", "--max", "1") == 1
    assert "no number of workers up to 1 keeps p95 under 1 s" in capsys.readouterr().out


def test_several_trials_make_one_table_or_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        trial(arms=(WITH_AI, WITHOUT_AI)).write(tmp_path / name)
    folders = (str(tmp_path / "a"), str(tmp_path / "b"))
    assert called("summary", *folders, "--json") == 0
    assert [row["folder"] for row in json.loads(capsys.readouterr().out)] == ["a", "b"]
    assert called("summary", *folders) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


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
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    _put(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ScenarioError, match="has no"):
        _put(page, "new")
    assert page.read_text() == "no marks"
