"""A lease is renewed while the work goes on; once it is lost, nothing more is written."""

from __future__ import annotations

import threading
from typing import cast

import pytest

from medai.router.errors import LeaseLost, TemporaryError
from medai.router.ledger.claims import Claims
from medai.workers.lease import Lease

LEASE_S = 0.04


class FakeClaims:
    """Renews as ``script`` says, one entry a renewal, then forever in peace."""

    def __init__(self, *script: Exception | None) -> None:
        self.script = list(script)
        self.calls: list[tuple[str, str, float, float]] = []
        self.renewed = threading.Semaphore(0)

    def renew(self, job_id: str, token: str, *, lease_s: float, now: float) -> None:
        self.calls.append((job_id, token, lease_s, now))
        self.renewed.release()
        if self.script and (error := self.script.pop(0)) is not None:
            raise error

    def wait(self, count: int) -> None:
        for _ in range(count):
            assert self.renewed.acquire(timeout=10)


def lease(ledger: FakeClaims, *, lease_s: float = LEASE_S) -> Lease:
    return Lease(cast(Claims, ledger), "job", "token", lease_s=lease_s, clock=lambda: 1000.0)


def renewing() -> list[threading.Thread]:
    """Threads that hold a lease now."""
    return [thread for thread in threading.enumerate() if thread.name == "lease"]


def check_until_lost(held: Lease) -> None:
    while True:
        held.check()
        threading.Event().wait(0.002)


def test_a_lease_is_renewed_again_and_again_for_its_whole_length() -> None:
    ledger = FakeClaims()
    with lease(ledger) as held:
        ledger.wait(3)
        held.check()
    assert set(ledger.calls) == {("job", "token", LEASE_S, 1000.0)}


def test_nothing_is_renewed_once_the_work_is_over() -> None:
    ledger = FakeClaims()
    with lease(ledger):
        ledger.wait(1)
    assert renewing() == []


def test_short_work_needs_no_renewal_and_does_not_wait_for_one() -> None:
    ledger = FakeClaims()
    with lease(ledger, lease_s=3600) as held:
        held.check()
    assert ledger.calls == []


def test_a_lost_lease_stops_the_work_at_its_next_stage_and_is_not_asked_for_again() -> None:
    ledger = FakeClaims(LeaseLost("taken back"))
    with lease(ledger) as held:
        ledger.wait(1)
        with pytest.raises(LeaseLost, match="taken back or superseded"):
            check_until_lost(held)
        with pytest.raises(LeaseLost):
            held.check()
    assert len(ledger.calls) == 1


def test_a_ledger_that_is_away_for_a_moment_does_not_lose_the_job() -> None:
    ledger = FakeClaims(TemporaryError("away"), TemporaryError("away"), None)
    with lease(ledger) as held:
        ledger.wait(4)
        held.check()


def test_an_error_of_the_work_goes_through_and_ends_the_renewals() -> None:
    ledger = FakeClaims()

    def work() -> None:
        with lease(ledger):
            raise ValueError("the work")

    with pytest.raises(ValueError, match="the work"):
        work()
    assert renewing() == []
