"""MPPS and IAN decide when a study is complete: a real Orthanc, the router's loop and its listener, foreign peers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dicom_cases import study_files, study_uid
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pynetdicom import AE
from reading_cases import told
from servers import free_port, make_orthanc, make_redis, running

from medai.router.announcements.listener import IAN, MPPS, AnnouncementListener
from medai.router.daemon.loop import Router
from medai.router.ledger import Ledger
from medai.router.ledger.fleet import Announced
from medai.router.log import Pseudonyms
from medai.router.orthanc.client import Orthanc
from medai.router.queue.dispatch import Dispatcher
from medai.router.queue.sweeper import LeaseWatch, Sweeper
from medai.router.reports import readings
from medai.router.settings.tables import Settings

ROUTE = {
    "name": "brain", "when": 'study.Modality == "MR"', "model": "mr_brain", "series": {"slices_min": 4},
    "completeness": {"quiet_s": 30.0, "max_wait_s": 60.0},
}  # fmt: skip
CLASS = "1.2.840.10008.5.1.4.1.1.4"
PACKAGES = Path(sys.prefix) / "share" / "hl7-peer" / "node_modules"
PEER = Path(__file__).resolve().parents[1] / "peers" / "mpps_peer.mjs"


class Clock:
    """Real time plus what the test adds."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


class System:
    """A router in this process that also listens for announcements."""

    def __init__(self, folder: Path) -> None:
        self.orthanc, self.redis = make_orthanc(folder / "orthanc"), make_redis(folder / "redis")
        self.clock = Clock()
        self.settings = Settings(
            orthanc={"url": self.orthanc.url},
            ledger={"url": f"sqlite:///{folder / 'ledger.sqlite'}"},
            broker={"url": f"redis://127.0.0.1:{self.redis.port}/0"},
            announcements={"port": free_port()},
            routes=[ROUTE],
        )
        self.ledger = Ledger(self.settings.ledger.url)
        self.ledger.migrate()
        self.ledger.fleet.announce([Announced(name="mr_brain", version="1", available=True, reason="")], self.clock())
        self.client, self.dispatcher = Orthanc(self.settings.orthanc), Dispatcher(self.settings.broker)
        watch = LeaseWatch(20.0, monotonic=self.clock)
        self.router = Router(
            self.settings, orthanc=self.client, ledger=self.ledger,
            sweeper=Sweeper(self.ledger, self.dispatcher, clock=self.clock, max_crashes=3, watch=watch),
            names=Pseudonyms("k"), clock=self.clock, monotonic=self.clock,
        )  # fmt: skip
        self.listener = AnnouncementListener(self.settings.announcements, self.ledger.announcements, self.clock)

    def send(self, files: list[bytes]) -> None:
        for data in files:
            assert self.orthanc.post(data)["Status"] == "Success"

    def turn(self, *, later_s: float = 0.0) -> None:
        self.router.tick()
        self.clock.ahead_s += later_s
        for _ in range(3):
            self.router.tick()

    def jobs(self) -> list[dict[str, Any]]:
        return [told(job) for job in readings.jobs(self.ledger)]

    def reasons(self, study: str) -> str:
        return "\n".join(item.reason for item in readings.decisions(self.ledger, study_uid=study_uid(study)))

    def say(self, verb: str, sop_class: str, uid: str, said: Dataset) -> None:
        """Over an association of its own, which must succeed."""
        entity = AE(ae_title="CT1")
        entity.add_requested_context(sop_class)
        peer = entity.associate("127.0.0.1", self.settings.announcements.port)
        assert peer.is_established
        send = peer.send_n_create if verb == "create" else peer.send_n_set
        status, _ = send(said, sop_class, uid)
        peer.release()
        assert status.Status == 0

    def close(self) -> None:
        self.listener.stop()
        self.dispatcher.close()
        self.client.close()
        self.ledger.close()


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    system = System(tmp_path)
    with running(system.orthanc), running(system.redis):
        system.listener.start()
        system.turn()
        yield system
        system.close()


