"""The worker's promises, on a real Orthanc, a real ledger and the mock RIS; only the model is a threshold."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import urllib3
from ball_model import BallModels
from dicom_cases import enhanced, slice_of, study_files, study_uid, to_bytes
from reading_cases import told
from servers import MockRis, OrthancServer, make_orthanc, make_ris, running

from medai.router.contract import JobState, Priority, sources_hash
from medai.router.delivery.courier import Courier
from medai.router.intake.facts import FactsReader
from medai.router.ledger import Ledger, NewJob
from medai.router.orthanc.client import Orthanc
from medai.router.queue.sweeper import LeaseWatch
from medai.router.reports import readings
from medai.router.settings.destinations import DicomDestination
from medai.router.settings.tables import Settings
from medai.workers.tasks import JobRunner


@dataclass
class Site:
    """A worker in this process, with its servers beside it."""

    orthanc: OrthancServer
    ris: MockRis
    ledger: Ledger
    runner: JobRunner
    models: BallModels

    def read(self, job_id: str) -> JobState | None:
        """Read a job, as a worker does, and deliver what it owes, as the router's courier does."""
        state = self.runner.read(job_id)
        self.deliver()
        return JobState(self.story(job_id)["state"]) if state is JobState.DELIVERING else state

    def deliver(self) -> int:
        """One round of a courier."""
        courier = Courier(self.runner.settings, self.ledger.deliveries, self.runner.orthanc)
        courier.park_unknown()
        return courier.round()

    def job(
        self, name: str, *, slices: int = 16, destinations: tuple[str, ...] = ("archive", "ris"), **changes: Any
    ) -> str:
        """Send a study and make its job, as the router would."""
        for data in study_files(name, slices=slices, **changes):
            self.orthanc.post(data)
        return self.order_reading(name, destinations)

    def order_reading(self, name: str, destinations: tuple[str, ...] = ("archive", "ris")) -> str:
        client = self.runner.orthanc
        (study,) = [
            s for s in client.studies(since=0, limit=100) if s["MainDicomTags"]["StudyInstanceUID"] == study_uid(name)
        ]
        view = FactsReader(client, self.ledger.orders, self.ledger.identities, self.ledger.deliveries).read(study["ID"])
        assert view is not None
        with self.ledger.begin() as db:
            self.ledger.studies.see(view.seen, at=time.time(), due_at=None, db=db)
        row = self.ledger.studies.find(study["ID"])
        assert row is not None
        series = view.facts.series[0].orthanc_id
        sops = [item["MainDicomTags"]["SOPInstanceUID"] for item in client.instances(series)]
        new = NewJob(
            study_id=row.id, study_uid=study_uid(name), route="brain", slot="", model="mr_brain", model_version="1",
            modality="MR", series=(series,), sources_hash=sources_hash(sops), sources_count=len(sops), queue="cpu",
            priority=Priority.ROUTINE, destinations=destinations, quiet_s=3.0,
        )  # fmt: skip
        return self.ledger.jobs.create(new, study=row, reason="test", now=time.time())[0]

    def story(self, job_id: str) -> dict[str, Any]:
        return told(readings.jobs(self.ledger, job_id=job_id)[0])

    def objects(self, name: str) -> dict[str, list[pydicom.Dataset]]:
        """What Orthanc holds of a study, by modality."""
        out: dict[str, list[pydicom.Dataset]] = {}
        for instance in self.orthanc.get("/instances"):
            data = urllib3.request("GET", f"{self.orthanc.url}/instances/{instance}/file").data
            dataset = pydicom.dcmread(BytesIO(data))
            if dataset.StudyInstanceUID == study_uid(name):
                out.setdefault(dataset.Modality, []).append(dataset)
        return out


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    orthanc, ris = make_orthanc(tmp_path / "orthanc"), make_ris(tmp_path / "ris")
    with running(orthanc), running(ris):
        settings = Settings(
            orthanc={"url": orthanc.url},
            ledger={"url": f"sqlite:///{tmp_path / 'ledger.sqlite'}"},
            ris={"host": "127.0.0.1", "port": ris.port, "timeout_s": 2.0, "processing_id": "T"},
            worker={"lease_s": 4.0, "retry_s": 0.1, "max_attempts": 2},
        )
        ledger = Ledger(settings.ledger.url)
        ledger.migrate()
        client, models = Orthanc(settings.orthanc), BallModels()
        runner = JobRunner(settings, orthanc=client, ledger=ledger, models=models, worker="test")
        yield Site(orthanc, ris, ledger, runner, models)
        client.close()
        ledger.close()


