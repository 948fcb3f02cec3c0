"""What the ledger says when it is asked: true for no readings, for one, and for the odd ones."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_cases import T0, acknowledge, arrive, make, seen, store

from medai.router.contract import Failure, JobId, JobState, Priority, StampName
from medai.router.ledger import Ledger
from medai.router.reports import readings as reports


def read(ledger: Ledger, job_id: JobId, state: JobState, *, at: float) -> None:
    """Claim a job and end it; a job that is done also stores its results."""
    claim = ledger.claims.take(job_id, worker="w", lease_s=100, now=at)
    assert claim is not None
    if state is JobState.DONE:
        store(ledger, claim, at + 1)
        acknowledge(ledger, claim, at + 2)
    else:
        ledger.claims.fail(job_id, claim.token, Failure.IMAGES, "because", at + 3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], (0, None, None, None)),
        ([7.0], (1, 7.0, 7.0, 7.0)),
        ([3.0, 1.0], (2, 2.0, 2.9, 2.98)),
        ([5.0, 1.0, 4.0, 2.0, 3.0], (5, 3.0, 4.8, 4.96)),
        ([0.0] * 99 + [100.0], (100, 0.0, 0.0, 1.0)),
    ],
)
def test_percentiles_interpolate_between_readings(
    values: list[float], expected: tuple[int, float | None, float | None, float | None]
) -> None:
    assert tuple(reports.percentiles(values).values()) == expected


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=50))
def test_percentiles_are_those_of_the_standard_library(values: list[float]) -> None:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    found = reports.percentiles(values)
    expected = {"p50_s": cuts[49], "p95_s": cuts[94], "p99_s": cuts[98]}
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-3)


def test_stages_follow_one_another_without_gap_from_order_to_acknowledgement() -> None:
    pairs = list(reports.STAGES.values())
    assert [end for _, end in pairs[:-1]] == [start for start, _ in pairs[1:]]
    named = [pairs[0][0], *[end for _, end in pairs]]
    assert named == [name for name in StampName if name is not StampName.ORU_SENT]


def test_a_stage_needs_both_its_stamps() -> None:
    assert reports.stages_of({"started": 10.0, "fetched": 12.5, "inferred": 20.0}) == {"fetch": 2.5}
    assert reports.stages_of({}) == {}


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ({"last_instance": 1.0, "stored": 5.0, "oru_acknowledged": 8.0}, 7.0),
        ({"last_instance": 1.0, "stored": 5.0}, 4.0),
        ({"stored": 5.0}, None),
        ({"last_instance": 1.0, "oru_sent": 5.0}, None),
        ({}, None),
    ],
)
def test_the_turnaround_ends_at_the_ris_or_at_the_archive_where_there_is_none(
    stamps: dict[str, float], expected: float | None
) -> None:
    assert reports.turnaround_of(stamps) == expected


def test_an_empty_ledger_has_empty_reports(ledger: Ledger) -> None:
    assert reports.jobs(ledger) == reports.decisions(ledger) == reports.turnaround(ledger, since=0.0) == []
    assert reports.study(ledger, "1.2.3") is None
    status = reports.status(ledger, T0)
    assert (status["queue_depth"], status["oldest_waiting_s"], status["studies"]) == (0, 0.0, 0)
    assert status["jobs"] == {state.value: 0 for state in JobState}
    assert status["queues"] == status["workers"] == status["models"] == []


def test_the_queue_is_counted_by_queue_and_urgency_with_the_oldest_of_each(ledger: Ledger) -> None:
    for number, (queue, priority) in enumerate([("cpu", 6), ("cpu", 6), ("cpu", 0), ("gpu", 9)]):
        row = arrive(ledger, seen(uid=f"1.{number}"))
        make(ledger, row, at=T0 + number, queue=queue, priority=Priority(priority))
    status = reports.status(ledger, T0 + 10)
    assert [(q["queue"], q["priority"], q["depth"], q["oldest_s"]) for q in status["queues"]] == [
        ("cpu", "stat", 1, 8.0),
        ("cpu", "routine", 2, 10.0),
        ("gpu", "background", 1, 7.0),
    ]
    assert (status["queue_depth"], status["oldest_waiting_s"]) == (4, 10.0)


def test_a_worker_is_alive_while_it_was_heard_of_lately(ledger: Ledger) -> None:
    for name, at in (("fresh", T0), ("silent", T0 - reports.ALIVE_S)):
        ledger.fleet.worker_seen(name, queues=["cpu"], device="cpu", started_at=T0, job_id=None, now=at)
    assert {w["name"]: w["alive"] for w in reports.status(ledger, T0)["workers"]} == {"fresh": True, "silent": False}


def test_jobs_are_told_newest_first_and_found_by_study_state_and_start_of_id(ledger: Ledger) -> None:
    first, _ = make(ledger, arrive(ledger, seen(uid="1.1")), at=T0)
    second, _ = make(ledger, arrive(ledger, seen(uid="1.2")), at=T0 + 1)
    read(ledger, first, JobState.FAILED, at=T0 + 5)

    def found(**filters: str) -> list[str]:
        return [row["job_id"] for row in reports.jobs(ledger, **filters)]  # type: ignore[arg-type] # limit is int

    assert found() == [second, first]
    assert found(study_uid="1.1") == found(state="failed") == found(job_id=first[:8]) == [first]
    assert found(state="done") == found(study_uid="9") == []
    assert len(reports.jobs(ledger, limit=1)) == 1


def test_a_job_tells_its_stamps_in_the_order_of_the_journey_and_the_word_of_the_ris(ledger: Ledger) -> None:
    job, _ = make(ledger, arrive(ledger, seen()), at=T0 + 3)
    read(ledger, job, JobState.DONE, at=T0 + 5)
    (row,) = reports.jobs(ledger)
    order = [name.value for name in StampName]
    assert list(row["stamps"]) == sorted(row["stamps"], key=order.index)
    assert row["oru"] == {"control_id": "C1", "ack": "AA", "error": ""}
    assert row["turnaround_s"] == 7.0
    assert row["results"]["sr"]["sop_uid"] == "9.1"
    assert [(a["number"], a["worker"], a["outcome"]) for a in reports.attempts(ledger, job)] == [(1, "w", "read")]


def test_failed_readings_are_counted_and_take_no_part_in_the_times(ledger: Ledger) -> None:
    for number, state in enumerate([JobState.DONE, JobState.FAILED]):
        job, _ = make(ledger, arrive(ledger, seen(uid=f"1.{number}")), at=T0 + 3, route=f"r{number}")
        read(ledger, job, state, at=T0 + 5)
    (both,) = reports.turnaround(ledger, since=T0)
    assert (both["group"], both["done"], both["failed"], both["turnaround"]["n"]) == ("all", 1, 1, 1)
    by_route = reports.turnaround(ledger, since=T0, by="route")
    assert [(g["group"], g["done"], g["failed"]) for g in by_route] == [("r0", 1, 0), ("r1", 0, 1)]
    assert by_route[1]["turnaround"] == {"n": 0, "p50_s": None, "p95_s": None, "p99_s": None}
    assert by_route[1]["stages"] == {}
    assert reports.turnaround(ledger, since=T0 + 100) == []


@pytest.mark.parametrize("by", reports.GROUPS)
def test_every_grouping_that_is_offered_works(ledger: Ledger, by: str) -> None:
    job, _ = make(ledger, arrive(ledger, seen()), at=T0 + 3)
    read(ledger, job, JobState.DONE, at=T0 + 5)
    (group,) = reports.turnaround(ledger, since=T0, by=by)
    assert group["group"] == {"route": "brain", "modality": "MR", "priority": "routine"}[by]


def test_a_verdict_is_kept_with_its_checks_and_counted_by_model(ledger: Ledger) -> None:
    for uid, verdict in (("1.1", "plausible"), ("1.2", "check"), ("1.3", "check")):
        job_id, _ = make(ledger, arrive(ledger, seen(uid=uid)))
        claim = ledger.claims.take(job_id, worker="w", lease_s=100, now=T0)
        assert claim is not None
        store(ledger, claim, verdict=verdict)
    refused, _ = make(ledger, arrive(ledger, seen(uid="1.4")))
    claim = ledger.claims.take(refused, worker="w", lease_s=100, now=T0)
    assert claim is not None
    ledger.claims.fail(refused, claim.token, Failure.IMAGES, "no brain", T0 + 1, refused=True)
    (first,) = reports.jobs(ledger, study_uid="1.1")
    assert (first["verdict"], first["plausibility"]["summary"]) == ("plausible", "1 of 1 checks passed")
    (last,) = reports.jobs(ledger, study_uid="1.4")
    assert (last["verdict"], last["plausibility"]) == ("refused", None)
    assert reports.status(ledger, T0)["verdicts"] == [
        {"model": "mr_brain", "verdict": "check", "count": 2},
        {"model": "mr_brain", "verdict": "plausible", "count": 1},
        {"model": "mr_brain", "verdict": "refused", "count": 1},
    ]
