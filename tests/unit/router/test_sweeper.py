"""The sweeper: jobs reach the broker once, again when it lost them, and after a worker died."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_cases import T0, arrive, make, seen
from structlog.testing import capture_logs

from router import reports
from router.contract import Priority
from router.errors import BrokerUnreachable
from router.ledger import Ledger
from router.sweeper import Sweeper, Swept


class FakeBroker:
    """A broker in memory that can be away, break after some messages, and forget."""

    def __init__(self) -> None:
        self.queue: list[tuple[str, str, int]] = []
        self.taken = 0
        self.room = 1000

    def send(self, job_id: str, *, queue: str, priority: int) -> None:
        if len(self.queue) >= self.room:
            raise BrokerUnreachable("away")
        self.queue.append((job_id, queue, priority))

    def waiting(self, queue: str) -> int:
        return sum(item[1] == queue for item in self.queue)

    def unacknowledged(self) -> int:
        return self.taken


class System:
    def __init__(self, url: str) -> None:
        self.ledger = Ledger(url)
        self.ledger.migrate()
        self.broker = FakeBroker()
        self.now = T0
        self.sweeper = Sweeper(
            self.ledger,
            self.broker,  # type: ignore[arg-type]  # the fake has what the sweeper asks for
            clock=lambda: self.now,
            max_crashes=2,
        )

    def job(self, uid: str, **changes: object) -> str:
        return make(self.ledger, arrive(self.ledger, seen(uid=uid)), **changes)[0]

    def sent(self) -> list[str]:
        return [item[0] for item in self.broker.queue]


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    system = System(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield system
    system.ledger.close()


def test_a_job_is_sent_once_with_its_queue_and_priority_and_stamped(system: System) -> None:
    job_id = system.job("1.1", priority=Priority.STAT, queue="gpu")
    assert system.sweeper.tick() == Swept(sent=1)
    system.now += 60
    assert system.sweeper.tick() == Swept()
    assert system.broker.queue == [(job_id, "gpu", 0)]
    assert reports.jobs(system.ledger)[0]["stamps"]["enqueued"] == T0


def test_the_urgent_ones_go_first(system: System) -> None:
    slow = system.job("1.1", priority=Priority.BACKGROUND)
    fast = system.job("1.2", priority=Priority.STAT)
    system.sweeper.tick()
    assert system.sent() == [fast, slow]


def test_a_broker_that_is_away_costs_nothing_but_time(system: System) -> None:
    job_id = system.job("1.1")
    system.broker.room = 0
    assert system.sweeper.tick() == Swept()
    assert system.sweeper.tick() == Swept()
    system.broker.room = 10
    assert system.sweeper.tick() == Swept(sent=1)
    assert system.sent() == [job_id]


def test_a_broker_that_is_away_is_told_once_and_so_is_its_return(system: System) -> None:
    system.job("1.1")
    system.broker.room = 0
    with capture_logs() as logs:
        for _ in range(3):
            system.sweeper.tick()
        system.broker.room = 10
        for _ in range(2):
            system.sweeper.tick()
    assert [line["event"] for line in logs] == ["broker_unreachable", "broker_is_back"]


def test_a_lease_that_ran_out_is_told_with_what_became_of_the_job(system: System) -> None:
    job_id = system.job("1.1")
    with capture_logs() as logs:
        for _ in range(2):
            assert system.ledger.claim(job_id, worker="w", lease_s=20, now=system.now) is not None
            system.now += 21
            system.sweeper.tick()
    assert [line["now"] for line in logs if line["event"] == "lease_expired"] == ["pending", "failed"]


def test_a_broker_that_breaks_half_way_keeps_what_went_and_gets_the_rest_later(system: System) -> None:
    jobs = {system.job(f"1.{n}") for n in range(3)}
    system.broker.room = 2
    system.sweeper.tick()
    system.broker.room = 10
    assert system.sweeper.tick(check_lost=False) == Swept(sent=1)
    assert len(system.sent()) == 3
    assert set(system.sent()) == jobs


def test_messages_that_the_broker_forgot_are_sent_again_once_they_are_old_enough(system: System) -> None:
    job_id = system.job("1.1")
    system.sweeper.tick()
    system.broker.queue.clear()
    system.now += 4
    assert system.sweeper.tick() == Swept()
    system.now += 2
    assert system.sweeper.tick(check_lost=False) == Swept(), "counting is not for every round"
    assert system.sweeper.tick() == Swept(resent=1)
    assert system.sent() == [job_id]


def test_a_message_that_a_worker_has_just_taken_is_not_lost(system: System) -> None:
    system.job("1.1")
    system.sweeper.tick()
    system.broker.queue.clear()
    system.broker.taken = 1
    system.now += 60
    assert system.sweeper.tick() == Swept()


def test_messages_of_running_jobs_do_not_hide_a_lost_one(system: System) -> None:
    running = system.job("1.1")
    system.sweeper.tick()
    assert system.ledger.claim(running, worker="w", lease_s=3600, now=system.now) is not None
    lost = system.job("1.2")
    system.sweeper.tick()
    system.broker.queue.clear()
    system.broker.taken = 1
    system.now += 60
    assert system.sweeper.tick() == Swept(resent=1)
    assert system.sent() == [lost]


def test_a_job_whose_worker_died_is_sent_again_and_ends_when_it_kills_every_worker(system: System) -> None:
    job_id = system.job("1.1")
    system.sweeper.tick()
    system.ledger.claim(job_id, worker="w", lease_s=20, now=system.now)
    system.now += 21
    assert system.sweeper.tick() == Swept(sent=1, reclaimed=1)
    system.ledger.claim(job_id, worker="w", lease_s=20, now=system.now)
    system.now += 21
    assert system.sweeper.tick() == Swept(failed=1)
    assert reports.jobs(system.ledger)[0]["state"] == "failed"


def test_leases_are_taken_back_while_the_broker_is_away(system: System) -> None:
    job_id = system.job("1.1")
    system.ledger.claim(job_id, worker="w", lease_s=20, now=system.now)
    system.broker.room = 0
    system.now += 21
    assert system.sweeper.tick() == Swept(reclaimed=1)
