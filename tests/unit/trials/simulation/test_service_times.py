"""Service times out of a run, and those that ship."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from trial_cases import WITHOUT_AI, scenario, trial

from medai.trials.hospital.record import FaultRow, StudyRow
from medai.trials.scenario import ScenarioError, System
from medai.trials.simulation import service_times


def test_service_times_are_those_of_the_run() -> None:
    found = service_times.measure(replace(trial(), faults=()))
    assert set(found.cases) == {"chest-ct"}
    readings = found.cases["chest-ct"]
    busy_s = sum(each.busy_s for each in readings) / len(readings)
    assert busy_s == pytest.approx(0.7, abs=1e-3), "until its objects are in the archive"
    assert {case: set(counts) for case, counts in found.images.items()} == {"chest-ct": {36}, "chest-xray": {1}}
    assert found.quiet_s == 2.0
    assert all(value == pytest.approx(0.0, abs=1e-3) for value in found.completeness_s)


def test_what_was_read_while_something_was_broken_is_no_service_time() -> None:
    whole, calm = service_times.measure(replace(trial(), faults=())), service_times.measure(trial())
    assert len(calm.cases["chest-ct"]) < len(whole.cases["chest-ct"])


def test_a_reading_that_lacks_a_stamp_is_no_service_time() -> None:
    whole = replace(trial(), faults=())
    first = next(row for row in whole.studies if row.jobs)
    lacking = tuple(replace(row, inferred_s=math.nan) if row is first else row for row in whole.studies)
    found = service_times.measure(replace(whole, studies=lacking)).cases["chest-ct"]
    assert len(found) == len(service_times.measure(whole).cases["chest-ct"]) - 1
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
    found = service_times.measure(replace(trial(), scenario=of, studies=rows, faults=()))
    assert found.turnover_s == pytest.approx(0.05)
    assert found.dispatch_s == pytest.approx((0.1, 0.1, 1.0)), "only where a worker was free"


def test_the_time_until_workers_are_back_is_measured_where_a_study_waited_for_them() -> None:
    calm = [read_at(number, 100.0 + 10 * number, 100.0 + 10 * number, 105.0 + 10 * number) for number in range(5)]
    gone = FaultRow(arm="with-ai", name="workers-away", began_s=20.0, ended_s=30.0)
    waited = replace(trial(), studies=(read_at(9, 25.0, 36.5, 40.0), *calm), faults=(gone,))
    assert service_times.measure(waited).restart_s == 6.5
    nobody = replace(waited, studies=tuple(calm))
    assert service_times.measure(nobody).restart_s == service_times.RESTART_S


def test_a_run_without_readings_has_no_service_times() -> None:
    with pytest.raises(ScenarioError, match="no arm with AI"):
        service_times.measure(trial(arms=(WITHOUT_AI,)))
    with pytest.raises(ScenarioError, match="at least 5"):
        service_times.measure(trial(studies=3))
    always = FaultRow(arm="with-ai", name="ris-away", began_s=0.0, ended_s=999.0)
    with pytest.raises(ScenarioError, match="only 0 readings of this trial were not touched by its faults"):
        service_times.measure(replace(trial(), faults=(always,)))


def test_service_times_are_kept_and_read_back(tmp_path: Path) -> None:
    found = service_times.measure(trial())
    service_times.write(found, tmp_path / "mine.json")
    assert service_times.load(str(tmp_path / "mine.json")) == found
    trial().write(tmp_path / "run")
    assert service_times.load(str(tmp_path / "run")) == found


@pytest.mark.parametrize("name", ["light", "shipped"])
def test_service_times_ship(name: str) -> None:
    found = service_times.load(name)
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
    good = service_times.load("light").model_dump(mode="json")
    (tmp_path / "mine.json").write_text(json.dumps({**good, key: value}))
    with pytest.raises(ScenarioError, match=f"mine.json: {complaint}: "):
        service_times.load(str(tmp_path / "mine.json"))


def test_a_name_that_is_none_lists_those_there_are() -> None:
    with pytest.raises(ScenarioError, match="give the folder of a trial, a file, or one of light, shipped"):
        service_times.load("heavy")
