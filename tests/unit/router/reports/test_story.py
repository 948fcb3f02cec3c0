"""One study as a whole: what was decided, read, tried and done."""

from __future__ import annotations

from ledger_cases import T0, arrive, due, make, seen, store

from medai.router.ledger import Ledger
from medai.router.reports import story
from medai.router.reports.readings import jobs


def test_the_story_of_a_study_holds_decisions_readings_tries_and_actions(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen(uid="1.0")))
    ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 5)
    ledger.actions.cancel(job_id, "no need", T0 + 6, by="ana")
    found = story.story(ledger, story.study_number(ledger, "1.0") or 0)
    assert found is not None
    assert [item.reason for item in found.decisions] == ["because", "cancelled by a person: no need"]
    (reading,) = found.readings
    assert (reading.state, [each.outcome for each in reading.attempts]) == ("cancelled", ["cancelled"])
    assert [item.action for item in found.actions] == ["cancel"]
    assert story.story(ledger, 10_000) is None
    assert story.study_number(ledger, "9.9") is None


def test_a_job_is_told_with_its_studys_decisions_and_its_own_attempts(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 5)
    (job,) = jobs(ledger)
    told = story.job_story(ledger, job)
    assert ([d.reason for d in told.decisions], [a.worker for a in told.attempts]) == (["because"], ["w"])
    assert told.job_id == job_id


def test_what_was_read_and_left_is_found_by_the_readings_id(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen(uid="1.7")))
    claim = ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 1)
    assert claim is not None
    store(ledger, claim)
    found = story.read_objects(ledger, job_id)
    assert found is not None
    assert (found.study_uid, list(found.series), found.results["sr"].sop_uid) == ("1.7", ["s"], "9.1")
    assert story.read_objects(ledger, "0" * 36) is None


def test_a_message_is_told_as_it_is_sent_with_what_came_back(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    claim = ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 1)
    assert claim is not None
    store(ledger, claim)
    (owed,) = due(ledger, "ris")
    assert ledger.deliveries.begin_try(owed, T0 + 5)
    ledger.deliveries.delivered(owed, "AA", T0 + 6)
    (sent,) = story.messages(ledger, job_id)
    assert (sent.destination, sent.text, sent.receipt, sent.done_at) == ("ris", "MSH|", "AA", T0 + 6)


def test_actions_are_paged_by_their_number(ledger: Ledger) -> None:
    for number in range(3):
        ledger.accounts.note_action("ana", f"act {number}", T0 + number)
    newest = story.actions(ledger, limit=2)
    assert [each.action for each in newest] == ["act 2", "act 1"]
    assert [each.action for each in story.actions(ledger, before=newest[-1].id)] == ["act 0"]
