"""The router's promises about hearing and deciding, on a real Orthanc and a real Redis. Time is injected."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dicom_cases import slice_of, study_files, study_uid, to_bytes
from ledger_cases import said
from reading_cases import told
from servers import OrthancServer, Server, make_orthanc, make_redis, running, wait_for

from medai.router.contract import Order, Priority
from medai.router.daemon.loop import Router
from medai.router.errors import OrthancUnreachable
from medai.router.ledger import Ledger
from medai.router.ledger.fleet import Announced
from medai.router.log import Pseudonyms
from medai.router.orthanc.client import Orthanc
from medai.router.queue.dispatch import Dispatcher
from medai.router.queue.sweeper import LeaseWatch, Sweeper
from medai.router.reports import readings
from medai.router.settings.tables import Settings

MODEL = Announced(name="mr_brain", version="1", available=True, reason="")
ROUTE = {
    "name": "brain",
    "when": 'study.Modality == "MR"',
    "model": "mr_brain",
    "series": {"slices_min": 4},
    "completeness": {"quiet_s": 3.0, "max_wait_s": 60.0},
}


class Clock:
    """Real time plus what the test adds."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


class System:
    """A router in this process, with its servers beside it."""

    def __init__(self, folder: Path, *routes: dict[str, Any]) -> None:
        self.orthanc: OrthancServer = make_orthanc(folder / "orthanc")
        self.redis: Server = make_redis(folder / "redis")
        self.clock = Clock()
        self.settings = Settings(
            orthanc={"url": self.orthanc.url, "sweep_s": 5.0},
            ledger={"url": f"sqlite:///{folder / 'ledger.sqlite'}"},
            broker={"url": f"redis://127.0.0.1:{self.redis.port}/0"},
            routes=list(routes or (ROUTE,)),
        )
        self.ledger = Ledger(self.settings.ledger.url)
        self.ledger.migrate()
        self.ledger.fleet.announce([MODEL], self.clock())
        self.client = Orthanc(self.settings.orthanc)
        self.dispatcher = Dispatcher(self.settings.broker)
        self.router = self.new_router()

    def new_router(self) -> Router:
        """As after a restart: nothing but the ledger is kept."""
        watch = LeaseWatch(20.0, monotonic=self.clock)
        sweeper = Sweeper(self.ledger, self.dispatcher, clock=self.clock, max_crashes=3, watch=watch)
        self.router = Router(
            self.settings,
            orthanc=self.client,
            ledger=self.ledger,
            sweeper=sweeper,
            names=Pseudonyms("k"),
            clock=self.clock,
            monotonic=self.clock,
        )
        return self.router

    def send(self, files: list[bytes]) -> None:
        for data in files:
            assert self.orthanc.post(data)["Status"] in ("Success", "AlreadyStored")

    def turn(self, *, later_s: float = 0.0, times: int = 2) -> None:
        """Let time pass and the loop go round."""
        self.router.tick()
        for _ in range(int(later_s)):
            self.clock.ahead_s += 1.0
            self.router.tick()
        self.clock.ahead_s += later_s % 1.0
        for _ in range(times):
            self.router.tick()

    def jobs(self, study: str | None = None) -> list[dict[str, Any]]:
        return [told(job) for job in readings.jobs(self.ledger, study_uid=study_uid(study) if study else None)]

    def reasons(self, study: str) -> str:
        return "\n".join(item.reason for item in readings.decisions(self.ledger, study_uid=study_uid(study)))

    def close(self) -> None:
        self.dispatcher.close()
        self.client.close()
        self.ledger.close()


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    system = System(tmp_path)
    with running(system.orthanc), running(system.redis):
        system.turn()
        yield system
    system.close()


def test_a_study_becomes_one_job_after_the_quiet_period(system: System) -> None:
    system.send(study_files("a"))
    system.turn(later_s=1.0)
    assert system.jobs() == []
    system.turn(later_s=2.5)
    (job,) = system.jobs()
    assert (job["state"], job["images"], job["route"]) == ("pending", 16, "brain")
    assert len(system.dispatcher.queued("cpu")) == 1
    assert "no new image for 3.0 s" in system.reasons("a")


def test_the_same_study_sent_twice_makes_no_second_job(system: System) -> None:
    files = study_files("a")
    system.send(files)
    system.turn(later_s=4)
    system.send(files)
    system.turn(later_s=10)
    assert len(system.jobs()) == 1
    assert len(system.dispatcher.queued("cpu")) == 1


def test_a_pause_within_a_study_gives_one_job_for_all_of_it(system: System) -> None:
    files = study_files("a")
    system.send(files[:8])
    system.turn(later_s=1.5)  # the machine's own time passes, too: half of the quiet period is its to take
    system.send(files[8:])
    system.turn(later_s=1.5)
    assert system.jobs() == []
    system.turn(later_s=3)
    assert system.jobs()[0]["images"] == 16


def test_announced_counts_end_the_wait_at_once_and_missing_images_prolong_it(system: System) -> None:
    announced = {"NumberOfStudyRelatedInstances": 16}
    system.send(study_files("whole", **announced))
    system.turn()
    assert system.jobs("whole")[0]["images"] == 16
    system.send(study_files("short", **announced)[:15])
    system.turn(later_s=30)
    assert system.jobs("short") == []
    system.turn(later_s=31)
    assert system.jobs("short")[0]["images"] == 15
    assert "15 of 16" in system.reasons("short")


def test_orthanc_killed_while_a_study_is_young_loses_nothing(system: System) -> None:
    system.send(study_files("a"))
    system.orthanc.kill()
    system.turn(later_s=5)
    assert not system.router.orthanc_up
    system.orthanc.start()
    system.turn(later_s=10)
    assert system.jobs()[0]["images"] == 16


