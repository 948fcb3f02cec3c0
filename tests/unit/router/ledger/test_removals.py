"""A study is deleted from the archive: what was read of it is taken back, and read again when it returns."""

from __future__ import annotations

from typing import Any

import ledger_cases as cases
import pytest
from ledger_cases import T0, arrive, make, seen

from medai.router.contract import Decision, JobState, Verdict, control_id
from medai.router.errors import LeaseLost
from medai.router.ledger import Claim, Ledger
from medai.router.ledger.removals import Removed
from medai.router.ledger.studies import KnownStudy
from medai.router.reports import readings

DAY = 86400.0
WITHIN_S = 30 * DAY


def taken_back(payload: bytes, number: str) -> bytes:
    return payload + b"X|" + number.encode()


@pytest.fixture
def row(ledger: Ledger) -> KnownStudy:
    return arrive(ledger, seen())


def remove(ledger: Ledger, at: float = T0 + 100, *destinations: str) -> Removed | None:
    told = dict.fromkeys(destinations or ("ris",), taken_back)
    return ledger.removals.study_removed("o-1.2.3", at, within_s=WITHIN_S, withdrawn=told)


def claim(ledger: Ledger, job_id: str, at: float = T0) -> Claim:
    held = ledger.claims.take(job_id, worker="w", lease_s=20, now=at)
    assert held is not None
    return held


def read(ledger: Ledger, row: KnownStudy, at: float = T0, **changes: Any) -> tuple[str, Claim]:
    """A reading in the archive, whose ORU waits."""
    job_id, _ = make(ledger, row, at=at, **changes)
    held = claim(ledger, job_id, at)
    cases.store(ledger, held, at)
    return job_id, held


def told(ledger: Ledger, row: KnownStudy, at: float = T0, **changes: Any) -> str:
    """A reading whose ORU the RIS acknowledged."""
    job_id, held = read(ledger, row, at, **changes)
    cases.acknowledge(ledger, held, at + 1)
    return job_id


def state(ledger: Ledger, job_id: str) -> str:
    (found,) = readings.jobs(ledger, job_id=job_id)
    return found.state


def owed(ledger: Ledger, at: float = T0 + 200, destination: str = "ris") -> list[tuple[str, str]]:
    return [(item.job_id, item.kind) for item in cases.due(ledger, destination, at)]


def send(ledger: Ledger, at: float = T0 + 200, destination: str = "ris") -> tuple[str, str]:
    """What goes first."""
    first = cases.due(ledger, destination, at)[0]
    assert ledger.deliveries.begin_try(first, at)
    ledger.deliveries.delivered(first, "AA", at)
    return first.job_id, first.kind


def try_in_vain(ledger: Ledger, at: float, destination: str = "ris") -> None:
    (first,) = cases.due(ledger, destination, at)
    assert ledger.deliveries.begin_try(first, at)
    ledger.deliveries.put_off(first, "no answer", next_try_at=0.0, refused=False, now=at)


# -- what had not ended


def test_a_reading_that_waits_is_cancelled(ledger: Ledger, row: KnownStudy) -> None:
    job_id, _ = make(ledger, row)
    assert remove(ledger) == Removed(cancelled=1, withdrawn=0)
    assert state(ledger, job_id) == "cancelled"
    assert ledger.jobs.unsent(T0 + 200, resend_before=T0 + 200) == []
    assert ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 200) is None


