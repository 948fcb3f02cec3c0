"""A fault in an arm of a trial: tried, mended, and kept in the record."""

from __future__ import annotations

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
    box = cast(Box, SimpleNamespace(folder=tmp_path, facts=facts))
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
