"""Handing over: everything into the ledger first, then into the archive, and never an error that costs a reading."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from dicom_cases import PLANTED, slice_of
from pydicom.dataset import Dataset

from medai.router.contract import Job, JobId, JobState, Measurement, OrthancId, StudyUID, control_id, orthanc_id
from medai.router.errors import LeaseLost, OrthancUnreachable, PermanentError
from medai.router.ledger import Claim
from medai.router.ledger.claims import Claims, Owed
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import RisSettings, Settings
from medai.workers import deliver
from medai.workers.deliver import kept, owed
from medai.workers.results.encode import Results
from medai.workers.results.identity import ResultUids

JOB_ID = "c8ff5465-a266-5718-87a2-912969aac335"
NUMBER = control_id(JOB_ID, "ris")
ORU = b"MSH|^~\\&|MEDAI\rPID|||" + PLANTED["mrn"].encode() + b"\r"
SETTINGS = Settings(ris=RisSettings(host="ris.example"), destinations={"pacs2": {"modality": "PACS2"}})
JOB = Job(
    job_id=JobId(JOB_ID), study_uid=StudyUID("1.2"), study_orthanc_id=OrthancId("o"), series_orthanc_ids=(),
    sources_hash="s", sources_count=1, route="r", model="m", model_version="1", destinations=("archive", "ris", "pacs2"),
)  # fmt: skip
CLAIM = Claim(job=JOB, token="t", created_at=0.0, give_up_from=0.0)


@dataclass
class FakeClaims:
    """Writes down what it is told, in order; ``lost`` makes the first word fail."""

    said: list[tuple[Any, ...]] = field(default_factory=list)
    lost: bool = False
    kept: dict[str, Any] = field(default_factory=dict)

    def keep(self, job_id: str, token: str, **values: Any) -> None:
        if self.lost:
            raise LeaseLost("lost")
        self.said.append(("keep", [item.kind for item in values["objects"]]))
        self.kept = values

    def hand_over(self, job_id: str, token: str, now: float, *, archived: bool = False) -> JobState:
        self.said.append(("hand over", archived))
        return JobState.DELIVERING


@dataclass
class FakeOrthanc:
    """Keeps what it is given, until it raises ``error``."""

    ledger: FakeClaims
    error: Exception | None = None

    def store_result(self, kind: str, data: bytes) -> None:
        assert data[128:132] == b"DICM"
        if self.error:
            raise self.error
        self.ledger.said.append(("store", kind))


def results() -> Results:
    objects: dict[str, Dataset] = {kind: slice_of(n, study="out") for n, kind in enumerate(("seg", "sr", "sc"))}
    one = Measurement(segment_number=1, segment_name="Brain", quantity="volume", value=1.0, unit="ml")
    return Results(objects=objects, oru=ORU, measurements=(one,), warnings=("note",), uids=ResultUids.of(JOB_ID))


def hand_over(ledger: FakeClaims, error: Exception | None = None) -> JobState:
    objects = deliver.keep(CLAIM, results(), claims=cast(Claims, ledger), settings=SETTINGS, now=7.0)
    orthanc = cast(Orthanc, FakeOrthanc(ledger, error))
    return deliver.hand_over(CLAIM, objects, orthanc=orthanc, claims=cast(Claims, ledger), clock=time.time)


def test_the_archive_comes_first_and_the_ris_last_with_the_message_and_its_number() -> None:
    assert owed(JOB, results(), SETTINGS) == [
        Owed(destination="archive"),
        Owed(destination="pacs2"),
        Owed(destination="ris", control_id=NUMBER, payload=ORU),
    ]


def test_nothing_is_owed_to_a_ris_that_is_not_configured_or_not_asked_for() -> None:
    only = [Owed(destination="archive")]
    assert owed(replace(JOB, destinations=("archive", "ris")), results(), Settings()) == only
    assert owed(replace(JOB, destinations=("archive",)), results(), SETTINGS) == only


def test_an_object_is_described_with_the_id_that_orthanc_will_give_it() -> None:
    image = slice_of(0, study="a", PatientID=" MRN7 ")
    told = kept("seg", image)
    uids = (str(image.StudyInstanceUID), str(image.SeriesInstanceUID), str(image.SOPInstanceUID))
    assert told.orthanc_id == orthanc_id("MRN7", *uids)
    assert (told.series_uid, told.sop_uid) == uids[1:]


def test_everything_is_kept_before_anything_is_sent() -> None:
    ledger = FakeClaims()
    assert hand_over(ledger) is JobState.DELIVERING
    stores = [("store", kind) for kind in ("seg", "sr", "sc")]
    assert ledger.said == [("keep", ["seg", "sr", "sc"]), *stores, ("hand over", True)]
    assert ledger.kept["measurements"][0].segment_name == "Brain"
    assert ledger.kept["warnings"] == ("note",)
    assert (ledger.kept["plausibility"]["verdict"], ledger.kept["plausibility"]["checks"]) == ("check", [])
    assert all(item.content[128:132] == b"DICM" for item in ledger.kept["objects"])


def test_a_job_that_is_no_longer_ours_sends_nothing() -> None:
    ledger = FakeClaims(lost=True)
    with pytest.raises(LeaseLost):
        hand_over(ledger)
    assert ledger.said == []


@pytest.mark.parametrize("error", [OrthancUnreachable("away"), PermanentError("the archive refused the SEG object")])
def test_an_archive_that_does_not_take_it_now_leaves_it_to_the_courier(error: Exception) -> None:
    ledger = FakeClaims()
    assert hand_over(ledger, error) is JobState.DELIVERING
    assert ledger.said[-1] == ("hand over", False)
