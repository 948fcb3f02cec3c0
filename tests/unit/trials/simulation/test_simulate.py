"""A scenario in the model: who is read, who waits, and what an outage costs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from trial_cases import scenario

from medai.trials.hospital import timeline
from medai.trials.scenario import Fault
from medai.trials.simulation import service_times
from medai.trials.simulation.serving import Resources
from medai.trials.simulation.simulate import left_out, percentile, scanned, simulate


def test_the_model_reads_what_the_routes_read() -> None:
    of, times = scenario(), service_times.load("light")
    planned = timeline.plan(of)
    outcome = simulate(of, planned, times, Resources(workers=1), accelerate=60.0)
    assert len(outcome.served) == sum(study.case == "chest-ct" for study in planned)
    assert all(each.turnaround_s > times.quiet_s for each in outcome.served)


def test_the_same_seed_gives_the_same_and_more_workers_no_worse() -> None:
    of, times = scenario(), service_times.load("shipped")
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
    times = service_times.load("light")
    outcome = simulate(of, timeline.plan(of), times, Resources(workers=1), accelerate=1.0)
    assert not [each for each in outcome.served if 600 < each.started_s < 1800]


def test_workers_read_again_only_when_they_have_started_again() -> None:
    of = scenario(faults=(Fault(name="workers-away", at_s=600, for_s=600),))
    times = service_times.load("light").model_copy(update={"restart_s": 60.0})
    outcome = simulate(of, timeline.plan(of), times, Resources(workers=1), accelerate=1.0)
    assert not [each for each in outcome.served if 600 < each.started_s < 1260]
    assert [each for each in outcome.served if 1260 <= each.started_s < 1261], "at once, with what had waited"


def test_a_fault_that_the_model_does_not_play_is_told() -> None:
    faults = (Fault(name="workers-killed", at_s=60), Fault(name="ris-away", at_s=60, for_s=60),
              Fault(name="redis-flushed", at_s=90), Fault(name="orthanc-away", at_s=90, for_s=30))  # fmt: skip
    assert left_out(scenario(faults=faults)) == ["redis-flushed", "orthanc-away"]


def test_a_study_takes_its_scanner_as_long_as_it_has_images() -> None:
    of, times = scenario(), service_times.load("light")
    planned = [replace(study, at_s=0.0, case="chest-ct", habits=()) for study in timeline.plan(of)[:1]]
    ends = []
    for count in (50, 250):
        counted = times.model_copy(update={"images": {"chest-ct": (count,)}})
        ends.append(next(at_s for _, at_s in scanned(of, planned, counted, 1.0)))
    assert ends[1] - ends[0] == pytest.approx(20.0), "200 images at ten a second"


def test_a_scanner_makes_one_study_after_the_other_and_stat_first() -> None:
    of = scenario()
    planned = [
        replace(study, at_s=0.0, case="chest-ct", priority="stat" if study.number == 3 else "routine", habits=())
        for study in timeline.plan(of)[:5]
    ]
    times = service_times.load("light").model_copy(update={"images": {}})
    made = list(scanned(of, planned, times, 1.0))
    assert [study.number for study, _ in made][:2] == [3, 0]
    gaps = [b[1] - a[1] for a, b in pairwise(made)]
    assert min(gaps) > 3.0, "36 images at ten a second"
