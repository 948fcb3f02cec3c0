"""The router's process: ports that others hold, standing by, leading, and stopping in order."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import urllib3
from servers import answers, free_port, wait_for
from structlog.testing import capture_logs
from ups_server import ups_server

from medai.router.daemon import service
from medai.router.daemon.leader import Leadership
from medai.router.daemon.service import Door, serve
from medai.router.errors import LedgerUnreachable
from medai.router.ledger import Ledger, migrated
from medai.router.settings.tables import Settings


class Part:
    """Something that listens on a port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.socket: socket.socket | None = None

    def start(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", self._port))

    def stop(self) -> None:
        assert self.socket is not None
        self.socket.close()


# -- doors


def test_a_port_that_is_taken_is_told_once_and_opened_when_it_is_free() -> None:
    port = free_port()
    door = Door(lambda: Part(port), name="orders")
    other = socket.create_server(("127.0.0.1", port))
    with capture_logs() as logs:
        assert [door.open() for _ in range(5)] == [False] * 5
    other.close()
    (line,) = logs
    assert (line["event"], line["port_of"]) == ("port_not_opened", "orders")
    assert "Tried again" in line["reason"]
    assert door.open()
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", port))
    door.close()


def test_a_door_opens_once_and_closes_once() -> None:
    made: list[Part] = []

    def make() -> Part:
        made.append(Part(free_port()))
        return made[-1]

    door = Door(make, name="orders")
    assert door.open()
    assert door.open()
    assert len(made) == 1
    door.close()
    door.close()
    assert door.open()
    assert len(made) == 2
    door.close()


def test_a_part_that_is_switched_off_has_no_door() -> None:
    door = Door(lambda: None, name="metrics")
    assert door.open()
    door.close()


# -- serving


class FakeRouter:
    """Leads until it is told to stop, or another leads."""

    def __init__(self, leads: Callable[[], bool], doors: Sequence[Door]) -> None:
        self._leads = leads
        self._doors = doors
        self.orthanc_up = True
        self.heartbeat = 0.0

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set() and self._leads():
            for door in self._doors:
                door.open()
            stop.wait(0.01)


class Program:
    """One router's process as a thread: ``said`` is what its parts did."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.stop = threading.Event()
        self.said: list[str] = []
        self.fails = 0
        self.ledger = Ledger(settings.ledger.url)
        self.leadership = Leadership(self.ledger.fleet, renew_s=0.02, me=name)
        self.thread = threading.Thread(target=serve, args=(settings, self.ledger, self.leadership, self.stop))

    def build(self, leads: Callable[[], bool], stack: ExitStack, doors: Sequence[Door]) -> FakeRouter:
        if self.fails:
            self.fails -= 1
            raise LedgerUnreachable("the ledger does not answer")
        stack.callback(self.said.append, "stopped")
        self.said.append("leads")
        return FakeRouter(leads, doors)

    def end(self) -> None:
        self.stop.set()
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.leadership.give()
        self.ledger.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        ledger={"url": f"sqlite:///{tmp_path / 'ledger.sqlite'}"},
        metrics={"port": free_port(), "host": "127.0.0.1"},
    )


@pytest.fixture
def programs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Program, Program]]:
    both = (Program(settings, "a"), Program(settings, "b"))
    both[0].ledger.migrate()
    of_ledger = {id(program.ledger): program for program in both}

    def build(
        _settings: Settings,
        ledger: Ledger,
        stack: ExitStack,
        *,
        leads: Any,
        doors: Any,
        tracer: Any,
        answers: Any,
        turned_away: Any,
        pruned: Any,
        audited: Any,
    ) -> FakeRouter:
        return of_ledger[id(ledger)].build(leads, stack, doors)

    monkeypatch.setattr(service, "build", build)
    yield both
    for program in both:
        if program.thread.is_alive():
            program.end()


def ready(settings: Settings) -> int:
    url = f"http://127.0.0.1:{settings.metrics.port}/health"
    try:
        return urllib3.request("GET", url, retries=False, timeout=2.0).status
    except urllib3.exceptions.HTTPError:
        return 0


def test_one_leads_while_the_other_stands_by_and_takes_over_with_the_page(
    programs: tuple[Program, Program], settings: Settings
) -> None:
    first, second = programs
    first.thread.start()
    wait_for(lambda: first.said == ["leads"], within_s=10)
    second.thread.start()
    wait_for(lambda: second.leadership._seen is not None, within_s=10)
    assert second.said == []
    assert second.thread.is_alive(), "its port is taken, and it does not lead: no reason to end"
    assert ready(settings) == 200
    first.end()
    assert first.said == ["leads", "stopped"]
    wait_for(lambda: second.said == ["leads"], within_s=5)
    wait_for(lambda: ready(settings) == 200, within_s=5, what="the page, which the first held until its end")
    second.end()


def test_a_router_that_loses_the_lead_stops_its_parts_and_stands_by(
    programs: tuple[Program, Program],
) -> None:
    first, _ = programs
    first.thread.start()
    wait_for(lambda: first.said == ["leads"], within_s=10)
    taken = first.ledger.fleet.take_lease("router", "other", 0.0, seen=first.ledger.fleet.lease("router"))
    while taken is None:  # it renewed between look and take
        taken = first.ledger.fleet.take_lease("router", "other", 0.0, seen=first.ledger.fleet.lease("router"))
    wait_for(lambda: first.said == ["leads", "stopped"], within_s=10)
    first.ledger.fleet.give_lease("router", taken, 0.0)
    wait_for(lambda: first.said == ["leads", "stopped", "leads"], within_s=10)
    first.end()


def test_a_ledger_that_goes_away_as_the_lead_begins_does_not_end_the_process(
    programs: tuple[Program, Program],
) -> None:
    first, _ = programs
    first.fails = 1
    with capture_logs() as logs:
        first.thread.start()
        wait_for(lambda: first.said == ["leads"], within_s=10)
    assert {"event": "waiting", "reason": "the ledger does not answer", "log_level": "warning"} in logs
    first.end()


def test_a_ledger_that_is_not_there_yet_is_waited_for_until_told_to_stop(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, stop = Ledger(settings.ledger.url), threading.Event()
    asked: list[int] = []

    def away() -> None:
        asked.append(1)
        stop.set()
        raise LedgerUnreachable("away")

    monkeypatch.setattr(ledger, "migrate", away)
    assert migrated(ledger, stop) is ledger
    assert asked == [1]
    ledger.close()


# -- its parts


@pytest.mark.parametrize("listens", [True, False])
def test_the_router_listens_for_announcements_where_a_port_is_named(
    settings: Settings, ledger: Ledger, listens: bool
) -> None:
    port = free_port()
    more = {"announcements": {"port": port if listens else 0}, "hl7_in": {"enabled": False}}
    with ExitStack() as stack:
        service.build(Settings(**{**settings.model_dump(), **more}), ledger, stack)
        assert answers(port) is listens
    assert not answers(port)


@pytest.mark.parametrize("named", [True, False])
def test_the_router_looks_for_workitems_where_a_worklist_is_named(
    settings: Settings, ledger: Ledger, named: bool
) -> None:
    with ups_server() as there, ExitStack() as stack:
        more = {"workitems": {"url": there.url if named else ""}, "hl7_in": {"enabled": False}}
        service.build(Settings(**{**settings.model_dump(), **more}), ledger, stack)
        if named:
            wait_for(lambda: there.seen)
        stack.close()
        assert bool(there.seen) is named
        assert "workitems" not in {thread.name for thread in threading.enumerate()}
