"""The model's queue is a queue: against closed forms, and in outages, by hand."""

from __future__ import annotations

import heapq
import random
import statistics

import pytest

from medai.trials.simulation import queueing
from medai.trials.simulation.service_times import Steps
from medai.trials.simulation.serving import NOTICED_S, Outage, Ready, Resources, serve


def steps(busy_s: float, delivery_s: float = 0.0) -> Steps:
    return Steps(before_s=0.0, inference_s=busy_s, after_s=0.0, delivery_s=delivery_s)


def at(moment: float, urgency: int = 2, busy_s: float = 10.0, first_s: float = 0.0) -> Ready:
    return Ready(moment, urgency, steps(busy_s), first_s)


def started(*studies: Ready, workers: int = 1, **more: object) -> list[float]:
    outcome = serve(studies, Resources(workers=workers), **more)  # type: ignore[arg-type] # each test's own
    return [each.started_s for each in sorted(outcome.served, key=lambda each: each.at_s)]


def test_first_come_first_served() -> None:
    assert started(at(0), at(1), at(2)) == [0, 10, 20]


def test_a_stat_study_overtakes_those_that_wait_and_not_the_one_in_hand() -> None:
    assert started(at(0), at(1), at(2, urgency=0)) == [0, 20, 10]


def test_two_workers_read_two() -> None:
    assert started(at(0), at(1), at(2), workers=2) == [0, 1, 10]


def test_the_quiet_period_comes_first_and_the_turnover_after() -> None:
    outcome = serve([at(0, first_s=3.0), at(0.5)], Resources(workers=1), turnover_s=1.0)
    first, second = sorted(outcome.served, key=lambda each: each.started_s)
    assert (first.started_s, second.started_s) == (0.5, 11.5)
    assert second.turnaround_s == pytest.approx(21.5)


def test_workers_that_are_away_begin_nothing() -> None:
    assert started(at(5), outages=[Outage(began_s=2, ended_s=30)]) == [30]


def test_a_worker_that_dies_costs_the_time_until_that_is_noticed() -> None:
    (begun,) = started(at(0), outages=[Outage(began_s=4, ended_s=5)])
    assert 4 + NOTICED_S[0] <= begun <= 4 + NOTICED_S[1]


def test_a_result_waits_for_the_ris_and_comes_soon_after_it_is_back() -> None:
    (one,) = serve([at(0)], Resources(workers=1), ris_away=[(5.0, 100.0)]).served
    assert 100 <= one.result_s <= 130


def test_a_gpu_is_quicker_and_serves_one_at_a_time() -> None:
    alone = serve([at(0)], Resources(workers=1, gpus=1, speedup=10)).served[0]
    assert alone.result_s == pytest.approx(1.0)
    shared = serve([at(0), at(0), at(0)], Resources(workers=3, gpus=1, speedup=10))
    assert sorted(each.result_s for each in shared.served) == pytest.approx([1.0, 2.0, 3.0])


def test_a_worker_that_shares_a_gpu_can_die_at_every_stage_and_its_gpu_is_free_again() -> None:
    reading = Steps(before_s=10.0, inference_s=100.0, after_s=10.0, delivery_s=0.0)
    shared = Resources(workers=2, gpus=1, speedup=10)
    undisturbed = serve([Ready(0.0, 2, reading), Ready(0.0, 2, reading)], shared)
    assert sorted(each.result_s for each in undisturbed.served) == pytest.approx([30.0, 40.0])
    for moment in (5.0, 15.0, 25.0, 35.0):  # fetching; inference and the wait for it; encoding and inference; encoding
        outcome = serve([Ready(0.0, 2, reading)] * 2, shared, outages=[Outage(began_s=moment, ended_s=moment + 1)])
        done = sorted(each.result_s for each in outcome.served)
        assert len(done) == 2
        if moment < 30:
            assert done[0] >= moment + NOTICED_S[0] + 30, "nothing that was in hand is kept"
        assert done[1] >= moment + NOTICED_S[0] + 30


def test_it_is_told_when_a_study_was_in_the_queue() -> None:
    (one,) = serve([at(5, first_s=3.0)], Resources(workers=1)).served
    assert one.ready_s == 8.0


def test_a_correction_is_read_and_not_counted() -> None:
    again = Ready(1.0, 2, steps(10.0), counts=False)
    outcome = serve([at(0), again, at(2)], Resources(workers=1))
    assert len(outcome.served) == 2
    assert outcome.busy == pytest.approx(1.0)


def test_nothing_to_read_is_no_error() -> None:
    outcome = serve([], Resources(workers=2))
    assert (outcome.served, outcome.busy, outcome.longest_queue) == ([], 0.0, 0)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (4, 0.8)])
def test_waits_are_those_of_theory(servers: int, load: float) -> None:
    waits = []
    for seed in range(8):
        dice, moment, studies = random.Random(seed), 0.0, []  # noqa: S311 - a simulation
        for _ in range(6000):
            moment += dice.expovariate(load * servers)
            studies.append(at(moment, busy_s=dice.expovariate(1.0)))
        served = serve(studies, Resources(workers=servers)).served
        waits.append(statistics.fmean(each.started_s - each.at_s for each in served))
    theory = queueing.mmc_wait_s(load * servers, 1.0, servers)
    assert statistics.fmean(waits) == pytest.approx(theory, rel=0.12)


@pytest.mark.parametrize("workers", [1, 4])
def test_each_study_waits_as_long_as_by_the_recursion(workers: int) -> None:
    """Kiefer and Wolfowitz (1955), Lindley (1952) for one worker: the next study begins when the first worker is free."""
    dice, moment, studies = random.Random(7), 0.0, []  # noqa: S311 - a simulation
    for _ in range(5000):
        moment += dice.expovariate(0.9 * workers)
        studies.append(at(moment, busy_s=dice.expovariate(1.0)))
    free, expected = [0.0] * workers, []
    for study in studies:
        begins = max(study.at_s, free[0])
        expected.append(begins)
        heapq.heapreplace(free, begins + study.steps.busy_s)
    assert started(*studies, workers=workers) == pytest.approx(expected, abs=1e-6)
