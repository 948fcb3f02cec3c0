"""A study that goes to an AI outside without its patient, and its answer back: two real Orthancs, one of them theirs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pydicom
import pytest
import urllib3
from ball_model import BallModels
from dicom_cases import study_uid, to_bytes
from outside_cases import BIRTH, NAME, NUMBER, SECRETS, patient_slice, segmented
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from reading_cases import told
from servers import OrthancServer, make_orthanc, running

from medai.router.contract import JobState, Priority, sources_hash
from medai.router.hl7.patients import Patient
from medai.router.intake.facts import FactsReader
from medai.router.ledger import Ledger, NewJob
from medai.router.orthanc.client import Orthanc
from medai.router.reports import readings
from medai.router.settings.tables import Settings
from medai.workers.tasks import JobRunner

POLL_S, ANSWER_H = 20.0, 4.0


@dataclass
class Site:
    """A worker in this process, our archive, and the AI outside."""

    ours: OrthancServer
    theirs: OrthancServer
    ledger: Ledger
    runner: JobRunner
    late_s: float = 0.0

    def job(self, name: str, **changes: Any) -> str:
        """Send a study of the planted patient and make its reading, as the router would."""
        for index in range(4):
            self.ours.post(to_bytes(patient_slice(index + 6, study=name, **changes)))
        client = self.runner.orthanc
        (study,) = [each for each in client.studies(since=0, limit=100)
                    if each["MainDicomTags"]["StudyInstanceUID"] == study_uid(name)]  # fmt: skip
        view = FactsReader(client, self.ledger.orders, self.ledger.identities, self.ledger.deliveries).read(study["ID"])
        assert view is not None
        with self.ledger.begin() as db:
            self.ledger.studies.see(view.seen, at=time.time(), due_at=None, db=db)
        row = self.ledger.studies.find(study["ID"])
        assert row is not None
        series = view.facts.series[0].orthanc_id
        sops = [item["MainDicomTags"]["SOPInstanceUID"] for item in client.instances(series)]
        new = NewJob(
            study_id=row.id, study_uid=study_uid(name), route="away", slot="", model="theirs", model_version="outside",
            modality="MR", series=(series,), sources_hash=sources_hash(sops), sources_count=len(sops), queue="cpu",
            priority=Priority.ROUTINE, destinations=("archive",), quiet_s=3.0,
        )  # fmt: skip
        return self.ledger.jobs.create(new, study=row, reason="test", now=time.time())[0]

    def look(self, job_id: str, *, after_s: float = POLL_S + 1) -> JobState | None:
        """One attempt, some time later."""
        self.late_s += after_s
        return self.runner.read(job_id)

    def sent(self, job_id: str) -> list[Dataset]:
        """Send it; what the AI outside has of it then."""
        assert self.look(job_id) is JobState.PENDING
        exchange = self.ledger.outside.exchange(job_id)
        assert exchange is not None
        return [each for each in held(self.theirs) if exchange.study_uid == each.StudyInstanceUID]

    def reason(self, job_id: str) -> str:
        return str(told(readings.jobs(self.ledger, job_id=job_id)[0])["reason"])

    def fails_with(self, job_id: str, answer: Dataset) -> str:
        """Let the AI outside answer so; why the reading fails."""
        before = self.ours.get("/statistics")["CountInstances"]
        self.theirs.post(to_bytes(answer))
        assert self.look(job_id) is JobState.PENDING
        assert self.look(job_id) is JobState.FAILED
        assert self.ours.get("/statistics")["CountInstances"] == before
        reason = self.reason(job_id)
        assert not [each for each in SECRETS if each in reason.lower()]
        return reason


def held(server: OrthancServer) -> list[Dataset]:
    return [pydicom.dcmread(BytesIO(data)) for data in files(server)]


def files(server: OrthancServer) -> list[bytes]:
    return [urllib3.request("GET", f"{server.url}/instances/{name}/file").data for name in server.get("/instances")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("outside")
    ours, theirs = make_orthanc(folder / "ours"), make_orthanc(folder / "theirs")
    with running(ours), running(theirs):
        settings = Settings(
            orthanc={"url": ours.url},
            ledger={"url": f"sqlite:///{folder / 'ledger.sqlite'}"},
            worker={"lease_s": 4.0, "retry_s": 0.1},
            routes=[{"name": "away", "model": "theirs", "destinations": ["archive"]}],
            outside={"theirs": {"stow_url": f"{theirs.url}/dicom-web", "poll_s": POLL_S, "answer_h": ANSWER_H}},
        )
        ledger = Ledger(settings.ledger.url)
        ledger.migrate()
        client = Orthanc(settings.orthanc)
        runner = JobRunner(settings, orthanc=client, ledger=ledger, models=BallModels(), worker="test")
        made = Site(ours, theirs, ledger, runner)
        runner.clock = lambda: time.time() + made.late_s
        yield made
        client.close()
        ledger.close()


def test_a_study_goes_without_its_patient_and_its_segmentation_comes_back_under_the_patient(site: Site) -> None:
    job_id = site.job("good")
    images = site.sent(job_id)
    assert len(images) == 4
    assert not [each for data in files(site.theirs) for each in SECRETS if each.encode() in data.lower()]
    assert "waiting" in _waits(site, job_id)
    site.theirs.post(to_bytes(segmented(images)))
    assert site.look(job_id) is JobState.PENDING  # it may not be whole
    assert site.look(job_id) is JobState.DONE
    assert site.runner.read(job_id) is None
    (seg,) = [each for each in held(site.ours) if each.Modality == "SEG"]
    originals = {each.SOPInstanceUID for each in held(site.ours) if each.Modality == "MR"}
    assert (seg.PatientName, seg.PatientID, seg.PatientBirthDate) == (NAME, NUMBER, BIRTH)
    assert seg.StudyInstanceUID == study_uid("good")
    assert "PatientIdentityRemoved" not in seg
    assert seg.SeriesDescription == "theirs (outside AI): ball"
    referenced = {
        str(each.value) for each in seg.iterall() if each.keyword == "ReferencedSOPInstanceUID"
    }  # fmt: skip
    assert referenced == originals
    assert seg.pixel_array.sum() == segmented(images).pixel_array.sum()
    pseudonyms = site.ledger.outside.originals(job_id)
    data = to_bytes(seg)
    assert not [uid for uid in pseudonyms if uid.encode() in data]
    assert b"ANON-" not in data
    assert b"Stranger" not in data
    assert not site.ledger.verify_audit().faults
    site.theirs.post(to_bytes(segmented(images)))  # and again: nobody asks any more
    held_before = site.ours.get("/statistics")["CountInstances"]
    assert site.look(job_id) is None
    assert site.ours.get("/statistics")["CountInstances"] == held_before


def _waits(site: Site, job_id: str) -> str:
    assert site.look(job_id) is JobState.PENDING
    return site.reason(job_id)


def test_an_answer_that_refers_to_what_was_not_sent_is_not_taken(site: Site) -> None:
    job_id = site.job("forged")
    answer = segmented(site.sent(job_id))
    stranger = generate_uid()
    for element in answer.iterall():
        if element.keyword == "ReferencedSOPInstanceUID":
            element.value = stranger
    assert "refers to something that was not sent" in site.fails_with(job_id, answer)


def test_an_answer_that_refers_to_what_was_sent_of_another_patient_is_not_taken(site: Site) -> None:
    first, second = site.job("one"), site.job("two", PatientID="OTHER-1", PatientName="Other^One")
    images, others = site.sent(first), site.sent(second)
    answer = segmented(others)
    answer.StudyInstanceUID = images[0].StudyInstanceUID
    answer.PatientID = answer.PatientName = images[0].PatientID
    assert "refers to something that was not sent" in site.fails_with(first, answer)


def test_an_answer_that_names_a_patient_is_not_taken(site: Site) -> None:
    job_id = site.job("named")
    answer = segmented(site.sent(job_id), PatientID="MRN-OF-ANOTHER")
    assert "names another patient" in site.fails_with(job_id, answer)


def test_an_answer_of_another_kind_is_not_taken(site: Site) -> None:
    job_id = site.job("image")
    image = site.sent(job_id)[0]
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    assert "is no segmentation" in site.fails_with(job_id, image)


def test_no_answer_in_time_fails_the_reading_with_the_reason(site: Site) -> None:
    job_id = site.job("late")
    site.sent(job_id)
    assert site.look(job_id, after_s=ANSWER_H * 3600 + 1) is JobState.FAILED
    assert "did not answer within 4 h" in site.reason(job_id)


def test_a_study_that_may_not_leave_does_not_and_nothing_of_it(site: Site) -> None:
    before = site.theirs.get("/statistics")["CountInstances"]
    job_id = site.job("burned", BurnedInAnnotation="YES")
    assert site.look(job_id) is JobState.FAILED
    assert "can't be sent de-identified" in site.reason(job_id)
    assert site.theirs.get("/statistics")["CountInstances"] == before
    assert site.ledger.outside.exchange(job_id) is None


def test_an_answer_after_the_patient_was_erased_finds_no_way_back(site: Site) -> None:
    job_id = site.job("erased", PatientID="GONE-77")
    images = site.sent(job_id)
    assert site.ledger.outside.originals(job_id)
    site.ledger.actions.cancel(job_id, "the patient asks for it", time.time(), by="test")
    gone = Patient.of("GONE-77", "")
    found = site.ledger.erasure.erase(gone, {}, time.time(), updates={}, by="test", pseudonym="p1")
    assert (found.counts["pseudonyms"], found.counts["readings outside"]) == (7, 1)
    site.theirs.post(to_bytes(segmented(images)))
    before = site.ours.get("/statistics")["CountInstances"]
    assert site.look(job_id) is None
    assert site.ledger.outside.exchange(job_id) is None
    assert not site.ledger.outside.originals(job_id)
    assert site.ours.get("/statistics")["CountInstances"] == before
