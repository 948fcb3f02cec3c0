"""The sweeper: jobs reach the broker once, again when it lost them, and after a worker died."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_cases import T0, arrive, make, seen
from structlog.testing import capture_logs

from medai.router import processes
from medai.router.contract import Priority
from medai.router.errors import BrokerUnreachable
from medai.router.ledger import Claim, Ledger
from medai.router.queue.sweeper import LeaseWatch, Sweeper, Swept
from medai.router.reports import readings


class FakeBroker:
    """A broker in memory that can be away, break after some messages, and forget."""

    def __init__(self) -> None:
        self.queue: list[tuple[str, str, int]] = []
        self.room = 1000

    def send(self, job_id: str, *, queue: str, priority: int) -> None:
        if len(self.queue) >= self.room:
            raise BrokerUnreachable("away")
        self.queue.append((job_id, queue, priority))

    def queued(self, queue: str) -> set[str]:
        return {item[0] for item in self.queue if item[1] == queue}


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
            watch=LeaseWatch(20.0, monotonic=lambda: self.now),
        )

    def claim(self, job_id: str) -> Claim:
        claim = self.ledger.claims.take(job_id, worker="w", lease_s=20, now=self.now)
        assert claim is not None
        return claim

    def wait(self, seconds: float) -> list[Swept]:
        """Sweep as the router does, for this long; returns the rounds in which something happened."""
        rounds = []
        for _ in range(int(seconds)):
            self.now += 1
            rounds.append(self.sweeper.tick())
        return [swept for swept in rounds if swept != Swept()]

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
    assert readings.jobs(system.ledger)[0].stamps["enqueued"] == T0


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
            system.claim(job_id)
            system.wait(22)
    assert [line["now"] for line in logs if line["event"] == "job_taken_back"] == ["pending", "failed"]


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
    system.now += 3
    assert system.sweeper.tick() == Swept()


def test_only_what_is_missing_is_sent_again(system: System) -> None:
    running, lost, queued = (system.job(f"1.{n}") for n in range(3))
    system.sweeper.tick()
    claim = system.claim(running)
    system.broker.queue = [item for item in system.broker.queue if item[0] == queued]
    system.now += 60
    system.ledger.claims.renew(running, claim.token, lease_s=20, now=system.now)
    assert system.sweeper.tick() == Swept(resent=1)
    assert system.sent() == [queued, lost]


def test_a_job_whose_worker_died_is_sent_again_and_ends_when_it_kills_every_worker(system: System) -> None:
    job_id = system.job("1.1")
    system.sweeper.tick()
    system.claim(job_id)
    assert system.wait(22) == [Swept(sent=1, reclaimed=1)]
    system.claim(job_id)
    assert system.wait(22) == [Swept(failed=1)]
    assert readings.jobs(system.ledger)[0].state == "failed"


def test_a_lease_that_is_renewed_is_left_alone_whatever_the_clocks_say(system: System) -> None:
    job_id = system.job("1.1")
    system.sweeper.tick()
    claim = system.claim(job_id)
    for _ in range(20):
        assert system.wait(5) == []
        system.ledger.claims.renew(
            job_id, claim.token, lease_s=20, now=T0 - 3600
        )  # the worker's clock is an hour behind


def test_a_sweeper_that_was_frozen_itself_gives_every_worker_its_time_again(system: System) -> None:
    job_id = system.job("1.1")
    system.sweeper.tick()
    claim = system.claim(job_id)
    system.wait(3)
    system.now += 100  # nobody looked
    assert system.wait(15) == []
    system.ledger.claims.renew(job_id, claim.token, lease_s=20, now=system.now)
    assert system.wait(15) == []


def test_a_worker_that_died_on_this_machine_is_noticed_at_once(system: System) -> None:
    job_id = system.job("1.1")
    system.sweeper.tick()
    child = subprocess.Popen(["sleep", "60"])
    process = processes.identity(child.pid)
    assert system.ledger.claims.take(job_id, worker="w", lease_s=20, now=system.now, process=process) is not None
    assert system.wait(2) == []
    child.kill()
    child.wait()
    assert system.wait(1) == [Swept(sent=1, reclaimed=1)]


def test_leases_are_taken_back_while_the_broker_is_away(system: System) -> None:
    job_id = system.job("1.1")
    system.claim(job_id)
    system.broker.room = 0
    assert system.wait(22) == [Swept(reclaimed=1)]