def test_a_job_leaves_seg_sr_and_key_image_in_the_archive_and_an_acknowledged_oru_at_the_ris(site: Site) -> None:
    job_id = site.job("a")
    assert site.read(job_id) is JobState.DONE
    objects = site.objects("a")
    assert {modality: len(items) for modality, items in objects.items()} == {"MR": 16, "SEG": 1, "SR": 1, "OT": 1}
    story = site.story(job_id)
    assert story["oru"]["ack"] == "AA"
    assert [s for s in ("fetch", "prepare", "infer", "encode", "store", "deliver") if s not in story["stages"]] == []
    (result,) = site.ris.get("/results")
    assert result["study_uid"] == study_uid("a")
    assert result["measurements"][0]["value"] == pytest.approx(story["measurements"][0]["value"])


def test_the_seg_in_the_archive_is_the_mask_voxel_for_voxel(site: Site) -> None:
    site.runner.read(site.job("a"))
    objects = site.objects("a")
    seg = objects["SEG"][0]
    images = sorted(objects["MR"], key=lambda image: float(image.ImagePositionPatient[2]))
    expected = np.stack([image.pixel_array > 400 for image in images])
    frames = np.zeros_like(expected)
    places = [float(image.ImagePositionPatient[2]) for image in images]
    for number, frame in enumerate(seg.PerFrameFunctionalGroupsSequence):
        z = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        frames[places.index(z)] = np.atleast_3d(seg.pixel_array.reshape(-1, 16, 16))[number] > 0
    assert np.array_equal(frames, expected)


def test_an_enhanced_object_is_read_and_its_mask_names_its_frames(site: Site) -> None:
    images = [slice_of(number, study="a") for number in range(16)]
    image = enhanced(images)
    site.orthanc.post(to_bytes(image))
    job_id = site.order_reading("a")
    assert site.read(job_id) is JobState.DONE
    objects = site.objects("a")
    assert {modality: len(items) for modality, items in objects.items()} == {"MR": 1, "SEG": 1, "SR": 1, "OT": 1}
    (seg,) = objects["SEG"]
    frames = seg.pixel_array.reshape(-1, 16, 16)
    drawn = {}
    for frame, mask in zip(seg.PerFrameFunctionalGroupsSequence, frames, strict=True):
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedSOPInstanceUID == image.SOPInstanceUID
        drawn[int(source.ReferencedFrameNumber)] = mask > 0
    for number, one in enumerate(images, start=1):
        wanted = np.frombuffer(one.PixelData, "<u2").reshape(16, 16) > 400
        assert np.array_equal(drawn.get(number, np.zeros_like(wanted)), wanted)
    assert site.ris.get("/results")[0]["study_uid"] == study_uid("a")


def test_a_message_that_comes_twice_does_nothing_the_second_time(site: Site) -> None:
    job_id = site.job("a")
    site.read(job_id)
    assert site.runner.read(job_id) is None
    assert site.models.model.calls == 1
    assert site.ris.get("/stats")["received"] == 1


def test_a_retry_after_a_crash_in_storing_leaves_each_object_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = site.job("a")
    real, calls = site.runner.orthanc.store, []

    def dies_after_one(data: bytes) -> dict[str, Any]:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("killed here")
        return real(data)

    monkeypatch.setattr(site.runner.orthanc, "store", dies_after_one)
    site.runner.read(job_id)
    assert site.story(job_id)["state"] == "delivering", "read: only what is owed is left"
    assert site.deliver() == 2
    assert site.story(job_id)["state"] == "done"
    assert site.models.model.calls == 1
    assert [len(site.objects("a")[m]) for m in ("SEG", "SR", "OT")] == [1, 1, 1]


def test_a_ris_that_is_away_costs_time_and_no_second_inference(site: Site) -> None:
    job_id = site.job("a")
    site.ris.kill()
    assert site.read(job_id) is JobState.DELIVERING
    assert "RIS" in site.story(job_id)["deliveries"][-1]["error"]
    assert len(site.objects("a")["SEG"]) == 1
    site.ris.start()
    time.sleep(2.1)
    assert site.deliver() == 1
    assert site.story(job_id)["state"] == "done"
    assert site.models.model.calls == 1


def test_an_archive_that_is_away_when_results_are_ready_costs_no_second_inference(site: Site) -> None:
    job_id = site.job("a")
    site.models.model.after = site.orthanc.kill
    assert site.read(job_id) is JobState.DELIVERING
    site.models.model.after = None
    site.orthanc.start()
    time.sleep(2.1)
    courier = Courier(site.runner.settings, site.ledger.deliveries, site.runner.orthanc)
    assert [courier.round(), courier.round()] == [2, 0], "the archive, then the RIS"
    assert site.story(job_id)["state"] == "done"
    assert [len(site.objects("a")[m]) for m in ("SEG", "SR", "OT")] == [1, 1, 1]
    assert site.models.model.calls == 1


