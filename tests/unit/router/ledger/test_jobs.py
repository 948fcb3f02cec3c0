"""Of the readings of a series that still grows, one stays open, whatever the clock does meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ledger_cases import T0, arrive, make, seen, store
from reading_cases import told

from medai.router.contract import JobState, Verdict
from medai.router.ledger import Ledger
from medai.router.reports import readings

HOUR_S = 3600.0


def states(ledger: Ledger) -> list[tuple[int, str, int]]:
    """(images, state, revision) of every job, by images."""
    found = [told(row) for row in readings.jobs(ledger)]
    return sorted((row["images"], row["state"], row["revision"]) for row in found)


@pytest.mark.parametrize("steps", [(0.0, 0.0), (-HOUR_S, 0.0), (0.0, -HOUR_S), (-HOUR_S, -HOUR_S), (HOUR_S, -HOUR_S)])
def test_the_reading_of_more_images_replaces_the_last_one_also_where_the_clock_steps(
    ledger: Ledger, steps: tuple[float, float]
) -> None:
    row = arrive(ledger, seen(images=16))
    at = T0
    make(ledger, row, at, sources="of-14", count=14)
    for step_s, count in zip(steps, (15, 16), strict=True):
        at += step_s + 1.0
        _, decision = make(ledger, row, at, sources=f"of-{count}", count=count)
        assert decision.verdict is Verdict.SUPERSEDE
    assert states(ledger) == [(14, "superseded", 1), (15, "superseded", 1), (16, "pending", 1)]


def test_a_reading_that_is_taken_up_again_is_the_last_one_also_where_the_clock_was_put_back(ledger: Ledger) -> None:
    row = arrive(ledger, seen(images=16))
    make(ledger, row, T0, sources="of-15", count=15)
    make(ledger, row, T0 + 1, sources="of-16", count=16)
    make(ledger, row, T0 - HOUR_S, sources="of-15", count=15)  # the sixteenth was deleted
    make(ledger, row, T0 - HOUR_S + 1, sources="of-17", count=17)
    assert states(ledger) == [(15, "superseded", 1), (16, "superseded", 1), (17, "pending", 1)]


def test_a_reading_whose_images_are_back_after_a_deletion_is_made_anew_each_time(ledger: Ledger) -> None:
    """Two deletions in the row, the clock put back between them: neither is taken for the other."""
    row = arrive(ledger, seen())
    ids = []
    for at in (T0, T0 - HOUR_S, T0 - 2 * HOUR_S):
        job_id, decision = make(ledger, row, at)
        assert decision.verdict is Verdict.ROUTE
        ids.append(job_id)
        ledger.removals.study_removed(row.orthanc_id, at + 1, within_s=0.0, withdrawn={})
        arrive(ledger, seen(), at + 2)
    assert len(set(ids)) == 3


def test_a_revision_follows_the_newest_result_also_where_the_clock_was_put_back(ledger: Ledger) -> None:
    row = arrive(ledger, seen(images=16))
    for revision, (at, count) in enumerate(((T0, 14), (T0 - HOUR_S, 15), (T0 - 2 * HOUR_S, 16)), start=1):
        job_id, _ = make(ledger, row, at, sources=f"of-{count}", count=count)
        claim = ledger.claims.take(job_id, worker="w", lease_s=20, now=at + 1)
        assert claim is not None
        assert claim.job.revision == revision
        store(ledger, claim, at + 2)
    assert {state for _, state, _ in states(ledger)} == {JobState.DELIVERING.value}


def test_two_patients_with_one_study_uid_get_a_reading_and_a_number_each(ledger: Ledger) -> None:
    """The same images, sent under a temporary identifier and again under the right one."""
    fillers = []
    for patient in ("temporary", "right"):
        row = arrive(ledger, replace(seen(), orthanc_id=f"o-{patient}"))
        job_id, decision = make(ledger, row, T0)
        assert decision.verdict is Verdict.ROUTE
        claim = ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 1)
        assert claim is not None
        fillers.append(claim.job.filler)
    assert len(set(fillers)) == 2
