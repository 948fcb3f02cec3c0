"""A scenario file is judged whole, and each complaint names its key; the shipped ones can be played."""

from __future__ import annotations

from pathlib import Path

import pytest
from trial_cases import SCENARIO, scenario

from medai.trials.hospital import faults
from medai.trials.scenario import ScenarioError, load, parse, shipped

SIX = {"archive-migration", "gpu-lost", "monday-morning", "quiet-night", "ris-outage", "trauma-burst"}


def test_six_scenarios_ship() -> None:
    assert set(shipped()) == SIX


@pytest.mark.parametrize("name", sorted(SIX))
def test_each_shipped_scenario_can_be_played_whole_and_short(name: str) -> None:
    whole = load(name)
    short = whole.as_short()
    for each in (whole, short):
        faults.check(each)
        assert each.staffing.shifts[-1].to_s >= each.duration_s, "somebody is there until the end"
    assert short.duration_s / short.accelerate <= 60, "the short form is for CI"
    assert len(short.faults) == len(whole.faults)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('name = "some-hours"', 'name = "Some Hours"', "name"),
        ("duration_s = 7200", "duration_s = 0", "duration_s"),
        ("stat = 0.1", "stat = 0.2", "priorities: the shares must add up to 1, not 1.1"),
        ('scanner = "CT1"', 'scanner = "CT9"', "case chest-ct: no CT scanner is named 'CT9'"),
        ("per_hour = 40.0", "per_hour = [1.0, 2.0]", "arrivals: per_hour must be one number"),
        ('kind = "constant"', 'kind = "profile"', "arrivals: per_hour must be a list of 24 numbers"),
        ('kind = "constant"', 'kind = "replay"', "arrivals: csv must name a file"),
        ('starts = "08:00"', 'starts = "8"', "starts"),
        ("localizer = 0.5", "localiser = 0.5", "habits.localiser: Extra inputs are not permitted"),
        ("localizer = 0.5", "localizer = 1.5", "habits.localizer"),
        ("[arrivals]", "[arrivals", "not TOML"),
        ("duration_s = 7200", "duration_s = inf", "duration_s: Input should be a finite number"),
        ("per_hour = 40.0", "per_hour = nan", "arrivals.per_hour"),
        ("{ to_s = 3600", "{ from_s = 4000, to_s = 3600", "to_s (3600) must be after from_s (4000)"),
        ('name = "chest-xray"', 'name = "chest-ct"', "two cases are named 'chest-ct'"),
        ('name = "CR1"', 'name = "CT1"', "two scanners are named 'CT1'"),
    ],
)
def test_a_mistake_is_told_with_its_key(old: str, new: str, complaint: str) -> None:
    assert old in SCENARIO
    with pytest.raises(ScenarioError, match="mine.toml") as caught:
        parse(SCENARIO.replace(old, new, 1), "mine.toml")
    assert complaint in str(caught.value)


def test_a_name_that_is_none_lists_those_there_are() -> None:
    with pytest.raises(ScenarioError, match="no scenario is named 'mondays'; there are archive-migration, gpu-lost"):
        load("mondays")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="No such file"):
        load(str(tmp_path / "x.toml"))


def test_a_file_of_another_encoding_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(SCENARIO.replace("For tests.", "Für Tests.").encode("latin-1"))
    with pytest.raises(ScenarioError, match=r"mine\.toml is not UTF-8"):
        load(str(tmp_path / "mine.toml"))


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SCENARIO)
    assert load(str(tmp_path / "mine.toml")).name == "some-hours"


def test_the_short_form_scales_faults_and_shifts() -> None:
    short = scenario().as_short()
    assert short.duration_s == 600
    assert [(shift.from_s, shift.to_s) for shift in short.staffing.shifts] == [(0, 300), (300, 1200)]


def test_a_scenario_without_a_short_form_says_so() -> None:
    with pytest.raises(ScenarioError, match="has no"):
        scenario(short=None).as_short()
