"""Readings as people are told of them: true for none, for one, and for the odd ones."""

from __future__ import annotations

import pytest
from ledger_cases import T0, arrive, make, seen, store
from pydantic import ValidationError
from reading_cases import read

from medai.router.contract import JobState, StampName
from medai.router.ledger import Ledger
from medai.router.reports import readings
from medai.router.reports.readings import Acknowledgement, MeasuredValue


def test_an_empty_ledger_has_no_readings(ledger: Ledger) -> None:
    assert readings.jobs(ledger) == readings.decisions(ledger) == []
    assert readings.study(ledger, "1.2.3") is None


def test_jobs_are_told_newest_first_and_found_by_study_state_and_start_of_id(ledger: Ledger) -> None:
    first, _ = make(ledger, arrive(ledger, seen(uid="1.1")), at=T0)
    second, _ = make(ledger, arrive(ledger, seen(uid="1.2")), at=T0 + 1)
    read(ledger, first, JobState.FAILED, at=T0 + 5)

    def found(**filters: str) -> list[str]:
        return [row.job_id for row in readings.jobs(ledger, **filters)]  # type: ignore[arg-type] # limit is int

    assert found() == [second, first]
    assert found(study_uid="1.1") == found(state="failed") == found(job_id=first[:8]) == [first]
    assert found(state="done") == found(study_uid="9") == []
    assert len(readings.jobs(ledger, limit=1)) == 1


def test_a_job_tells_its_stamps_in_the_order_of_the_journey_and_the_word_of_the_ris(ledger: Ledger) -> None:
    job, _ = make(ledger, arrive(ledger, seen()), at=T0 + 3)
    read(ledger, job, JobState.DONE, at=T0 + 5)
    (row,) = readings.jobs(ledger)
    order = [name.value for name in StampName]
    assert list(row.stamps) == sorted(row.stamps, key=order.index)
    assert row.oru == Acknowledgement(control_id="C1", ack="AA", error="")
    assert row.turnaround_s == 7.0
    assert row.results["sr"].sop_uid == "9.1"
    assert [(a.number, a.worker, a.outcome) for a in readings.attempts(ledger, job)] == [(1, "w", "read")]


def test_a_reading_cannot_be_changed_after_it_was_read(ledger: Ledger) -> None:
    make(ledger, arrive(ledger, seen()))
    (row,) = readings.jobs(ledger)
    with pytest.raises(ValidationError, match="frozen"):
        row.state = JobState.DONE


def test_what_a_newer_worker_wrote_beyond_what_is_known_comes_along() -> None:
    known = {"segment_number": 1, "segment_name": "Brain", "quantity": "volume", "value": 1.5, "unit": "ml"}
    assert MeasuredValue(**known, method="by hand").model_dump() == {**known, "method": "by hand"}  # type: ignore[call-arg, arg-type]


def test_tries_of_a_delivery_are_told_oldest_first(ledger: Ledger) -> None:
    job, _ = make(ledger, arrive(ledger, seen()), at=T0)
    claim = ledger.claims.take(job, worker="w", lease_s=100, now=T0)
    assert claim is not None
    store(ledger, claim)
    assert readings.delivery_tries(ledger, job) == []
