"""Service times out of a run, the model with them, and the number of workers that keeps a promise."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from trial_cases import WITHOUT_AI, scenario, trial

from medai.trials.hospital import timeline
from medai.trials.hospital.record import FaultRow, StudyRow
from medai.trials.scenario import Fault, Habits, ScenarioError, System
from medai.trials.simulation import capacity, validate
from medai.trials.simulation import service_times as service
from medai.trials.simulation.capacity import Objective, Region, Spread, parse_objective, plan, spread
from medai.trials.simulation.serving import Outcome, Resources, Served
from medai.trials.simulation.simulate import left_out, percentile, scanned, simulate
from medai.trials.simulation.simulated import write


def test_service_times_are_those_of_the_run() -> None:
    found = service.measure(replace(trial(), faults=()))
    assert set(found.cases) == {"chest-ct"}
    assert found.mean_busy_s == pytest.approx(0.7, abs=1e-3), "until its objects are in the archive"
    assert {case: set(counts) for case, counts in found.images.items()} == {"chest-ct": {36}, "chest-xray": {1}}
    assert found.quiet_s == 2.0
    assert all(value == pytest.approx(0.0, abs=1e-3) for value in found.completeness_s)


def test_what_was_read_while_something_was_broken_is_no_service_time() -> None:
    whole, calm = service.measure(replace(trial(), faults=())), service.measure(trial())
    assert len(calm.cases["chest-ct"]) < len(whole.cases["chest-ct"])


def test_a_reading_that_lacks_a_stamp_is_no_service_time() -> None:
    whole = replace(trial(), faults=())
    first = next(row for row in whole.studies if row.jobs)
    lacking = tuple(replace(row, inferred_s=math.nan) if row is first else row for row in whole.studies)
    found = service.measure(replace(whole, studies=lacking)).cases["chest-ct"]
    assert len(found) == len(service.measure(whole).cases["chest-ct"]) - 1
    assert min(steps.inference_s for steps in found) > 0


def read_at(number: int, enqueued_s: float, started_s: float, stored_s: float) -> StudyRow:
    row = next(row for row in trial().studies if row.jobs)
    return replace(row, number=number, last_image_s=enqueued_s - 2.1, complete_s=enqueued_s - 0.1,
                   enqueued_s=enqueued_s, started_s=started_s, prepared_s=started_s + 0.1, inferred_s=started_s + 0.2,
                   encoded_s=stored_s - 0.2, stored_s=stored_s, result_s=stored_s + 0.3)  # fmt: skip


def test_a_workers_pause_is_measured_where_a_study_waited_whatever_their_number() -> None:
    rows = (
        read_at(0, 10.0, 10.0, 15.0),
        read_at(1, 11.0, 11.0, 18.0),
        read_at(2, 12.0, 15.04, 20.0),
        read_at(3, 13.0, 18.06, 21.0),
        read_at(4, 40.0, 40.9, 44.0),  # nobody was ending anything: its wait is no worker's pause
    )
    of = scenario().model_copy(update={"system": System(workers=2)})
    found = service.measure(replace(trial(), scenario=of, studies=rows, faults=()))
    assert found.turnover_s == pytest.approx(0.05)
    assert found.dispatch_s == pytest.approx((0.1, 0.1, 1.0)), "only where a worker was free"


def test_the_time_until_workers_are_back_is_measured_where_a_study_waited_for_them() -> None:
    calm = [read_at(number, 100.0 + 10 * number, 100.0 + 10 * number, 105.0 + 10 * number) for number in range(5)]
    gone = FaultRow(arm="with-ai", name="workers-away", began_s=20.0, ended_s=30.0)
    waited = replace(trial(), studies=(read_at(9, 25.0, 36.5, 40.0), *calm), faults=(gone,))
    assert service.measure(waited).restart_s == 6.5
    nobody = replace(waited, studies=tuple(calm))
    assert service.measure(nobody).restart_s == service.RESTART_S


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


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("completeness_s", [], "completeness_s"),
        ("dispatch_s", [], "dispatch_s"),
        ("cases", {}, "cases"),
        ("cases", {"chest-ct": []}, "cases.chest-ct"),
        ("quiet_s", "two", "quiet_s"),
    ],
)
def test_a_file_of_service_times_with_nothing_to_draw_from_is_told(
    tmp_path: Path, key: str, value: object, complaint: str
) -> None:
    good = service.load("light").model_dump(mode="json")
    (tmp_path / "mine.json").write_text(json.dumps({**good, key: value}))
    with pytest.raises(ScenarioError, match=f"mine.json: {complaint}: "):
        service.load(str(tmp_path / "mine.json"))


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


def test_workers_read_again_only_when_they_have_started_again() -> None:
    of = scenario(faults=(Fault(name="workers-away", at_s=600, for_s=600),))
    times = service.load("light").model_copy(update={"restart_s": 60.0})
    outcome = simulate(of, timeline.plan(of), times, Resources(workers=1), accelerate=1.0)
    assert not [each for each in outcome.served if 600 < each.started_s < 1260]
    assert [each for each in outcome.served if 1260 <= each.started_s < 1261], "at once, with what had waited"


def test_a_fault_that_the_model_does_not_play_is_told() -> None:
    faults = (Fault(name="workers-killed", at_s=60), Fault(name="ris-away", at_s=60, for_s=60),
              Fault(name="redis-flushed", at_s=90), Fault(name="orthanc-away", at_s=90, for_s=30))  # fmt: skip
    assert left_out(scenario(faults=faults)) == ["redis-flushed", "orthanc-away"]


def test_a_study_takes_its_scanner_as_long_as_it_has_images() -> None:
    of, times = scenario(), service.load("light")
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
    times = service.load("light").model_copy(update={"images": {}})
    made = list(scanned(of, planned, times, 1.0))
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


def test_the_plan_is_told_by_the_record_alone() -> None:
    listed = scenario(habits=Habits(localizer=0.5, late_slices=0.2))
    planned = timeline.plan(listed)
    made = trial(studies=len(planned))
    rows = tuple(
        replace(row, case=study.case, priority=study.priority, positive=study.positive, flagged=study.flagged,
                habits=" ".join(study.habits), scheduled_s=study.at_s / 60, reading_hospital_s=study.reading_s)
        for row, study in zip(made.studies, planned, strict=True)
    )  # fmt: skip
    found = validate.planned_of(replace(made, scenario=listed, studies=rows[::-1]))
    assert [replace(study, at_s=0.0) for study in found] == [replace(study, at_s=0.0) for study in planned]
    assert [study.at_s for study in found] == pytest.approx([study.at_s for study in planned])


def test_a_run_is_played_again_with_its_own_times_and_another_run_is_not_taken_for_it() -> None:
    rows, free_s = [], 0.0
    for number in range(12):  # one worker by hand: 5 s each, one every 4 s, so that a queue grows
        start = max(4.0 * number + 2.1, free_s)
        free_s = start + 5.0
        rows.append(read_at(number, 4.0 * number + 2.1, start, free_s))
    of = scenario().model_copy(update={"system": System(workers=1)})
    queue = replace(trial(), scenario=of, studies=tuple(rows), faults=())
    found = validate.replayed(queue)
    assert [each.what for each in found] == ["all, p50", "all, p95"]
    assert [each.ratio for each in found] == pytest.approx([1.0, 1.0], abs=0.01)
    wrong = replace(queue, scenario=scenario().model_copy(update={"system": System(workers=2)}))
    assert not any(each.ok for each in validate.replayed(wrong)), "two workers would have had no queue"


def test_the_tables_tell_which_faults_are_left_out_and_the_replay() -> None:
    flushed = scenario(faults=(Fault(name="redis-flushed", at_s=90),))
    run = replace(trial(), scenario=flushed, faults=())
    text = validate.markdown(run, [], [], validate.replayed(run))
    assert "Faults of this scenario that the model does not play: redis-flushed." in text
    assert "The queue alone" in text


def test_a_simulation_is_kept_as_studies_and_a_queue(tmp_path: Path) -> None:
    late = Outcome(
        served=[Served(0.0, 0, 3.0, 10.0, 2.0), Served(1.0, 2, 10.0, 20.0, 3.0)],
        busy=0.5, length_s=20.0, longest_queue=1,
    )  # fmt: skip
    write([late, late], tmp_path / "new")
    studies = pq.read_table(tmp_path / "new" / "studies.parquet").to_pylist()
    assert [row["replication"] for row in studies] == [0, 0, 1, 1]
    assert studies[1] == {"replication": 0, "priority": "routine", "last_image_s": 1.0, "enqueued_s": 3.0,
                          "started_s": 10.0, "result_s": 20.0, "turnaround_s": 19.0}  # fmt: skip
    looks = [row for row in pq.read_table(tmp_path / "new" / "queue.parquet").to_pylist() if row["replication"] == 1]
    waited = [row["at_s"] for row in looks if row["waiting_routine"]]
    assert (min(waited), max(waited)) == (pytest.approx(3.0, abs=0.02), pytest.approx(10.0, abs=0.02))
    assert looks[0]["waiting_stat"] == looks[-1]["waiting_stat"] == 0


def test_theory_is_compared_with_long_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "REPLICATIONS", 3)
    monkeypatch.setattr(validate, "STUDIES", 2000)
    found = validate.against_theory()
    assert len(found) == 8
    assert all(each.simulated.value == pytest.approx(each.theory, rel=0.5) for each in found)
