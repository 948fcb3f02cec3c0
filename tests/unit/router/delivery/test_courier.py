"""The courier: what each answer of a destination does to a delivery, its job and the others that wait."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import ledger_cases as cases
import pytest
from ledger_cases import T0, arrive, make, seen
from structlog.testing import capture_logs

from medai.router.contract import JobState
from medai.router.delivery.courier import BACK_OFF_MAX_S, Courier, Desk, back_off_s, longest_wait_s, to_archive
from medai.router.errors import FhirUnreachable, LedgerUnreachable, PermanentError, RisBusy, RisUnreachable
from medai.router.ledger import Ledger
from medai.router.ledger.deliveries import Delivery
from medai.router.orthanc.client import Orthanc
from medai.router.reports import readings
from medai.router.settings.tables import Settings

HOUR = 3600.0
SECRET = "DOE^JANE"


class Peer:
    """A destination that answers by a rule, and remembers what it was sent."""

    def __init__(self) -> None:
        self.rule: Callable[[str], Exception | None] = lambda _job: None
        self.sent: list[str] = []

    def __call__(self, delivery: Delivery) -> str:
        self.sent.append(delivery.job_id)
        error = self.rule(delivery.job_id)
        if error is not None:
            raise error
        return "AA"


class Office:
    """One desk for the RIS on a real ledger; time passes when it is told to."""

    def __init__(self, url: str) -> None:
        self.ledger = Ledger(url)
        self.ledger.migrate()
        self.now = T0 + 10
        self.peer = Peer()
        self.desk = self.new_desk()
        self._made = 0

    def new_desk(self) -> Desk:
        """As after a restart of the router."""
        self.desk = Desk("ris", self.peer, self.ledger.deliveries, give_up_s=72 * HOUR, clock=lambda: self.now)
        return self.desk

    def job(self, **changes: Any) -> str:
        """A reading whose ORU waits."""
        self._made += 1
        job_id, _ = make(self.ledger, arrive(self.ledger, seen(uid=f"1.{self._made}")), at=self.now, **changes)
        claim = self.ledger.claims.take(job_id, worker="w", lease_s=20, now=self.now)
        assert claim is not None
        cases.store(self.ledger, claim, self.now)
        return job_id

    def wait(self, seconds: float, *, step_s: float = 1.0) -> int:
        """Work once each ``step_s``; returns how many were received."""
        received = 0
        for _ in range(int(seconds / step_s)):
            self.now += step_s
            received += self.desk.work()
        return received

    def state(self, job_id: str) -> tuple[str, str]:
        (row,) = readings.jobs(self.ledger, job_id=job_id)
        return row.state, row.reason

    def story(self, job_id: str) -> list[tuple[str, str, int]]:
        return [(item.outcome, item.text, item.count) for item in readings.delivery_tries(self.ledger, job_id)]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield office
    office.ledger.close()


def unreachable(_job: str) -> Exception:
    return RisUnreachable("the RIS does not answer")


def busy(_job: str) -> Exception:
    return RisBusy("the RIS answered AR")


def test_a_receipt_ends_the_job(office: Office) -> None:
    job_id = office.job()
    assert office.desk.work() == 1
    assert office.state(job_id)[0] == "done"
    assert office.story(job_id) == [("done", "AA", 1)]
    assert office.desk.work() == 0
    assert office.peer.sent == [job_id]


def test_a_destination_that_is_away_is_tried_at_growing_distances_with_the_same_message(office: Office) -> None:
    job_id = office.job()
    office.peer.rule = unreachable
    at = []
    for _ in range(100):
        office.now += 1
        before = len(office.peer.sent)
        office.desk.work()
        at += [office.now] * (len(office.peer.sent) - before)
    pauses = [later - sooner for sooner, later in itertools.pairwise(at)]
    assert pauses[:4] == [2.0, 4.0, 8.0, 15.0]
    assert max(pauses) <= 15.0, "what a destination that is back costs at most"
    assert office.state(job_id)[0] == "delivering"
    assert office.story(job_id) == [("retry", "the RIS does not answer", len(at))]


def test_three_in_a_row_open_the_breaker_and_then_one_message_at_a_time_is_risked(office: Office) -> None:
    jobs = [office.job() for _ in range(6)]
    office.peer.rule = unreachable
    with capture_logs() as logs:
        office.desk.work()
        assert office.peer.sent == jobs[:3], "the others are not even begun"
        office.wait(40)
    probes = office.peer.sent[3:]
    assert 3 <= len(probes) <= 6
    assert set(probes[:3]) == set(jobs[3:]), "it may be one message that breaks the peer: each gets its turn"
    assert [line["event"] for line in logs] == ["destination_away"], "an outage is told once"
    gate = office.ledger.deliveries.gate("ris")
    assert gate is not None
    assert (gate.open, gate.reason) == (True, "the RIS does not answer")


def test_everything_is_due_at_once_when_a_destination_is_back(office: Office) -> None:
    jobs = [office.job() for _ in range(6)]
    office.peer.rule = unreachable
    office.wait(60)
    office.peer.rule = lambda _job: None
    while office.desk.work() == 0:
        office.now += 0.5
    assert office.desk.work() == 5
    assert {office.state(job_id)[0] for job_id in jobs} == {"done"}
    gate = office.ledger.deliveries.gate("ris")
    assert gate is not None
    assert not gate.open


def test_a_refusal_shows_too_that_a_destination_is_back(office: Office) -> None:
    jobs = [office.job() for _ in range(5)]
    office.peer.rule = unreachable
    office.wait(60)
    office.peer.rule = lambda job: PermanentError("the RIS answered AE") if job == refused[0] else None
    refused = [min(jobs, key=lambda job: (office.peer.sent.count(job), jobs.index(job)))]
    while office.state(refused[0])[0] != "failed":
        office.now += 0.5
        office.desk.work()
    office.desk.work()
    assert sorted(office.state(job_id)[0] for job_id in jobs) == ["done"] * 4 + ["failed"]


def test_a_message_that_is_refused_for_good_is_parked_and_the_next_one_goes(office: Office) -> None:
    first, second = office.job(), office.job()
    office.peer.rule = lambda job: PermanentError("the RIS answered AE") if job == first else None
    assert office.desk.work() == 1
    assert office.state(first) == ("failed", "ris: the RIS answered AE")
    assert office.state(second)[0] == "done"
    assert office.wait(100) == 0
    assert office.peer.sent == [first, second]


def test_refusals_never_open_the_breaker(office: Office) -> None:
    jobs = [office.job() for _ in range(5)]
    office.peer.rule = lambda _job: PermanentError("the RIS answered AE")
    office.desk.work()
    assert office.peer.sent == jobs


def test_a_message_that_is_refused_for_now_while_others_are_taken_is_parked_in_the_end(office: Office) -> None:
    bad = office.job()
    office.peer.rule = lambda job: busy(job) if job == bad else None
    office.wait(5)
    office.job()
    office.wait(60)
    assert office.state(bad) == ("failed", "ris: the RIS answered AR, 5 times, while other messages were accepted")
    assert office.peer.sent.count(bad) == 5


def test_a_destination_that_takes_nobody_for_a_while_parks_nobody(office: Office) -> None:
    first = office.job()
    assert office.desk.work() == 1
    jobs = [office.job() for _ in range(3)]
    office.peer.rule = busy
    office.wait(HOUR, step_s=60)
    assert {office.state(job_id)[0] for job_id in jobs} == {"delivering"}
    office.peer.rule = lambda _job: None
    office.wait(BACK_OFF_MAX_S + 10, step_s=10)
    assert {office.state(job_id)[0] for job_id in (first, *jobs)} == {"done"}


def test_a_message_that_was_made_before_others_were_taken_is_not_parked_when_the_peer_then_takes_nobody(
    office: Office,
) -> None:
    late = office.job()
    office.now += 1
    office.job(priority=cases.Priority.STAT)
    office.peer.rule = lambda job: busy(job) if job == late or len(office.peer.sent) > 2 else None
    office.desk.work()
    office.wait(300, step_s=5)
    assert office.peer.sent.count(late) > 5
    assert office.state(late)[0] == "delivering"


def test_what_can_not_be_delivered_for_three_days_is_given_up(office: Office) -> None:
    job_id = office.job()
    office.peer.rule = unreachable
    office.wait(71 * HOUR, step_s=HOUR)
    assert office.state(job_id)[0] == "delivering"
    office.wait(2 * HOUR, step_s=HOUR)
    assert office.state(job_id) == ("failed", "ris: given up after 72 h: the RIS does not answer")


def test_patience_begins_when_a_person_asks_for_another_try(office: Office) -> None:
    job_id = office.job()
    office.peer.rule = unreachable
    office.wait(73 * HOUR, step_s=HOUR)
    (letter,) = office.ledger.dead.letters()
    assert office.ledger.dead.retry(letter, office.now)
    office.wait(71 * HOUR, step_s=HOUR)
    assert office.state(job_id)[0] == "delivering"


def test_what_is_owed_later_than_that_has_its_own_patience(office: Office) -> None:
    """A withdrawal, or a reading that waited for a worker, days after a person's retry of the job."""
    job_id = office.job()
    office.peer.rule = lambda _job: PermanentError("the RIS answered AE")
    office.desk.work()
    (letter,) = office.ledger.dead.letters()
    office.ledger.dead.retry(letter, office.now)
    office.peer.rule = lambda _job: None
    assert office.wait(1) == 1
    office.now += 100 * HOUR
    office.ledger.removals.study_removed(
        "o-1.1", office.now, within_s=200 * HOUR, withdrawn={"ris": lambda data, _id: data}
    )
    office.peer.rule = unreachable
    office.wait(60)
    assert office.ledger.dead.letters() == []
    office.peer.rule = lambda _job: None
    assert office.wait(20) == 1
    assert office.peer.sent[-1] == job_id