def test_a_ris_that_refuses_ends_the_job_with_its_reason(site: Site) -> None:
    site.ris.post("/faults", {"kind": "ae", "count": 1})
    job_id = site.job("a")
    assert site.read(job_id) is JobState.FAILED
    assert "answered AE" in site.story(job_id)["reason"]
    (letter,) = site.ledger.dead.letters()
    assert letter.id == f"{job_id}/ris"
    assert site.ledger.dead.retry(letter, time.time())
    assert site.deliver() == 1
    assert site.story(job_id)["state"] == "done"
    assert site.ledger.dead.letters() == []


def test_a_late_slice_makes_a_superseding_revision(site: Site) -> None:
    first = site.job("a")
    site.read(first)
    second = site.job("a", slices=17)
    assert second != first
    assert site.read(second) is JobState.DONE
    reports_ = sorted(site.objects("a")["SR"], key=lambda sr: sr.SeriesNumber)
    assert len(reports_) == 2
    named = reports_[1].PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == reports_[0].SOPInstanceUID
    (result,) = site.ris.get("/results")
    assert [step["status"] for step in result["history"]] == ["P", "P"]


def test_bad_images_end_the_job_with_a_reason_and_the_next_study_is_read(site: Site) -> None:
    bad = site.job("bad", slices=8)
    for data in study_files("bad2", slices=8, spacing_mm=3.0)[:4] + study_files("bad2", slices=12)[9:]:
        site.orthanc.post(data)
    uneven = site.order_reading("bad2")
    good = site.job("good")
    assert site.read(bad) is JobState.DONE
    assert site.read(uneven) is JobState.FAILED
    assert "mm apart" in site.story(uneven)["reason"]
    assert site.read(good) is JobState.DONE


def test_an_error_of_ours_is_retried_then_ends_with_its_place_and_without_the_patient(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(volume: Any) -> Any:
        raise KeyError("Plantedname^Test")

    monkeypatch.setattr(site.models.model, "segment", breaks)
    job_id = site.job("a")
    assert site.runner.read(job_id) is JobState.PENDING
    time.sleep(0.15)
    assert site.read(job_id) is JobState.FAILED
    reason = site.story(job_id)["reason"]
    assert "KeyError at integration/test_worker.py" in reason
    assert "Planted" not in reason


@pytest.mark.apart
def test_a_job_that_is_taken_back_while_it_runs_stores_nothing(site: Site) -> None:
    site.models.model.seconds = 1.0
    job_id = site.job("a")
    thread = threading.Thread(target=site.runner.read, args=(job_id,))
    thread.start()
    time.sleep(0.5)
    for data in study_files("a", slices=17)[16:]:
        site.orthanc.post(data)
    second = site.order_reading("a")
    thread.join()
    assert "SEG" not in site.objects("a")
    assert site.read(second) is JobState.DONE
    assert len(site.objects("a")["SEG"]) == 1


@pytest.mark.apart
def test_a_lease_is_renewed_while_a_long_job_runs(site: Site) -> None:
    site.models.model.seconds = 5.0
    job_id = site.job("a")
    thread = threading.Thread(target=site.runner.read, args=(job_id,))
    thread.start()
    watch = LeaseWatch(site.runner.settings.worker.lease_s)
    while thread.is_alive():
        assert watch.silent(site.ledger.jobs.held()) == []
        time.sleep(0.2)
    assert site.story(job_id)["state"] == "delivering"


def test_a_second_dicom_node_gets_the_results_too(site: Site, tmp_path: Path) -> None:
    second = make_orthanc(tmp_path / "second")
    with running(second):
        peer = ["SECOND", "127.0.0.1", second.dicom_port]
        urllib3.request("PUT", f"{site.orthanc.url}/modalities/second", json=peer)
        site.runner.settings = site.runner.settings.model_copy(
            update={"destinations": {"pacs2": DicomDestination(modality="second")}}
        )
        job_id = site.job("a", destinations=("archive", "pacs2", "ris"))
        assert site.read(job_id) is JobState.DONE
        assert len(second.get("/instances")) == 3
    assert {item["destination"]: item["state"] for item in site.story(job_id)["deliveries"]} == {
        "archive": "done",
        "pacs2": "done",
        "ris": "done",
    }
