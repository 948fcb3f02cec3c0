"""What a person may do to a reading: each does what it says once, says who asked, and is refused where it can't be."""

from __future__ import annotations

from typing import Any

import pytest
from ledger_cases import T0, acknowledge, arrive, due, keep, make, seen, store, wanted
from reading_cases import told
from sqlalchemy import select

from medai.router.contract import Failure, JobState, Priority, Verdict
from medai.router.errors import LeaseLost
from medai.router.ledger import Claim, Ledger
from medai.router.ledger import schema as t
from medai.router.ledger.actions import ActionRefused
from medai.router.reports import readings
from medai.router.reports.story import actions


def waiting(ledger: Ledger) -> str:
    return str(make(ledger, arrive(ledger, seen()))[0])


def claimed(ledger: Ledger, job_id: str) -> Claim:
    claim = ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 1)
    assert claim is not None
    return claim


def delivered(ledger: Ledger) -> str:
    """A reading whose result archive and RIS have."""
    claim = claimed(ledger, waiting(ledger))
    keep(ledger, claim, T0 + 1)
    ledger.claims.hand_over(claim.job.job_id, claim.token, T0 + 1)
    (owed,) = due(ledger, "archive")
    ledger.deliveries.begin_try(owed, T0 + 5)
    ledger.deliveries.delivered(owed, "stored", T0 + 5)
    acknowledge(ledger, claim, T0 + 6)
    return str(claim.job.job_id)


def word(payload: bytes, number: str) -> bytes:
    return b"WITHDRAWN " + number.encode() + payload[:3]


def withdraw(ledger: Ledger, job_id: str) -> list[str]:
    return ledger.actions.withdraw(job_id, "wrong side", T0 + 9, withdrawn={"ris": word}, by="ana")


def row(ledger: Ledger, job_id: str) -> dict[str, Any]:
    (found,) = readings.jobs(ledger, job_id=job_id)
    return told(found)


def last_action(ledger: Ledger) -> tuple[str, str, str]:
    (found, *_) = actions(ledger)
    return found.account, found.action, found.detail


# -- STAT


def test_a_reading_that_waits_is_raised_to_stat_and_its_message_goes_again(ledger: Ledger) -> None:
    job_id = waiting(ledger)
    ledger.jobs.mark_sent({job_id: T0})
    ledger.actions.hurry(job_id, T0 + 1, by="ana")
    (unsent,) = ledger.jobs.unsent(T0 + 1, resend_before=T0 - 100)
    assert unsent.priority == int(Priority.STAT)
    assert last_action(ledger) == ("ana", "stat", "")
    assert "raised to STAT" in readings.decisions(ledger, job_id=job_id)[-1].reason


def test_what_is_stat_already_or_does_not_wait_is_not_raised(ledger: Ledger) -> None:
    job_id = waiting(ledger)
    ledger.actions.hurry(job_id, T0, by="ana")
    with pytest.raises(ActionRefused, match="pending \\(STAT\\)"):
        ledger.actions.hurry(job_id, T0, by="ana")
    claimed(ledger, job_id)
    with pytest.raises(ActionRefused, match="running"):
        ledger.actions.hurry(job_id, T0, by="ana")
    assert [each.action for each in actions(ledger)] == ["stat", "reading"], "what was refused was not done"


# -- cancel


@pytest.mark.parametrize("running", [False, True])
def test_a_reading_without_a_result_is_cancelled_and_its_worker_loses_it(ledger: Ledger, running: bool) -> None:
    job_id = waiting(ledger)
    claim = claimed(ledger, job_id) if running else None
    ledger.actions.cancel(job_id, "sent by mistake", T0 + 2, by="ana")
    assert (row(ledger, job_id)["state"], row(ledger, job_id)["failure"]) == ("cancelled", "cancelled")
    assert "sent by mistake" in row(ledger, job_id)["reason"]
    assert last_action(ledger) == ("ana", "cancel", "sent by mistake")
    assert ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 3) is None
    if claim is not None:
        with pytest.raises(LeaseLost):
            keep(ledger, claim, T0 + 3)


def test_a_cancelled_reading_is_not_made_again_from_the_same_images_but_from_others(ledger: Ledger) -> None:
    study = arrive(ledger, seen())
    job_id, _ = make(ledger, study)
    ledger.actions.cancel(job_id, "sent by mistake", T0 + 2, by="ana")
    assert make(ledger, study)[1].verdict is Verdict.SKIP
    _, late = make(ledger, study, sources="hash-2", count=60)
    assert late.verdict is not Verdict.SKIP


def test_a_reading_with_a_result_is_not_cancelled(ledger: Ledger) -> None:
    job_id = delivered(ledger)
    with pytest.raises(ActionRefused, match="done"):
        ledger.actions.cancel(job_id, "too late", T0 + 9, by="ana")
    assert row(ledger, job_id)["state"] == "done"


# -- read again


def test_another_model_reads_the_same_images_beside_the_first(ledger: Ledger) -> None:
    first = delivered(ledger)
    second = ledger.actions.read_again(first, "other", "2", T0 + 9, by="ana")
    made = row(ledger, second)
    assert (made["model"], made["model_version"], made["state"], made["revision"]) == ("other", "2", "pending", 1)
    assert made["supersedes"] is None
    assert row(ledger, first)["state"] == "done"
    assert last_action(ledger) == ("ana", "read_again", "by other 2")


def test_its_filler_number_is_not_that_of_the_first(ledger: Ledger) -> None:
    job_id = waiting(ledger)
    again = ledger.actions.read_again(job_id, "other", "2", T0, by="ana")
    assert claimed(ledger, job_id).job.filler != claimed(ledger, again).job.filler