def data(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def headers(files: list[bytes]) -> list[Dataset]:
    return [dcmread(DicomBytesIO(content), stop_before_pixels=True) for content in files]


def begun(study: str) -> Dataset:
    scheduled = data(StudyInstanceUID=study_uid(study), ScheduledProcedureStepID="1")
    return data(PerformedProcedureStepStatus="IN PROGRESS", ScheduledStepAttributesSequence=[scheduled])


def made_of(files: list[bytes]) -> Dataset:
    """N-SET: one series of these images."""
    found = headers(files)
    images = [data(ReferencedSOPClassUID=CLASS, ReferencedSOPInstanceUID=each.SOPInstanceUID) for each in found]
    series = data(SeriesInstanceUID=found[0].SeriesInstanceUID, ReferencedImageSequence=images)
    return data(PerformedProcedureStepStatus="COMPLETED", PerformedSeriesSequence=[series])


def test_a_study_is_read_as_soon_as_all_that_its_step_made_is_here(system: System) -> None:
    files = study_files("a")
    system.say("create", MPPS, "1.5.1", begun("a"))
    system.say("set", MPPS, "1.5.1", made_of(files))
    system.send(files[:-1])
    system.turn(later_s=1)
    assert system.jobs() == []
    system.send(files[-1:])
    system.turn()
    (job,) = system.jobs()
    assert (job["state"], job["images"]) == ("pending", 16)
    assert "all 16 announced objects are here" in system.reasons("a")


def test_a_step_that_ends_after_its_images_holds_the_study_and_then_ends_the_wait(system: System) -> None:
    files = study_files("a")
    system.say("create", MPPS, "1.5.1", begun("a"))
    system.send(files)
    system.turn(later_s=120)
    assert system.jobs() == []
    system.say("set", MPPS, "1.5.1", made_of(files))
    system.turn()
    assert len(system.jobs()) == 1


def test_what_the_step_made_and_did_not_come_is_waited_for_and_then_told(system: System) -> None:
    files = study_files("a")
    system.say("create", MPPS, "1.5.1", begun("a"))
    system.say("set", MPPS, "1.5.1", made_of(files))
    system.send(files[:-3])
    system.turn(later_s=45)
    assert system.jobs() == []
    system.turn(later_s=20)
    assert [job["images"] for job in system.jobs()] == [13]
    assert "only 13 of 16 announced objects came, and no new image for 60.0 s" in system.reasons("a")


def test_a_notice_that_comes_after_the_images_ends_the_wait(system: System) -> None:
    files = study_files("a")
    system.send(files)
    system.turn(later_s=1)
    assert system.jobs() == []
    found = headers(files)
    images = [
        data(
            ReferencedSOPClassUID=CLASS, ReferencedSOPInstanceUID=each.SOPInstanceUID, InstanceAvailability="ONLINE",
            RetrieveAETitle="PACS",
        )
        for each in found
    ]  # fmt: skip
    series = data(SeriesInstanceUID=found[0].SeriesInstanceUID, ReferencedSOPSequence=images)
    told_of = data(StudyInstanceUID=study_uid("a"), ReferencedSeriesSequence=[series])
    system.say("create", IAN, "1.6.1", told_of)
    system.turn()
    assert len(system.jobs()) == 1


def test_a_foreign_modalitys_step_and_notice_are_understood(system: System) -> None:
    node = shutil.which("node", path=str(Path(sys.executable).parent)) or shutil.which("node")
    assert node is not None, "Node.js is missing: ./medai setup --test"
    image = {"ReferencedSOPClassUID": CLASS, "ReferencedSOPInstanceUID": "1.2.9.1"}
    performed = {"SeriesInstanceUID": "1.2.8", "ReferencedImageSequence": [image]}
    online = {**image, "ReferencedSOPInstanceUID": "1.2.9.2", "InstanceAvailability": "ONLINE"}
    begin = {
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "ScheduledStepAttributesSequence": [{"StudyInstanceUID": "1.2.3"}],
    }
    done = {"PerformedProcedureStepStatus": "COMPLETED", "PerformedSeriesSequence": [performed]}
    series = {"SeriesInstanceUID": "1.2.8", "ReferencedSOPSequence": [online]}
    notice = {"StudyInstanceUID": "1.2.3", "ReferencedSeriesSequence": [series]}
    wishes = [
        ("set", "1.5", done), ("create", "1.5", begin), ("create", "1.5", begin), ("set", "1.5", done),
        ("set", "1.5", done), ("notify", "1.6", notice), ("notify", "1.6", notice),
    ]  # fmt: skip
    ran = subprocess.run(
        [node, str(PEER), str(PACKAGES), "scu", str(system.settings.announcements.port), "MEDAI"],
        input=json.dumps(wishes), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    statuses = [hex(status) for status in json.loads(ran.stdout.splitlines()[-1])]
    assert statuses == ["0x112", "0x0", "0x111", "0x0", "0x110", "0x0", "0x111"]
    said = system.ledger.announcements.of_study("1.2.3")
    assert said.instances == {"mpps": {"1.2.9.1"}, "ian": {"1.2.9.2"}}
