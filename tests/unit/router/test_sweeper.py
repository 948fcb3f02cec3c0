"""Jobs reach a worker whatever the broker forgets, and a message too many is never sent for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from router.contract import JobId, Priority
from router.dispatch import Dispatcher
from router.errors import BrokerUnreachable
from router.ledger import Ledger
from router.sweeper import Swept, Sweeper
from tests.ledger_cases import T0, arrive, make, seen


class Broker:
    """A dispatcher without Redis: ``queued`` and ``taken`` are what it would count."""

    def __init__(self) -> None:
        self.up = True
        self.sent: list[tuple[str, str, int]] = []
        self.queued: dict[str, list[str]] = {"cpu": [], "gpu": []}
        self.taken = 0
        self.fail_after: int | None = None

    def send(self, job_id: str, *, queue: str, priority: int) -> None:
        if not self.up or len(self.sent) == self.fail_after:
            raise BrokerUnreachable("Redis does not take messages")
        self.sent.append((job_id, queue, priority))
        self.queued[queue].append(job_id)

    def waiting(self, queue: str) -> int:
        if not self.up:
            raise BrokerUnreachable("Redis does not answer")
        return len(self.queued[queue])

    def unacknowledged(self) -> int:
        return self.taken


class Bench:
    """A ledger on a file, a fake broker, a clock that stands still, and the sweeper between them."""

    def __init__(self, path: Path) -> None:
        self.now = T0
        self.ledger = Ledger(f"sqlite:///{path / 'ledger.sqlite'}")
        self.ledger.migrate()
        self.broker = Broker()
        self.sweeper = Sweeper(
            self.ledger, cast(Dispatcher, self.broker), clock=lambda: self.now, max_crashes=2, resend_after_s=5.0
        )

    def job(self, uid: str, *, queue: str = "cpu", priority: Priority = Priority.ROUTINE) -> JobId:
        row = arrive(self.ledger, seen(uid=uid))
        return make(self.ledger, row, at=self.now, queue=queue, priority=priority)[0]

    def claim(self, job_id: str, *, lease_s: float = 20.0) -> None:
        assert self.ledger.claim(job_id, worker="w", lease_s=lease_s, now=self.now) is not None
        self.broker.queued["cpu"].remove(job_id)
        self.broker.taken += 1


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.ledger.close()


def test_nothing_to_do_sends_nothing(bench: Bench) -> None:
    assert bench.sweeper.tick() == Swept()


def test_a_new_job_is_sent_once_with_its_queue_and_priority(bench: Bench) -> None:
    job = bench.job("1.1", queue="gpu", priority=Priority.STAT)
    assert bench.sweeper.tick() == Swept(sent=1)
    bench.now += 100
    assert bench.sweeper.tick() == Swept()
    assert bench.broker.sent == [(job, "gpu", 0)]


def test_a_broker_that_is_away_is_told_once_and_loses_no_job(bench: Bench) -> None:
    job = bench.job("1.1")
    bench.broker.up = False
    with capture_logs() as logs:
        assert [bench.sweeper.tick() for _ in range(3)] == [Swept()] * 3
        bench.broker.up = True
        assert bench.sweeper.tick() == Swept(sent=1)
    assert [line["event"] for line in logs] == ["broker_unreachable", "broker_is_back"]
    assert [sent[0] for sent in bench.broker.sent] == [job]


def test_a_broker_that_goes_away_half_way_gets_only_the_rest_later(bench: Bench) -> None:
    jobs = {bench.job(f"1.{number}") for number in range(3)}
    bench.broker.fail_after = 2
    assert bench.sweeper.tick() == Swept()
    bench.broker.fail_after = None
    assert bench.sweeper.tick() == Swept(sent=1)
    assert len(bench.broker.sent) == 3
    assert {sent[0] for sent in bench.broker.sent} == jobs


def test_messages_that_the_broker_forgot_are_sent_again_once_they_are_old_enough(bench: Bench) -> None:
    jobs = [bench.job("1.1"), bench.job("1.2")]
    bench.sweeper.tick()
    bench.broker.queued["cpu"].clear()
    bench.now += 1
    assert bench.sweeper.tick() == Swept(), "a worker may be taking them right now"
    bench.now += 5
    assert bench.sweeper.tick(check_lost=False) == Swept()
    assert bench.sweeper.tick() == Swept(resent=2)
    assert sorted(sent[0] for sent in bench.broker.sent) == sorted([*jobs, *jobs])
    bench.now += 100
    assert bench.sweeper.tick() == Swept(), "all messages are there again"


def test_a_message_that_a_worker_holds_is_not_lost(bench: Bench) -> None:
    job = bench.job("1.1")
    bench.sweeper.tick()
    bench.broker.queued["cpu"].remove(job)  # taken, not claimed yet
    bench.broker.taken = 1
    bench.now += 100
    assert bench.sweeper.tick() == Swept()


def test_a_claimed_job_does_not_hide_a_lost_message(bench: Bench) -> None:
    first, lost = bench.job("1.1"), bench.job("1.2")
    bench.sweeper.tick()
    bench.claim(first, lease_s=1000)
    bench.broker.queued["cpu"].remove(lost)
    bench.now += 6
    assert bench.sweeper.tick() == Swept(resent=1)
    assert bench.broker.sent[-1][0] == lost


def test_a_job_whose_worker_died_is_sent_again_at_once_and_fails_after_too_many_deaths(bench: Bench) -> None:
    job = bench.job("1.1")
    bench.sweeper.tick()
    bench.claim(job)
    bench.now += 21
    bench.broker.taken = 0
    with capture_logs() as logs:
        assert bench.sweeper.tick() == Swept(sent=1, reclaimed=1)
        bench.claim(job)
        bench.now += 21
        bench.broker.taken = 0
        assert bench.sweeper.tick() == Swept(failed=1)
    assert [line["now"] for line in logs if line["event"] == "lease_expired"] == ["pending", "failed"]


def test_leases_are_taken_back_while_the_broker_is_away(bench: Bench) -> None:
    job = bench.job("1.1")
    bench.sweeper.tick()
    bench.claim(job)
    bench.now += 21
    bench.broker.up = False
    assert bench.sweeper.tick() == Swept(reclaimed=1)
    bench.broker.up = True
    assert bench.sweeper.tick() == Swept(sent=1)
