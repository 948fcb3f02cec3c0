"""Service times out of a run, the model with them, and the number of workers that keeps a promise."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from trial_cases import WITHOUT_AI, scenario, trial

from trials import capacity, service, timeline, validate
from trials.capacity import Objective, Region, Spread, parse_objective, plan, spread
from trials.record import FaultRow
from trials.scenario import Fault, ScenarioError
from trials.serving import Outcome, Resources, Served
from trials.simulate import percentile, scanned, simulate


def test_service_times_are_those_of_the_run() -> None:
    found = service.measure(replace(trial(), faults=()))
    assert set(found.cases) == {"chest-ct"}
    assert found.mean_busy_s == pytest.approx(0.6, abs=1e-3)
    assert found.quiet_s == 2.0
    assert all(value == pytest.approx(0.0, abs=1e-3) for value in found.completeness_s)


def test_what_was_read_while_something_was_broken_is_no_service_time() -> None:
    whole, calm = service.measure(replace(trial(), faults=())), service.measure(trial())
    assert len(calm.cases["chest-ct"]) < len(whole.cases["chest-ct"])


def test_a_run_without_readings_has_no_service_times() -> None:
    with pytest.raises(ScenarioError, match="no arm with AI"):
        service.measure(trial(arms=(WITHOUT_AI,)))
    with pytest.raises(ScenarioError, match="at least 5"):
        service.measure(trial(studies=3))
    always = FaultRow(arm="with-ai", name="ris-away", began_s=0.0, ended_s=999.0)
    with pytest.raises(ScenarioError, match="only 0 readings of this trial were not touched by its faults"):
        service.measure(replace(trial(), faults=(always,)))


def test_service_times_are_kept_and_read_back(tmp_path: Path) -> None:
    found = service.measure(trial())
    service.write(found, tmp_path / "mine.json")
    assert service.load(str(tmp_path / "mine.json")) == found
    trial().write(tmp_path / "run")
    assert service.load(str(tmp_path / "run")) == found


@pytest.mark.parametrize("name", ["light", "shipped"])
def test_service_times_ship(name: str) -> None:
    found = service.load(name)
    assert {"chest-ct", "head-mr"} == set(found.cases)
    assert min(len(steps) for steps in found.cases.values()) >= 5


def test_a_name_that_is_none_lists_those_there_are() -> None:
    with pytest.raises(ScenarioError, match="give the folder of a trial, a file, or one of light, shipped"):
        service.load("heavy")


def test_the_model_reads_what_the_routes_read() -> None:
    of, times = scenario(), service.load("light")
    planned = timeline.plan(of)
    outcome = simulate(of, planned, times, Resources(workers=1), accelerate=60.0)
    assert len(outcome.served) == sum(study.case == "chest-ct" for study in planned)
    assert all(each.turnaround_s > times.quiet_s for each in outcome.served)


def test_the_same_seed_gives_the_same_and_more_workers_no_worse() -> None:
    of, times = scenario(), service.load("shipped")
    planned = timeline.plan(of)
    one, again, two = (
        percentile(
            [e.turnaround_s for e in simulate(of, planned, times, Resources(workers=n), accelerate=8.0).served], 0.95
        )
        for n in (1, 1, 2)
    )
    assert one == again > two


def test_workers_that_are_away_are_away_in_the_model_too() -> None:
    of = scenario(faults=(Fault(name="workers-away", at_s=600, for_s=1200),))
    times = service.load("light")
    outcome = simulate(of, timeline.plan(of), times, Resources(workers=1), accelerate=1.0)
    assert not [each for each in outcome.served if 600 < each.started_s < 1800]


def test_a_scanner_makes_one_study_after_the_other_and_stat_first() -> None:
    of = scenario()
    planned = [
        replace(study, at_s=0.0, case="chest-ct", priority="stat" if study.number == 3 else "routine", habits=())
        for study in timeline.plan(of)[:5]
    ]
    made = list(scanned(of, planned, service.load("light"), 1.0))
    assert [study.number for study, _ in made][:2] == [3, 0]
    gaps = [b[1] - a[1] for a, b in pairwise(made)]
    assert min(gaps) > 3.0, "36 images at ten a second"


def test_a_regions_year_has_so_many_studies_at_its_hours() -> None:
    of, times = scenario(), service.load("light")
    region = Region(hospitals=30, studies_per_year=36_500, days=365)
    outcome = capacity.simulate_region(of, times, Resources(workers=4), region, seed=1)
    assert 36_500 * 2 / 3 * 0.97 < len(outcome.served) < 36_500 * 2 / 3 * 1.03, "two of three are CT"


def test_the_smallest_number_that_keeps_a_promise_is_found_and_one_less_is_shown() -> None:
    def run(workers: int, seed: int) -> Outcome:
        seconds = 1000.0 / workers + seed
        return Outcome(served=[Served(0.0, 2, 0.0, seconds)], busy=0.5, length_s=1.0, longest_queue=0)

    found, tried = plan(run, Objective(share=0.95, limit_s=104.0), least=1, most=64, replications=5)
    assert found == 10 or found == 11
    verdicts = {each.workers: each.keeps for each in tried}
    assert verdicts[found]
    assert not verdicts[found - 1]


def test_a_promise_that_nobody_can_keep_is_told() -> None:
    def run(_workers: int, _seed: int) -> Outcome:
        return Outcome(served=[Served(0.0, 2, 0.0, 500.0)], busy=0.5, length_s=1.0, longest_queue=0)

    found, tried = plan(run, Objective(share=0.95, limit_s=300.0), least=1, most=20, replications=2)
    assert found is None
    assert max(each.workers for each in tried) == 20


@pytest.mark.parametrize(
    ("text", "share", "limit_s"),
    [("p95=300s", 0.95, 300.0), ("p99=5m", 0.99, 300.0), ("p50=1h", 0.5, 3600.0), ("p90=12", 0.9, 12.0)],
)
def test_an_objective_is_a_percentile_and_a_limit(text: str, share: float, limit_s: float) -> None:
    found = parse_objective(text, "")
    assert (found.share, found.limit_s) == (pytest.approx(share), limit_s)


@pytest.mark.parametrize("text", ["fast", "95=300s", "p0=1s", "p100=1s", "p95=0s", "p95=soon", "p95"])
def test_what_is_no_objective_is_told_with_an_example(text: str) -> None:
    with pytest.raises(ScenarioError, match="as in p95=300s"):
        parse_objective(text, "")


def test_an_interval_needs_two() -> None:
    assert spread([3.0]) == Spread(value=3.0, low=None, high=None)
    assert math.isnan(spread([math.nan]).value)
    found = spread([1.0, 3.0])
    assert found.low is not None
    assert found.low < 1 < found.value == 2.0


def test_a_wrong_model_is_called_wrong() -> None:
    bad = validate.Compared(what="all, p95", studies=50, real=10.0, simulated=spread([12.0, 12.1]), judged=True)
    good = validate.Compared(what="all, p50", studies=50, real=10.0, simulated=spread([10.9, 11.0]), judged=True)
    assert (bad.ok, good.ok) == (False, True)
    off = validate.Closed(what="M/M/1", theory=2.0, simulated=spread([1.0, 1.01]))
    assert not off.ok
    text = validate.markdown(trial(), [bad, good], [off])
    assert "| all, p95 | 50 | 10.00 | 12.050" in text
    assert text.count("| no |") == 2


def test_the_run_that_it_was_measured_on_is_compared_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "REPLICATIONS", 2)
    found = validate.against_run(trial())
    assert [each.what for each in found][-2:] == ["all, p50", "all, p95"]
    assert all(each.real > 2 for each in found)


def test_theory_is_compared_with_long_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "REPLICATIONS", 3)
    monkeypatch.setattr(validate, "STUDIES", 2000)
    found = validate.against_theory()
    assert len(found) == 8
    assert all(each.simulated.value == pytest.approx(each.theory, rel=0.5) for each in found)
