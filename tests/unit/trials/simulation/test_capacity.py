"""How many workers keep a promise, and what a region needs."""

from __future__ import annotations

import math

import pytest
from trial_cases import scenario

from medai.trials.scenario import ScenarioError
from medai.trials.simulation import capacity, service_times
from medai.trials.simulation.capacity import Objective, Region, Spread, parse_objective, plan, spread
from medai.trials.simulation.serving import Outcome, Resources, Served


def test_a_regions_year_has_so_many_studies_at_its_hours() -> None:
    of, times = scenario(), service_times.load("light")
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


def test_a_promise_to_nobody_is_told() -> None:
    def run(_workers: int, _seed: int) -> Outcome:
        return Outcome(served=[Served(0.0, 2, 0.0, 5.0)], busy=0.5, length_s=1.0, longest_queue=0)

    with pytest.raises(ScenarioError, match="no stat study came in 2 replications: ask for more days"):
        plan(run, Objective(share=0.95, limit_s=300.0, priority="stat"), least=1, most=20, replications=2)


@pytest.mark.parametrize(
    ("text", "share", "limit_s"),
    [
        ("p95=300s", 0.95, 300.0),
        ("p99=5m", 0.99, 300.0),
        ("p50=1h", 0.5, 3600.0),
        ("p90=12", 0.9, 12.0),
        ("p99.9=2.5h", 0.999, 9000.0),
    ],
)
def test_an_objective_is_a_percentile_and_a_limit(text: str, share: float, limit_s: float) -> None:
    found = parse_objective(text, "")
    assert (found.share, found.limit_s) == (pytest.approx(share), limit_s)
    assert found.name == text.split("=")[0]


@pytest.mark.parametrize(
    "text",
    [
        "fast",
        "95=300s",
        "p0=1s",
        "p100=1s",
        "p95=0s",
        "p95=soon",
        "p95",
        "p95=300ms",
        "p95=3hm",
        "p95=inf",
        "pnan=3s",
        "p95=-1s",
    ],
)
def test_what_is_no_objective_is_told_with_an_example(text: str) -> None:
    with pytest.raises(ScenarioError, match="as in p95=300s"):
        parse_objective(text, "")


def test_an_interval_needs_two() -> None:
    assert spread([3.0]) == Spread(value=3.0, low=None, high=None)
    assert math.isnan(spread([math.nan]).value)
    assert [capacity.student_t95(n) for n in (1, 10, 30)] == [12.706, 2.228, 2.042]
    assert capacity.student_t95(60) == pytest.approx(2.000, abs=0.002)
    assert capacity.student_t95(1000) == pytest.approx(1.962, abs=0.002)
    found = spread([1.0, 3.0])
    assert found.low is not None
    assert found.low < 1 < found.value == 2.0
