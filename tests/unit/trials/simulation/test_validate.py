"""The simulation against the run that it was measured on, and against theory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from trial_cases import scenario, trial

from medai.trials.hospital import timeline
from medai.trials.hospital.record import StudyRow
from medai.trials.scenario import Fault, Habits, System
from medai.trials.simulation import validate
from medai.trials.simulation.capacity import spread


def read_at(number: int, enqueued_s: float, started_s: float, stored_s: float) -> StudyRow:
    row = next(row for row in trial().studies if row.jobs)
    return replace(row, number=number, last_image_s=enqueued_s - 2.1, complete_s=enqueued_s - 0.1,
                   enqueued_s=enqueued_s, started_s=started_s, prepared_s=started_s + 0.1, inferred_s=started_s + 0.2,
                   encoded_s=stored_s - 0.2, stored_s=stored_s, result_s=stored_s + 0.3)  # fmt: skip


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


def test_theory_is_compared_with_long_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "REPLICATIONS", 3)
    monkeypatch.setattr(validate, "STUDIES", 2000)
    found = validate.against_theory()
    assert len(found) == 8
    assert all(each.simulated.value == pytest.approx(each.theory, rel=0.5) for each in found)
