"""Two real routers on one ledger: one leads, and the other follows within seconds, however the first one ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from servers import OrthancServer, Server, answers, free_port, make_orthanc, make_redis, running, wait_for

from medai.router.ledger import Ledger

STARTS_S = 60.0
"""A Python process on a busy machine."""

pytestmark = pytest.mark.apart  # how soon the other router leads is measured


class Program:
    """One ``medai router``, with its log."""

    def __init__(self, config: Path, name: str) -> None:
        self.log = config.parent / f"{name}.log"
        command = [sys.executable, "-m", "medai.router.cli", "router", "--config", str(config)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, cwd=config.parent)

    @property
    def pid(self) -> int:
        return self.process.pid

    def events(self) -> list[str]:
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [str(json.loads(line)["event"]) for line in lines]

    def said(self, event: str, *, within_s: float = STARTS_S) -> None:
        wait_for(lambda: event in self.events(), within_s=within_s, what=f"{event!r} in {self.events()}")

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def end(self) -> None:
        if self.runs:
            self.send(signal.SIGCONT)
            self.send(signal.SIGKILL)
        self.process.wait()


class Pair:
    """Servers, a ledger, and the routers that were started on them."""

    def __init__(self, folder: Path, orthanc: OrthancServer, redis: Server) -> None:
        self.folder = folder
        self.orthanc, self.redis = orthanc, redis
        self.url = f"sqlite:///{folder / 'ledger.sqlite'}"
        self.ledger = Ledger(self.url)
        self.ledger.migrate()
        self.programs: list[Program] = []

    def config(self, name: str) -> Path:
        """Settings with ports of their own."""
        self.metrics, self.orders = free_port(), free_port()
        path = self.folder / f"{name}.toml"
        path.write_text(
            f"""
[ledger]
url = "{self.url}"
[orthanc]
url = "{self.orthanc.url}"
[broker]
url = "redis://127.0.0.1:{self.redis.port}/0"
[metrics]
host = "127.0.0.1"
port = {self.metrics}
[hl7_in]
enabled = true
host = "127.0.0.1"
port = {self.orders}
"""
        )
        return path

    def start(self, config: Path, name: str) -> Program:
        program = Program(config, name)
        self.programs.append(program)
        return program

    def start_both(self) -> tuple[Program, Program]:
        """The first leads and the second stands by."""
        first = self.start(self.config("first"), "first")
        first.said("subscribed")
        second = self.start(self.config("second"), "second")
        second.said("standing_by")
        assert self.leader() == first.pid
        return first, second

    def leader(self) -> int | None:
        """Process number of the router that leads."""
        seen = self.ledger.fleet.lease("router")
        return int(seen.holder.split("|")[-2]) if seen is not None and seen.holder else None

    def takes_over(self, program: Program, *, within_s: float) -> float:
        """Seconds until it led, and did what a leader does."""
        began = time.monotonic()
        wait_for(lambda: self.leader() == program.pid, within_s=within_s, what="the lead of the other router")
        took_s = time.monotonic() - began
        program.said("subscribed", within_s=10.0)
        return took_s

    def end(self) -> None:
        for program in self.programs:
            program.end()
        self.ledger.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OrthancServer, Server]]:
    folder = tmp_path_factory.mktemp("servers")
    orthanc, redis = make_orthanc(folder / "orthanc"), make_redis(folder / "redis")
    with running(orthanc), running(redis):
        yield orthanc, redis


@pytest.fixture
def pair(tmp_path: Path, servers: tuple[OrthancServer, Server], monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    for name in [name for name in os.environ if name.upper().startswith("MEDAI_")]:
        monkeypatch.delenv(name)
    pair = Pair(tmp_path, *servers)
    yield pair
    pair.end()


def page(port: int) -> dict[str, Any]:
    """What the page of figures says of the lead, and whether it is ready."""
    url = f"http://127.0.0.1:{port}"
    text = urllib3.request("GET", f"{url}/metrics", timeout=5.0).data.decode()
    leads = [line.split()[1] for line in text.splitlines() if line.startswith("medai_leads ")]
    return {"leads": leads == ["1.0"], "ready": urllib3.request("GET", f"{url}/ready", timeout=5.0).status == 200}


def test_a_router_that_is_told_to_stop_hands_the_lead_over_within_three_seconds(pair: Pair) -> None:
    first, second = pair.start_both()
    assert page(pair.metrics) == {"leads": False, "ready": False}, "the second is healthy, and not ready"
    first.send(signal.SIGTERM)
    assert pair.takes_over(second, within_s=3.0) <= 3.0
    assert first.process.wait(timeout=10) == 0
    assert first.events()[-1] == "router_stopped"
    wait_for(lambda: page(pair.metrics) == {"leads": True, "ready": True}, within_s=10)
    assert answers(pair.orders), "it listens for orders now"


def test_a_router_that_is_killed_is_replaced_at_once_on_the_same_machine(pair: Pair) -> None:
    first, second = pair.start_both()
    first.send(signal.SIGKILL)
    first.process.wait()
    assert pair.takes_over(second, within_s=10.0) < 5.0, "without the lease of silence"


def test_a_frozen_router_is_replaced_and_stands_by_when_it_goes_on(pair: Pair) -> None:
    first, second = pair.start_both()
    first.send(signal.SIGSTOP)
    pair.takes_over(second, within_s=10.0)
    first.send(signal.SIGCONT)
    first.said("lead_lost", within_s=10.0)
    first.said("standing_by", within_s=10.0)
    assert first.events().count("leading") == 1
    assert pair.leader() == second.pid
    assert first.runs
    second.send(signal.SIGTERM)
    wait_for(lambda: pair.leader() == first.pid, within_s=3.0, what="the first router's second lead")


def test_one_configuration_that_is_started_twice_ends_neither_and_the_second_gets_the_ports(pair: Pair) -> None:
    config = pair.config("same")
    first = pair.start(config, "first")
    first.said("subscribed")
    second = pair.start(config, "second")
    second.said("standing_by")
    assert "port_not_opened" in second.events()
    assert (first.runs, second.runs, pair.leader()) == (True, True, first.pid)
    first.send(signal.SIGTERM)
    pair.takes_over(second, within_s=3.0)
    assert first.process.wait(timeout=10) == 0
    wait_for(lambda: answers(pair.metrics) and answers(pair.orders), within_s=5.0, what="the second router's ports")
    assert page(pair.metrics)["leads"]
