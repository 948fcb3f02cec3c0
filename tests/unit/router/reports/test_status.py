"""What is now, as the ledger says it: true where there is nothing yet, and of the moment that was asked about."""

from __future__ import annotations

from ledger_cases import T0, arrive, make, seen, store

from medai.router.contract import Failure, JobState, Priority
from medai.router.ledger import Ledger
from medai.router.ledger.fleet import ALIVE_S
from medai.router.reports.readings import jobs
from medai.router.reports.status import now_page, status, tally
from medai.router.settings.tables import ObjectivesSettings


def test_an_empty_ledger_has_nothing_that_waits_or_works(ledger: Ledger) -> None:
    found = status(ledger, T0)
    assert (found.queue_depth, found.oldest_waiting_s, found.studies) == (0, 0.0, 0)
    assert found.jobs == {state.value: 0 for state in JobState}
    assert found.queues == found.workers == found.models == found.destinations == ()


def test_the_queue_is_counted_by_queue_and_urgency_with_the_oldest_of_each(ledger: Ledger) -> None:
    for number, (queue, priority) in enumerate([("cpu", 6), ("cpu", 6), ("cpu", 0), ("gpu", 9)]):
        row = arrive(ledger, seen(uid=f"1.{number}"))
        make(ledger, row, at=T0 + number, queue=queue, priority=Priority(priority))
    found = status(ledger, T0 + 10)
    assert [(q.queue, q.priority, q.depth, q.oldest_s) for q in found.queues] == [
        ("cpu", "stat", 1, 8.0),
        ("cpu", "routine", 2, 10.0),
        ("gpu", "background", 1, 7.0),
    ]
    assert (found.queue_depth, found.oldest_waiting_s) == (4, 10.0)


def test_a_worker_is_alive_while_it_was_heard_of_lately_for_pages_and_for_routing_alike(ledger: Ledger) -> None:
    for name, at in (("fresh", T0 - ALIVE_S + 1), ("silent", T0 - ALIVE_S), ("ahead", T0 + 5)):
        ledger.fleet.worker_seen(
            name, queues=["cpu"], device="cpu", started_at=T0, job_id=None, now=at, models={"m": name}
        )
    alive = {worker.name: worker.alive for worker in status(ledger, T0).workers}
    assert alive == {"fresh": True, "silent": False, "ahead": True}
    assert ledger.fleet.held_models(T0) == {"m": {"fresh", "ahead"}}


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
    (first,) = jobs(ledger, study_uid="1.1")
    assert first.plausibility is not None
    assert (first.verdict, first.plausibility.summary) == ("plausible", "1 of 1 checks passed")
    (last,) = jobs(ledger, study_uid="1.4")
    assert (last.verdict, last.plausibility) == ("refused", None)
    counted = [(each.model, each.verdict, each.count) for each in status(ledger, T0).verdicts]
    assert counted == [("mr_brain", "check", 2), ("mr_brain", "plausible", 1), ("mr_brain", "refused", 1)]


def test_counts_of_some_moments_ago_leave_what_waits_to_be_counted_now(ledger: Ledger) -> None:
    before = tally(ledger)
    make(ledger, arrive(ledger, seen()))
    found = status(ledger, T0, counted=before)
    assert (found.studies, found.jobs["pending"], found.queue_depth) == (0, 1, 1)


def test_the_page_of_now_says_what_is_late_what_came_and_what_was_promised(ledger: Ledger) -> None:
    make(ledger, arrive(ledger, seen(), at=T0), at=T0, priority=Priority.STAT)
    page = now_page(ledger, T0 + 3000, ObjectivesSettings())
    assert (page.at, page.queue_depth, page.overdue["stat"]) == (T0 + 3000, 1, 1)
    assert sum(hour.studies for hour in page.arrivals) == 1
    assert set(page.objectives) == {priority.name.lower() for priority in Priority}
    assert page.turnaround == {}


def test_an_hour_of_arrivals_is_told_by_where_it_begins(ledger: Ledger) -> None:
    told = now_page(ledger, T0, ObjectivesSettings()).model_dump(mode="json", by_alias=True)["arrivals"]
    assert told[0] == {"from": T0 - 86_400.0, "studies": 0}
