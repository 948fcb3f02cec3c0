"""A fault in an arm of a trial: tried, mended, and kept in the record."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from trial_cases import scenario

from medai.trials.box import Box, BoxError
from medai.trials.clock import Clock
from medai.trials.hospital import faults
from medai.trials.hospital.arm import Hospital
from medai.trials.hospital.scans import Imaging
from medai.trials.scanner.sources import Sources
from medai.trials.scenario import Fault


def hospital(tmp_path: Path) -> Hospital:
    """One that nothing is played in."""
    facts = {"orthanc": {"dicom_port": 1, "aet": "ORTHANC"}, "ris": {"dicom_port": 1}}
    box = cast(Box, SimpleNamespace(folder=tmp_path, facts=facts, tls=None))
    imaging = Imaging(scenario=scenario(), sources=Sources(data=None))
    return Hospital(scenario(), (), "with-ai", box, imaging, Clock(accelerate=600.0), lambda _: None)


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Hospital]:
    made = hospital(tmp_path)
    yield made
    made.clock.stopped.set()
    made.scanners.close()
    made.agenda.close()
    made.desk.shutdown()


def test_a_fault_is_tried_until_its_part_is_back_and_is_kept_with_its_times(
    quiet: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def begin(_: Box) -> None:
        tries.append("begin")
        if len(tries) < 3:
            raise BoxError("still mending")

    fault = faults.Playable(name="ris-away", about="", begin=begin, end=lambda _: tries.append("end"))
    monkeypatch.setattr(faults, "playable", lambda: {"ris-away": fault})
    quiet._break(Fault(name="ris-away", at_s=0, for_s=60))
    assert tries == ["begin", "begin", "begin", "end"]
    (kept,) = quiet.broken
    assert (kept.name, kept.detail) == ("ris-away", "")
    assert kept.ended_s - kept.began_s >= 60 / 600
    assert [event.name for event in quiet.events] == ["fault-begins", "fault-ends"]


def test_a_fault_that_failed_half_way_is_mended_all_the_same(quiet: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    mended: list[Box] = []

    def half(_: Box) -> None:
        raise BoxError("flushed, and did not stop")

    monkeypatch.setattr("medai.trials.hospital.arm.STRIKE_S", 0.0)
    fault = faults.Playable(name="redis-emptied", about="", begin=half, end=mended.append)
    monkeypatch.setattr(faults, "playable", lambda: {"redis-emptied": fault})
    quiet._break(Fault(name="redis-emptied", at_s=0, for_s=1))
    assert len(mended) == 1
    assert [kept.detail for kept in quiet.broken] == ["flushed, and did not stop"]


def test_a_fault_that_cannot_be_played_is_part_of_the_record(quiet: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Box) -> None:
        raise BoxError("redis is not running")

    monkeypatch.setattr("medai.trials.hospital.arm.STRIKE_S", 0.0)
    fault = faults.Playable(name="redis-killed", about="", begin=fails)
    monkeypatch.setattr(faults, "playable", lambda: {"redis-killed": fault})
    quiet._break(Fault(name="redis-killed", at_s=0))
    assert [kept.detail for kept in quiet.broken] == ["redis is not running"]


def test_a_fault_waits_for_those_that_are_over_before_it_in_the_scenario(
    quiet: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    slow = threading.Event()

    def slowly(_: Box) -> None:
        slow.wait(10)
        done.append("garbage ends")

    played = (
        faults.Playable(name="ris-garbage", about="", begin=lambda _: done.append("garbage"), end=slowly),
        faults.Playable(name="ris-silent", about="", begin=lambda _: done.append("silent"), end=lambda _: None),
        faults.Playable(name="redis-killed", about="", begin=lambda _: done.append("killed")),
    )
    monkeypatch.setattr(faults, "playable", lambda: {fault.name: fault for fault in played})
    garbage, silent = Fault(name="ris-garbage", at_s=0, for_s=60), Fault(name="ris-silent", at_s=60, for_s=60)
    killed = Fault(name="redis-killed", at_s=30)
    quiet.scenario = scenario(faults=(silent, killed, garbage))
    threads = [threading.Thread(target=quiet._break, args=(fault,)) for fault in (garbage, killed, silent)]
    for thread in threads:
        thread.start()
    threads[1].join(10)
    assert sorted(done) == ["garbage", "killed"], "what overlaps in the scenario does not wait"
    slow.set()
    for thread in threads:
        thread.join(10)
    assert done[2:] == ["garbage ends", "silent"]
    assert [kept.name for kept in quiet.broken] == ["redis-killed", "ris-garbage", "ris-silent"]


def test_a_fault_that_waits_when_the_trial_is_given_up_does_not_strike(quiet: Hospital) -> None:
    flushed = Fault(name="redis-flushed", at_s=5)
    quiet.scenario = scenario(faults=(Fault(name="ris-away", at_s=0, for_s=1), flushed))
    quiet.clock.stopped.set()
    quiet._break(flushed)
    assert quiet.broken == []
