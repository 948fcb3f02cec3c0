"""A router that waits only listens; what arrives or is at work brings the whole round back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_cases import arrive, make, seen

from medai.router.daemon import loop
from medai.router.intake.changes import Poll
from medai.router.ledger import Ledger
from medai.router.log import Pseudonyms
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import Settings

ROUTE = {
    "name": "brain", "when": 'study.Modality == "MR"', "model": "mr_brain", "completeness": {"quiet_s": 3.0},
}  # fmt: skip


class Sweeper:
    """Counts the whole rounds."""

    def __init__(self) -> None:
        self.rounds = 0
        self.at_work = False

    def tick(self, *, check_lost: bool) -> None:
        self.rounds += 1


class Ear:
    """Hears what it is given, one poll each."""

    def __init__(self) -> None:
        self.polls = 0
        self.coming: list[Poll | Exception] = []

    def poll(self) -> Poll:
        self.polls += 1
        said = self.coming.pop(0) if self.coming else Poll(changes=0, touched=(), more=False)
        if isinstance(said, Exception):
            raise said
        return said

    def sweep(self) -> None: ...


class World:
    """A router whose time passes by waiting."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.now = 1_000.0
        self.sweeper, self.ear = Sweeper(), Ear()
        settings = Settings(routes=[ROUTE])
        self.router = loop.Router(
            settings,
            orthanc=Orthanc(settings.orthanc),
            ledger=ledger,
            sweeper=self.sweeper,  # type: ignore[arg-type]
            names=Pseudonyms("k"),
            clock=lambda: self.now,
            monotonic=lambda: self.now,
        )
        self.router._subscription = self.ear  # type: ignore[assignment]

    def run(self, seconds: float) -> tuple[int, int]:
        """Whole rounds and polls in this time."""
        world, until, before = self, self.now + seconds, (self.sweeper.rounds, self.ear.polls)

        class Stop(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                assert timeout is not None
                world.now += timeout
                if world.now >= until:
                    self.set()
                return self.is_set()

        self.router.run(Stop())
        return self.sweeper.rounds - before[0], self.ear.polls - before[1]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.migrate()
    yield World(ledger)
    ledger.close()


def test_an_idle_router_hears_as_often_and_looks_at_the_ledger_once_a_second(world: World) -> None:
    rounds, polls = world.run(10.0)
    assert rounds == pytest.approx(10, abs=1)
    assert polls == pytest.approx(100, abs=3)


def test_what_arrives_brings_whole_rounds_back_at_once_and_for_a_while(world: World) -> None:
    world.run(10.0)
    world.ear.coming = [Poll(changes=1, touched=("o",), more=False)]
    rounds, _ = world.run(loop.AWAKE_S)
    assert rounds == pytest.approx(10 * loop.AWAKE_S, abs=3)
    rounds, _ = world.run(10.0)
    assert rounds < 15


def test_a_study_that_waits_keeps_the_router_awake(world: World) -> None:
    world.run(10.0)
    study = arrive(world.ledger, seen(uid="1.2.3"))
    world.ledger.studies.set_due(study.id, world.now + 60.0)
    world.run(1.1)
    rounds, _ = world.run(10.0)
    assert rounds == pytest.approx(100, abs=3)


def test_so_does_a_job_with_a_worker(world: World) -> None:
    world.run(10.0)
    world.sweeper.at_work = True
    world.run(1.1)
    rounds, _ = world.run(10.0)
    assert rounds == pytest.approx(100, abs=3)


def test_what_somebody_else_wrote_is_found_within_a_second(world: World) -> None:
    world.run(10.0)
    make(world.ledger, arrive(world.ledger, seen(uid="1.2.3")))
    rounds, _ = world.run(loop.IDLE_ROUND_S + 0.1)
    assert rounds >= 1


def test_a_fault_of_ours_ends_no_router_that_only_listens(world: World) -> None:
    world.run(10.0)
    world.ear.coming = [ValueError("ours")]
    _, polls = world.run(loop.LOOK_AGAIN_S + 1.0)
    assert polls > 5
