"""The same seed brings the same patients; a change of one share moves nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from trial_cases import scenario

from medai.trials.hospital.timeline import plan
from medai.trials.scenario import Arrivals, Case, Habits, ScenarioError

DAY = tuple(float(10 * (8 <= hour < 10)) for hour in range(24))


def test_the_same_seed_brings_the_same_patients_and_another_others() -> None:
    assert plan(scenario()) == plan(scenario())
    assert plan(scenario()) != plan(scenario(seed=6))


def test_arrivals_are_in_order_within_the_trial_and_as_many_as_the_rate_says() -> None:
    long = scenario(duration_s=100 * 3600.0)
    at = [study.at_s for study in plan(long)]
    assert at == sorted(at)
    assert at[0] > 0
    assert at[-1] < long.duration_s
    assert 4000 - 4 * 63 < len(at) < 4000 + 4 * 63, "Poisson: within four standard deviations"


def test_the_hour_of_the_day_decides_the_rate() -> None:
    daily = scenario(starts="07:00", duration_s=4 * 3600.0, arrivals=Arrivals(kind="profile", per_hour=DAY))
    studies = plan(daily)
    assert studies
    assert all(3600 <= study.at_s < 3 * 3600 for study in studies), "between eight and ten"


def test_a_change_of_one_share_moves_nothing_else() -> None:
    before = plan(scenario())
    after = plan(scenario(habits=Habits(localizer=0.5, late_slices=0.1, duplicate_send=1.0)))
    assert [replace(study, habits=()) for study in before] == [replace(study, habits=()) for study in after]
    assert [set(a.habits) - set(b.habits) for a, b in zip(after, before, strict=True)] == [{"duplicate_send"}] * len(
        after
    )


def test_more_positives_keep_the_others_where_they_are() -> None:
    cases = tuple(Case.model_validate({**case.model_dump(), "positive": 1.0}) for case in scenario().cases)
    before, after = plan(scenario()), plan(scenario(cases=cases))
    assert all(study.positive for study in after)
    assert [study.reading_s for study in before] == [study.reading_s for study in after]


def test_what_the_ai_says_follows_its_sensitivity_and_specificity() -> None:
    many = plan(scenario(duration_s=200 * 3600.0))
    positive = [study for study in many if study.positive]
    negative = [study for study in many if not study.positive]
    assert 0.87 < sum(study.flagged for study in positive) / len(positive) < 0.93
    assert 0.07 < sum(study.flagged for study in negative) / len(negative) < 0.13


def test_a_csv_is_replayed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("at_s,case,priority\n60,chest-xray,stat\n30,,\n99999,,\n")
    studies = plan(scenario(arrivals=Arrivals(kind="replay", csv="a.csv")), beside=tmp_path)
    assert [study.at_s for study in studies] == [30, 60], "in order; what comes after the end is left out"
    assert (studies[1].case, studies[1].priority) == ("chest-xray", "stat")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("at_s\nsoon\n", "each row needs at_s"),
        ("when\n1\n", "each row needs at_s"),
        ("at_s,case\n1,knee\n", "line 2: no case is named 'knee'"),
        ("case,at_s\nchest-ct\n", "each row needs at_s"),
        ("", "each row needs at_s"),
        ("at_s\nnan\n", "line 2: at_s must be seconds from the trial's begin, not nan"),
        ("at_s\n1\n-1\n", "line 3: at_s must be seconds from the trial's begin, not -1"),
        ("at_s,cases\n1,chest-xray\n", "the column 'cases' is none of at_s, case, priority"),
        ("at_s,priority\n1,STAT\n", "line 2: priority 'STAT' is none of stat, urgent, routine"),
    ],
)
def test_a_csv_with_a_mistake_is_told(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ScenarioError, match=complaint):
        plan(scenario(arrivals=Arrivals(kind="replay", csv="a.csv")), beside=tmp_path)


def test_a_csv_as_a_spreadsheet_writes_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("\ufeffat_s,case,priority\r\n60,chest-xray,stat\r\n".encode())
    assert [s.at_s for s in plan(scenario(arrivals=Arrivals(kind="replay", csv="a.csv")), beside=tmp_path)] == [60]


def test_a_csv_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="can't be read"):
        plan(scenario(arrivals=Arrivals(kind="replay", csv="b.csv")), beside=tmp_path)