def test_an_unexpected_error_costs_a_retry_only_and_no_text_of_it_is_kept_or_logged(office: Office) -> None:
    job_id = office.job()
    office.peer.rule = lambda _job: ValueError(SECRET)
    with capture_logs() as logs:
        assert office.desk.work() == 0
    assert [line["event"] for line in logs] == ["unexpected_error", "delivery_refused"]
    assert SECRET not in str([line for line in logs if line["event"] == "delivery_refused"])
    assert SECRET not in str(office.story(job_id))
    assert office.state(job_id)[0] == "delivering"
    office.peer.rule = lambda _job: None
    assert office.wait(5) == 1


def test_a_ledger_that_is_away_at_the_receipt_costs_a_repetition_of_the_same_message(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = office.job()

    def away(*_arguments: object) -> None:
        raise LedgerUnreachable("away")

    with monkeypatch.context() as outage:
        outage.setattr(office.ledger.deliveries, "delivered", away)
        with pytest.raises(LedgerUnreachable):
            office.desk.work()
    assert office.desk.work() == 1
    assert office.peer.sent == [job_id, job_id]
    assert office.state(job_id)[0] == "done"


def test_of_two_couriers_one_carries_each_message(office: Office) -> None:
    job_id = office.job()
    (seen_by_both,) = cases.due(office.ledger, "ris", office.now)
    assert office.ledger.deliveries.begin_try(seen_by_both, office.now)
    assert not office.ledger.deliveries.begin_try(seen_by_both, office.now)
    assert office.desk.work() == 1, "its first courier may have died: the next one tries the same message"
    assert not office.ledger.deliveries.begin_try(seen_by_both, office.now)
    assert office.peer.sent == [job_id]


def test_a_router_that_no_longer_leads_sends_nothing_more(office: Office) -> None:
    for _ in range(3):
        office.job()
    answers = iter([True, False])
    assert office.desk.work(lambda: next(answers)) == 1
    assert len(office.peer.sent) == 1


def test_an_open_breaker_outlives_the_router_and_so_does_what_it_put_off(office: Office) -> None:
    jobs = [office.job() for _ in range(4)]
    office.peer.rule = lambda _job: RisUnreachable("the RIS does not answer", retry_after_s=25.0)
    office.desk.work()
    office.new_desk().resume()
    office.peer.rule = lambda _job: None
    assert office.desk.work() == 0, "it waits for the probe that the last courier planned"
    office.now += 1
    assert (office.desk.work(), office.desk.work()) == (1, 3)
    assert {office.state(job_id)[0] for job_id in jobs} == {"done"}


def test_a_closed_breaker_is_resumed_closed(office: Office) -> None:
    office.new_desk().resume()
    job_id = office.job()
    assert office.desk.work() == 1
    assert office.state(job_id)[0] == "done"


# -- the order of things


class Archive:
    """Stores, unless it is away."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.away = False

    def store_result(self, kind: str, data: bytes) -> None:
        if self.away:
            raise RisUnreachable("away")
        self.stored.append(kind)


def kept(office: Office, **changes: Any) -> str:
    """A reading that was kept and whose worker then left the archive to the courier."""
    row = arrive(office.ledger, seen(uid="9.9"))
    job_id, _ = make(office.ledger, row, at=office.now, **changes)
    claim = office.ledger.claims.take(job_id, worker="w", lease_s=20, now=office.now)
    assert claim is not None
    cases.keep(office.ledger, claim, office.now)
    office.ledger.claims.hand_over(job_id, claim.token, office.now)
    return job_id


def test_the_archive_comes_before_the_ris(office: Office) -> None:
    job_id = kept(office)
    archive = Archive()
    first = Desk(
        "archive",
        lambda delivery: to_archive(delivery, office.ledger.deliveries, cast(Orthanc, archive)),
        office.ledger.deliveries,
        give_up_s=HOUR,
        clock=lambda: office.now,
    )
    archive.away = True
    assert (first.work(), office.desk.work()) == (0, 0)
    archive.away = False
    office.now += 5
    assert (office.desk.work(), first.work(), office.desk.work()) == (0, 1, 1)
    assert archive.stored == ["sr"]
    assert office.state(job_id)[0] == "done"
    assert office.ledger.deliveries.kept_objects(job_id) == []


def test_a_result_is_told_before_its_correction_even_where_it_was_tried_more_often(office: Office) -> None:
    row = arrive(office.ledger, seen(uid="9.9"))
    jobs = []
    for n in range(2):
        job_id, _ = make(office.ledger, row, at=office.now, sources=f"hash-{n}")
        claim = office.ledger.claims.take(job_id, worker="w", lease_s=20, now=office.now)
        assert claim is not None
        cases.store(office.ledger, claim, office.now)
        jobs.append(job_id)
    office.peer.rule = unreachable
    office.wait(60)
    assert set(office.peer.sent) == {jobs[0]}
    office.peer.rule = lambda _job: None
    assert office.wait(20) == 2
    assert office.peer.sent[-2:] == jobs


# -- all desks together


def settings(**more: Any) -> Settings:
    return Settings(orthanc={"poll_s": 0.05}, **more)


def test_what_is_owed_to_a_destination_that_is_no_longer_configured_is_parked(office: Office) -> None:
    office.ledger.fleet.announce([], T0)
    row = arrive(office.ledger, seen(uid="9.9"))
    job_id, _ = make(office.ledger, row, at=office.now)
    claim = office.ledger.claims.take(job_id, worker="w", lease_s=20, now=office.now)
    assert claim is not None
    courier = Courier(settings(), office.ledger.deliveries, cast(Orthanc, Archive()), clock=lambda: office.now)
    courier.park_unknown()
    cases.keep(office.ledger, claim, office.now, destinations=("old_pacs",))
    office.ledger.claims.hand_over(job_id, claim.token, office.now, archived=True)
    office.desk.work()
    assert office.state(job_id)[0] == "delivering"
    courier.park_unknown()
    state, reason = office.state(job_id)
    assert (state, reason) == ("failed", "old_pacs: the destination 'old_pacs' is no longer configured")


def test_a_running_courier_parks_what_became_due_to_nobody_after_its_start(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medai.router.delivery.courier.LOOK_S", 0.01)
    courier = Courier(settings(), office.ledger.deliveries, cast(Orthanc, Archive()), clock=lambda: office.now)
    courier.start()
    row = arrive(office.ledger, seen(uid="9.9"))
    job_id, _ = make(office.ledger, row, at=office.now)
    claim = office.ledger.claims.take(job_id, worker="w", lease_s=20, now=office.now)
    assert claim is not None
    cases.keep(office.ledger, claim, office.now, destinations=("old_pacs",))
    office.ledger.claims.hand_over(job_id, claim.token, office.now, archived=True)
    until = time.monotonic() + 10
    while not office.ledger.dead.letters() and time.monotonic() < until:
        time.sleep(0.01)
    courier.stop()
    assert [letter.destination for letter in office.ledger.dead.letters()] == ["old_pacs"]


def test_a_courier_starts_while_the_ledger_is_away(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_arguments: object, **_more: object) -> None:
        raise LedgerUnreachable("away")

    for name in ("owed_to", "due", "gate"):
        monkeypatch.setattr(office.ledger.deliveries, name, away)
    courier = Courier(settings(), office.ledger.deliveries, cast(Orthanc, Archive()))
    courier.start()
    courier.stop()


def test_a_fhir_server_may_ask_to_be_left_alone_for_an_hour(office: Office) -> None:
    fhir = settings(destinations={"fhir": {"fhir_url": "https://fhir.example/r4"}})
    assert (longest_wait_s(fhir, "fhir"), longest_wait_s(fhir, "ris")) == (6 * HOUR, BACK_OFF_MAX_S)
    job_id = office.job()
    longest_s = longest_wait_s(fhir, "fhir")
    office.desk = Desk(
        "ris", office.peer, office.ledger.deliveries, give_up_s=HOUR, longest_s=longest_s, clock=lambda: office.now
    )
    office.peer.rule = lambda _job: FhirUnreachable("the server answered 503", retry_after_s=HOUR)
    office.desk.work()
    office.peer.rule = lambda _job: None
    assert office.wait(HOUR - 60, step_s=60) == 0
    assert office.wait(120, step_s=60) == 1
    assert office.state(job_id)[0] == JobState.DONE


@pytest.mark.parametrize(("tries", "seconds"), [(0, 2.0), (1, 4.0), (3, 16.0), (4, 30.0), (10_000, 30.0)])
def test_back_offs_double_and_have_an_end(tries: int, seconds: float) -> None:
    assert back_off_s(tries) == seconds