def test_the_worker_of_a_reading_that_runs_can_write_nothing_more(ledger: Ledger, row: KnownStudy) -> None:
    job_id, _ = make(ledger, row)
    held = claim(ledger, job_id)
    assert remove(ledger) == Removed(cancelled=1, withdrawn=0)
    for write in (
        lambda: ledger.claims.renew(job_id, held.token, lease_s=20, now=T0 + 101),
        lambda: cases.keep(ledger, held, T0 + 101),
        lambda: ledger.claims.hand_over(job_id, held.token, T0 + 101, archived=True),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert state(ledger, job_id) == "cancelled"
    assert [item.outcome for item in readings.attempts(ledger, job_id)] == ["cancelled"]


def test_a_result_that_nobody_was_told_of_is_not_sent(ledger: Ledger, row: KnownStudy) -> None:
    job_id, _ = read(ledger, row)
    assert remove(ledger) == Removed(cancelled=1, withdrawn=0)
    assert state(ledger, job_id) == "cancelled"
    assert owed(ledger) == []


def test_a_dead_letter_of_a_deleted_study_needs_nobody_any_more(ledger: Ledger, row: KnownStudy) -> None:
    job_id, _ = read(ledger, row)
    (delivery,) = cases.due(ledger, "ris")
    ledger.deliveries.park(delivery, "AE", T0 + 5)
    remove(ledger)
    assert (state(ledger, job_id), ledger.dead.letters()) == ("cancelled", [])


def test_it_is_done_once(ledger: Ledger, row: KnownStudy) -> None:
    told(ledger, row)
    assert remove(ledger) == Removed(cancelled=0, withdrawn=1)
    assert remove(ledger) is None
    assert ledger.removals.study_removed("o-unknown", T0, within_s=WITHIN_S, withdrawn={}) is None
    assert ledger.removals.living_studies() == {}


def test_the_decision_says_in_words_what_was_done(ledger: Ledger, row: KnownStudy) -> None:
    told(ledger, row)
    make(ledger, row, route="second")
    remove(ledger)
    last = readings.decisions(ledger, study_uid="1.2.3")[-1]
    assert last.reason == "the study was deleted from Orthanc: 1 reading cancelled, 1 result withdrawn"


# -- what the RIS knows


def test_a_result_that_was_acknowledged_lately_is_withdrawn_by_a_message_of_its_own(
    ledger: Ledger, row: KnownStudy
) -> None:
    job_id = told(ledger, row)
    assert remove(ledger, T0 + WITHIN_S) == Removed(cancelled=0, withdrawn=1)
    (message,) = cases.due(ledger, "ris", T0 + WITHIN_S + 1)
    number = control_id(job_id, "ris-withdrawn")
    assert (message.kind, message.control_id) == ("withdrawal", number)
    assert message.payload == b"MSH|X|" + number.encode()
    assert number != control_id(job_id, "ris")
    send(ledger, T0 + WITHIN_S + 1)
    assert state(ledger, job_id) == "done"
    assert owed(ledger) == []


def test_a_study_that_is_deleted_long_after_its_result_is_housekeeping(ledger: Ledger, row: KnownStudy) -> None:
    job_id = told(ledger, row)
    assert remove(ledger, T0 + WITHIN_S + 2) == Removed(cancelled=0, withdrawn=0)
    assert (owed(ledger), state(ledger, job_id)) == ([], "done")


def test_of_several_revisions_the_one_that_the_ris_has_last_is_withdrawn(ledger: Ledger, row: KnownStudy) -> None:
    told(ledger, row)
    second = told(ledger, row, at=T0 + 10, sources="hash-2")
    third, _ = read(ledger, row, at=T0 + 20, sources="hash-3")
    other = told(ledger, row, at=T0 + 30, route="second")
    assert remove(ledger) == Removed(cancelled=1, withdrawn=2)
    assert sorted(owed(ledger)) == sorted([(second, "withdrawal"), (other, "withdrawal")])
    assert state(ledger, third) == "cancelled"


def test_a_message_that_the_ris_may_have_received_is_sent_and_then_withdrawn(ledger: Ledger, row: KnownStudy) -> None:
    job_id, _ = read(ledger, row)
    try_in_vain(ledger, T0 + 5)
    assert remove(ledger) == Removed(cancelled=0, withdrawn=1)
    assert owed(ledger) == [(job_id, "result")], "the withdrawal waits"
    assert send(ledger) == (job_id, "result")
    assert send(ledger) == (job_id, "withdrawal")
    assert (owed(ledger), state(ledger, job_id)) == ([], "done")


def test_a_fhir_server_that_may_have_received_a_result_is_told_too(ledger: Ledger, row: KnownStudy) -> None:
    job_id, _ = make(ledger, row)
    held = claim(ledger, job_id)
    cases.keep(ledger, held, destinations=("fhir", "pacs2"))
    with ledger.begin() as db:
        db.exec_driver_sql("UPDATE delivery SET payload = x'7b7d' WHERE destination = 'fhir'")
    ledger.claims.hand_over(job_id, held.token, T0 + 1, archived=True)
    for destination in ("fhir", "pacs2"):
        try_in_vain(ledger, T0 + 5, destination)
    assert remove(ledger, T0 + 100, "ris", "fhir") == Removed(cancelled=0, withdrawn=1)
    assert owed(ledger) == [], "the RIS knows nothing yet"
    assert owed(ledger, destination="pacs2") == [], "a node that can't be told has nothing more to get"
    assert [send(ledger, destination="fhir")[1], send(ledger, destination="fhir")[1]] == ["result", "withdrawal"]
    assert state(ledger, job_id) == "done"


# -- a study that comes back


def test_a_study_that_comes_back_is_read_again_as_a_new_revision(ledger: Ledger, row: KnownStudy) -> None:
    first = told(ledger, row)
    remove(ledger)
    send(ledger)
    back = arrive(ledger, seen(), at=T0 + 300)
    assert (back.id, back.deleted_at, back.due_at) == (row.id, None, T0 + 300)
    again, decision = make(ledger, back, at=T0 + 301)
    assert again != first
    assert isinstance(decision, Decision)
    assert (decision.verdict, "is back" in decision.reason) == (Verdict.ROUTE, True)
    job = claim(ledger, again, T0 + 302).job
    assert (job.revision, job.predecessor) == (2, None), "its objects went with the study"
    assert make(ledger, back, at=T0 + 303)[1].verdict is Verdict.SKIP


def test_a_study_whose_reading_was_cancelled_unread_is_read_when_it_comes_back(ledger: Ledger, row: KnownStudy) -> None:
    first, _ = make(ledger, row)
    for n in range(3):
        remove(ledger, T0 + 100 * n + 50)
        back = arrive(ledger, seen(), at=T0 + 100 * n + 100)
        again, decision = make(ledger, back, at=T0 + 100 * n + 101)
        assert (again != first, decision.verdict) == (True, Verdict.ROUTE)
        first = again
    assert claim(ledger, first, T0 + 999).job.revision == 1


def test_a_new_result_is_told_after_the_withdrawal_of_the_old_one(ledger: Ledger, row: KnownStudy) -> None:
    """Both carry one filler number: the other order would leave the RIS with a withdrawn result of a living study."""
    first = told(ledger, row)
    remove(ledger)
    try_in_vain(ledger, T0 + 150)
    second, _ = read(ledger, arrive(ledger, seen(), at=T0 + 300), at=T0 + 301)
    other, _ = read(ledger, row, at=T0 + 302, route="second")
    assert sorted(owed(ledger, T0 + 400)) == sorted([(first, "withdrawal"), (other, "result")])
    assert send(ledger, T0 + 400) == (first, "withdrawal")
    assert (second, "result") in owed(ledger, T0 + 401)


def test_a_withdrawal_that_can_not_be_delivered_holds_up_no_new_result(ledger: Ledger, row: KnownStudy) -> None:
    told(ledger, row)
    remove(ledger)
    (message,) = cases.due(ledger, "ris", T0 + 150)
    ledger.deliveries.park(message, "AE", T0 + 150)
    second, _ = read(ledger, arrive(ledger, seen(), at=T0 + 300), at=T0 + 301)
    assert owed(ledger, T0 + 400) == [(second, "result")]


# -- objects that came too late


def test_an_object_that_comes_after_its_study_was_deleted_is_unwanted(ledger: Ledger, row: KnownStudy) -> None:
    job_id, _ = make(ledger, row)
    held = claim(ledger, job_id)
    cases.keep(ledger, held)
    name = f"sr-{job_id}"
    assert ledger.removals.unwanted_results({name}) == []
    remove(ledger)
    assert ledger.removals.unwanted_results({name, "foreign"}) == [name]
    assert ledger.deliveries.known_results([name]) == {name}, "and is ours all the same"
    assert ledger.deliveries.kept_objects(job_id) == []


def test_the_objects_of_a_study_that_came_back_are_wanted(ledger: Ledger, row: KnownStudy) -> None:
    told(ledger, row)
    remove(ledger)
    second, _ = read(ledger, arrive(ledger, seen(), at=T0 + 300), at=T0 + 301)
    assert ledger.removals.unwanted_results({f"sr-{second}"}) == []
    assert state(ledger, second) == JobState.DELIVERING