def test_the_same_model_or_a_model_that_was_asked_before_does_not_read_again(ledger: Ledger) -> None:
    job_id = waiting(ledger)
    with pytest.raises(ActionRefused, match="the same again"):
        ledger.actions.read_again(job_id, "mr_brain", "1", T0, by="ana")
    ledger.actions.read_again(job_id, "other", "2", T0, by="ana")
    with pytest.raises(ActionRefused, match="read before"):
        ledger.actions.read_again(job_id, "other", "2", T0, by="ana")


def test_a_deleted_study_is_not_read_again(ledger: Ledger) -> None:
    job_id = waiting(ledger)
    ledger.removals.study_removed("o-1.2.3", T0 + 1, within_s=60, withdrawn={})
    with pytest.raises(ActionRefused, match="deleted"):
        ledger.actions.read_again(job_id, "other", "2", T0 + 2, by="ana")


# -- withdraw


def test_a_result_is_taken_back_from_archive_and_ris(ledger: Ledger) -> None:
    job_id = delivered(ledger)
    assert withdraw(ledger, job_id) == ["archive", "ris"]
    owed = {name: due(ledger, name, T0 + 10) for name in ("archive", "ris")}
    assert [(item.kind, item.payload) for item in owed["archive"]] == [("withdrawal", None)]
    assert owed["ris"][0].payload is not None
    assert owed["ris"][0].payload.startswith(b"WITHDRAWN ")
    assert row(ledger, job_id)["failure"] == Failure.WITHDRAWN.value
    assert "wrong side" in row(ledger, job_id)["reason"]
    assert last_action(ledger) == ("ana", "withdraw", "wrong side")
    assert ledger.dead.letters() == []


def test_a_result_is_taken_back_once(ledger: Ledger) -> None:
    job_id = delivered(ledger)
    withdraw(ledger, job_id)
    with pytest.raises(ActionRefused, match="withdrawn"):
        withdraw(ledger, job_id)


def test_a_result_that_the_ris_never_saw_is_not_withdrawn_there(ledger: Ledger) -> None:
    claim = claimed(ledger, waiting(ledger))
    store(ledger, claim)  # in the archive; the RIS has heard nothing
    assert withdraw(ledger, claim.job.job_id) == ["archive"]
    assert due(ledger, "ris", T0 + 10) == []
    assert row(ledger, claim.job.job_id)["state"] == "done"


def test_a_result_that_the_ris_may_have_is_sent_and_then_withdrawn(ledger: Ledger) -> None:
    claim = claimed(ledger, waiting(ledger))
    store(ledger, claim)
    (owed,) = due(ledger, "ris")
    ledger.deliveries.begin_try(owed, T0 + 5)
    ledger.deliveries.put_off(owed, "no answer", next_try_at=T0 + 6, refused=False, now=T0 + 5)
    assert withdraw(ledger, claim.job.job_id) == ["archive", "ris"]
    (first,) = due(ledger, "ris", T0 + 10)
    assert first.kind == "result"
    ledger.deliveries.begin_try(first, T0 + 10)
    ledger.deliveries.delivered(first, "AA", T0 + 10)
    (second,) = due(ledger, "ris", T0 + 11)
    assert second.kind == "withdrawal"
    assert row(ledger, claim.job.job_id)["failure"] == Failure.WITHDRAWN.value


def test_a_parked_delivery_of_a_withdrawn_result_waits_for_nobody(ledger: Ledger) -> None:
    claim = claimed(ledger, waiting(ledger))
    store(ledger, claim)
    (owed,) = due(ledger, "ris")
    ledger.deliveries.begin_try(owed, T0 + 5)
    ledger.deliveries.park(owed, "AE", T0 + 5)
    assert len(ledger.dead.letters()) == 1
    withdraw(ledger, claim.job.job_id)
    assert ledger.dead.letters() == []
    assert row(ledger, claim.job.job_id)["state"] == "cancelled"


def test_what_has_no_result_can_not_be_withdrawn(ledger: Ledger) -> None:
    job_id = waiting(ledger)
    with pytest.raises(ActionRefused, match="no result"):
        withdraw(ledger, job_id)
    with pytest.raises(ActionRefused, match="no such"):
        withdraw(ledger, "00000000-0000-0000-0000-000000000000")


def test_a_withdrawn_result_is_not_read_again_from_the_same_images_and_not_named_by_the_next(ledger: Ledger) -> None:
    job_id = delivered(ledger)
    withdraw(ledger, job_id)
    study = ledger.studies.find("o-1.2.3")
    assert study is not None
    assert make(ledger, study)[1].verdict is Verdict.SKIP
    later, _ = ledger.jobs.create(wanted(study, sources="hash-2", count=60), study=study, reason="late", now=T0 + 20)
    made = row(ledger, later)
    assert (made["revision"], made["supersedes"]) == (2, None)


def test_a_superseded_result_is_not_the_one_to_withdraw(ledger: Ledger) -> None:
    first = delivered(ledger)
    study = ledger.studies.find("o-1.2.3")
    assert study is not None
    second, _ = make(ledger, study, at=T0 + 10, sources="hash-2", count=60)
    claim = claimed(ledger, second)
    keep(ledger, claim, T0 + 12)
    with pytest.raises(ActionRefused, match="later revision"):
        withdraw(ledger, first)


def test_every_action_is_kept_with_its_study(ledger: Ledger) -> None:
    job_id = waiting(ledger)
    ledger.actions.hurry(job_id, T0, by="ana")
    with ledger.begin() as db:
        kept = db.execute(select(t.audit.c.study_id, t.audit.c.job_id).where(t.audit.c.action == "stat")).one()
    study = ledger.studies.find("o-1.2.3")
    assert study is not None
    assert tuple(kept) == (study.id, job_id)
    assert row(ledger, job_id)["state"] == JobState.PENDING.value
