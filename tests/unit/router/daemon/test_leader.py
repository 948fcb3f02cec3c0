"""Of two routers on one ledger one leads; the other takes over when it falls silent, and not before."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from medai.router import processes
from medai.router.daemon.leader import LEASE_S, Leadership
from medai.router.errors import LedgerUnreachable, TemporaryError
from medai.router.ledger import Ledger


class Router:
    """One router's share in the lead, with a clock of its own that stands still until it is moved."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self.now = 1000.0
        self.ledger = ledger
        self.share = Leadership(ledger.fleet, monotonic=lambda: self.now, clock=lambda: 0.0, me=name)

    def watch(self, seconds: float) -> bool:
        """Stand by for this long, a look each second."""
        for _ in range(int(seconds)):
            self.now += 1
            if self.share.try_once():
                return True
        return False

    def renew(self) -> None:
        self.share._renew()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture
def routers(url: str) -> Iterator[tuple[Router, Router]]:
    ledgers = [Ledger(url), Ledger(url)]
    ledgers[0].migrate()
    first, second = (Router(ledger, name) for ledger, name in zip(ledgers, ("a", "b"), strict=True))
    assert first.share.try_once()
    yield first, second
    for ledger in ledgers:
        ledger.close()


def away(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_answer(*_arguments: object, **_more: object) -> None:
        raise LedgerUnreachable("the ledger does not answer")

    for name in ("lease", "renew_lease", "take_lease", "give_lease"):
        monkeypatch.setattr(router.ledger.fleet, name, no_answer)


def test_the_second_stands_by_while_the_first_renews(routers: tuple[Router, Router]) -> None:
    first, second = routers
    for _ in range(30):
        first.renew()
        assert not second.watch(1)
    assert first.share.leads
    assert not second.share.leads


def test_the_second_takes_over_after_the_lease_of_silence_and_not_before(routers: tuple[Router, Router]) -> None:
    _, second = routers
    assert not second.share.try_once()
    assert not second.watch(LEASE_S - 1)
    assert second.watch(1)
    assert second.share.leads


def test_a_renewal_in_the_last_moment_begins_the_silence_anew(routers: tuple[Router, Router]) -> None:
    first, second = routers
    second.share.try_once()
    assert not second.watch(LEASE_S - 1)
    first.renew()
    assert not second.watch(LEASE_S)
    assert second.watch(1)


def test_a_router_that_did_not_look_for_a_while_knows_nothing_of_silence(routers: tuple[Router, Router]) -> None:
    first, second = routers
    second.share.try_once()
    second.now += 100  # frozen, or cut off from the ledger, as the first may have been
    assert not second.share.try_once()
    first.renew()
    assert not second.watch(LEASE_S - 1)


def test_a_leader_that_was_frozen_learns_that_it_lost_the_lead_before_it_does_anything(
    routers: tuple[Router, Router],
) -> None:
    first, second = routers
    second.share.try_once()
    assert second.watch(LEASE_S)
    assert first.share.leads, "it can't know: its own clock stood still"
    first.now += LEASE_S + 20
    with capture_logs() as logs:
        assert not first.share.leads
    assert [line["event"] for line in logs] == ["lead_lost"]
    assert first.share.lost.is_set()
    first.share.give()
    assert second.share.leads
    assert second.ledger.fleet.renew_lease("router", str(second.share._token), 0.0), "what was lost can't be let go"


def test_a_leader_that_was_frozen_and_lost_nothing_leads_on(routers: tuple[Router, Router]) -> None:
    first, _ = routers
    first.now += 3600
    assert first.share.leads


def test_it_can_lead_again_after_it_lost_the_lead(routers: tuple[Router, Router]) -> None:
    first, second = routers
    second.share.try_once()
    second.watch(LEASE_S)
    first.renew()
    first.share.give()
    second.share.give()
    assert first.share.try_once()
    assert first.share.leads


def test_a_ledger_that_is_away_takes_no_lead_away(
    routers: tuple[Router, Router], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = routers
    second.share.try_once()
    with monkeypatch.context() as outage:
        away(first, outage)
        away(second, outage)
        for _ in range(30):
            first.now += 1
            assert first.share.leads
            with pytest.raises(TemporaryError):
                second.watch(1)
    assert not second.watch(1), "it heard nothing for long because nobody could speak"
    assert first.share.leads
    first.renew()
    assert not second.watch(LEASE_S - 1)


def test_letting_go_lets_the_other_in_at_once(routers: tuple[Router, Router]) -> None:
    first, second = routers
    assert not second.share.try_once()
    first.share.give()
    assert not first.share.leads
    assert second.share.try_once()


def test_letting_go_of_a_ledger_that_is_away_is_no_error(
    routers: tuple[Router, Router], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = routers
    away(first, monkeypatch)
    first.share.give()
    assert not first.share.leads


def test_a_holder_that_died_on_this_machine_is_replaced_at_once(routers: tuple[Router, Router]) -> None:
    first, second = routers
    child = subprocess.Popen(["sleep", "60"])
    first.share.give()
    assert Leadership(first.ledger.fleet, me=processes.identity(child.pid)).try_once()
    assert not second.share.try_once(), "it lives"
    child.kill()
    child.wait()
    assert second.share.try_once()


def test_of_two_that_wait_one_gets_it(routers: tuple[Router, Router], url: str) -> None:
    first, _ = routers
    first.share.give()
    others = [Router(Ledger(url), f"r{n}") for n in range(4)]
    threads = [threading.Thread(target=router.share.try_once) for router in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(router.share.leads for router in others) == 1
    for router in others:
        router.ledger.close()


def test_an_older_program_never_leads(routers: tuple[Router, Router], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = routers
    first.share.give()
    with monkeypatch.context() as older:
        older.setattr("medai.router.ledger.fleet.newest_revision", lambda: "0001")
        with pytest.raises(TemporaryError, match="Update this one"):
            second.share.try_once()
    assert second.share.try_once()


def test_a_leader_whose_ledger_was_brought_to_a_newer_version_stops(
    routers: tuple[Router, Router], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = routers
    monkeypatch.setattr("medai.router.ledger.fleet.newest_revision", lambda: "0001")
    first.renew()
    assert not first.share.leads


def test_the_lead_is_renewed_by_itself_until_it_is_let_go(url: str) -> None:
    ledger = Ledger(url)
    ledger.migrate()
    share = Leadership(ledger.fleet, renew_s=0.01, me="a")
    assert share.win(threading.Event())
    seen = ledger.fleet.lease("router")
    assert seen is not None
    waited = threading.Event()
    while (now := ledger.fleet.lease("router")) is not None and now.beat < 3:
        waited.wait(0.01)
    share.give()
    given = ledger.fleet.lease("router")
    assert given is not None
    assert given.holder == ""
    ledger.close()


def test_a_router_that_stands_by_stops_when_it_is_told_to(routers: tuple[Router, Router]) -> None:
    _, second = routers
    stop = threading.Event()
    stop.set()
    assert not second.share.win(stop)