def test_a_router_that_was_away_finds_what_arrived_meanwhile(system: System) -> None:
    system.send(study_files("a"))
    system.turn()
    system.new_router()
    system.send(study_files("b"))
    system.turn(later_s=5)
    assert {len(system.jobs(name)) for name in "ab"} == {1}


def test_the_sweep_finds_a_study_that_no_event_announced(system: System) -> None:
    system.send(study_files("a"))
    import urllib3

    urllib3.request("DELETE", f"{system.orthanc.url}/changes")
    system.turn(later_s=6)
    system.turn(later_s=4)
    assert len(system.jobs()) == 1


def test_an_archive_that_was_wiped_is_heard_again(system: System, tmp_path: Path) -> None:
    system.send(study_files("a"))
    system.turn(later_s=4)
    system.orthanc.stop()
    import shutil

    shutil.rmtree(tmp_path / "orthanc" / "db")
    system.orthanc.start()
    system.send(study_files("b", slices=5))
    system.turn(later_s=4, times=4)
    assert len(system.jobs("b")) == 1


def test_studies_from_before_the_installation_are_left_alone(tmp_path: Path) -> None:
    system = System(tmp_path)
    with running(system.orthanc), running(system.redis):
        system.send(study_files("old"))
        system.clock.ahead_s = 48 * 3600
        system.turn(later_s=10)
        assert system.jobs() == []
        system.send([to_bytes(slice_of(99, study="old"))])
        system.turn(later_s=10)
    assert len(system.jobs()) == 1, "an old study that gets a new image is news"
    system.close()


def test_a_late_slice_before_anything_is_stored_replaces_the_job(system: System) -> None:
    files = study_files("a", slices=17)
    system.send(files[:16])
    system.turn(later_s=4)
    system.send(files[16:])
    system.turn(later_s=4)
    assert sorted((job["state"], job["images"]) for job in system.jobs()) == [("pending", 17), ("superseded", 16)]


def test_a_study_that_no_route_reads_has_a_recorded_reason(system: System) -> None:
    system.send(study_files("ct", Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2"))
    system.turn(later_s=4)
    assert system.jobs() == []
    assert "no route reads this study" in system.reasons("ct")


def test_too_few_slices_are_explained(system: System) -> None:
    system.send(study_files("few", slices=2))
    system.turn(later_s=4)
    assert "2 slices" in system.reasons("few")


def test_an_order_gives_its_priority_to_the_job(system: System) -> None:
    order = Order(placer="P1", accession="ACCPLANTED9", priority=Priority.STAT)
    system.ledger.orders.take([said(order)], system.clock())
    system.send(study_files("a"))
    system.turn(later_s=4)
    assert system.jobs()[0]["priority"] == "stat"


def test_messages_lost_by_redis_are_sent_again(system: System) -> None:
    system.send(study_files("a"))
    system.turn(later_s=4)
    system.redis.kill()
    system.turn(later_s=6)
    system.redis.start()
    assert len(system.dispatcher.queued("cpu")) == 0
    wait_for(lambda: (system.turn(later_s=6), len(system.dispatcher.queued("cpu")))[1] == 1, what="the message")


def test_without_a_model_the_study_waits_and_says_for_what(system: System) -> None:
    system.ledger.fleet.announce([replace(MODEL, available=False, reason="its weights are missing")], 0.0)
    system.send(study_files("a"))
    system.turn(later_s=4)
    assert system.jobs() == []
    assert "weights are missing" in system.reasons("a")
    system.ledger.fleet.announce([MODEL], 0.0)
    system.turn(later_s=11)
    assert len(system.jobs()) == 1


def test_a_deleted_study_is_recorded_and_does_not_stop_the_next(system: System) -> None:
    system.send(study_files("gone"))
    system.turn()
    (study,) = system.orthanc.get("/studies")
    import urllib3

    urllib3.request("DELETE", f"{system.orthanc.url}/studies/{study}")
    system.send(study_files("next"))
    system.turn(later_s=4)
    assert len(system.jobs("next")) == 1
    assert "deleted" in system.reasons("gone")


def test_a_study_that_breaks_the_router_is_put_off_and_the_next_one_is_read(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = system.client.instances
    system.send(study_files("broken"))
    system.turn()
    (broken,) = system.orthanc.get("/series")

    def instances(series: str) -> Any:
        if series == broken:
            raise KeyError("Plantedname^Test")
        return real(series)

    monkeypatch.setattr(system.client, "instances", instances)
    system.send(study_files("good"))
    system.turn(later_s=4)
    assert len(system.jobs("good")) == 1
    assert system.jobs("broken") == []
    assert "KeyError at" in system.reasons("broken")
    assert "Planted" not in system.reasons("broken")
    monkeypatch.undo()
    system.turn(later_s=12)
    assert len(system.jobs("broken")) == 1


def test_headers_that_orthanc_cannot_give_do_not_hold_up_other_studies(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = system.client.tags
    calls: list[str] = []

    def tags(instance: str) -> Any:
        calls.append(instance)
        if len(calls) == 1:
            raise OrthancUnreachable("Orthanc answered 500")
        return real(instance)

    monkeypatch.setattr(system.client, "tags", tags)
    system.send(study_files("broken"))
    system.turn()
    system.send(study_files("good"))
    system.turn(later_s=4)
    assert len(system.jobs("good")) == 1
    system.turn(later_s=10)
    assert len(system.jobs("broken")) == 1, "the sweep came back to it"
