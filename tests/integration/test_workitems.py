"""A worklist asks for a reading: a real Orthanc, the router as it is built, and a worker, between scheduled and completed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_cases import study_files, study_uid
from hospital import ROUTE, Hospital, hospital_in
from pydicom import Dataset
from servers import wait_for
from ups_server import Item, UpsServer, ups_server

from medai.router.reports import readings


@pytest.fixture
def worklist() -> Iterator[UpsServer]:
    with ups_server(token="right") as there:
        yield there
    assert there.malformed == []


@pytest.fixture
def hospital(tmp_path: Path, worklist: UpsServer) -> Iterator[Hospital]:
    """Its route reads nothing by itself."""
    own = {
        "url": worklist.url, "token": "right", "poll_s": 0.2, "performer": "MEDAI",
        "routes": {"LUNGS^99HOSPITAL": "brain"},
    }  # fmt: skip
    with hospital_in(tmp_path, more={"routes": [{**ROUTE, "when": "false"}], "workitems": own}) as one:
        yield one


def ended(item: Item) -> str:
    """How the workitem ended, in time."""
    wait_for(lambda: item.state in ("COMPLETED", "CANCELED"), within_s=90, what="the end of the workitem")
    return item.state


def outputs(item: Item) -> dict[str, str]:
    """SOP Instance UIDs of the output, with their classes."""
    (done,) = item.said.UnifiedProcedureStepPerformedProcedureSequence
    references: list[Dataset] = [each for out in done.OutputInformationSequence for each in out.ReferencedSOPSequence]
    return {str(each.ReferencedSOPInstanceUID): str(each.ReferencedSOPClassUID) for each in references}


def in_archive(hospital: Hospital) -> dict[str, str]:
    """SOP Instance UID of every object of ours in the archive, with its class."""
    found = {}
    for series in hospital.orthanc.get("/series?expand"):
        for name in series["Instances"] if series["MainDicomTags"]["Modality"] in ("SEG", "SR", "OT") else ():
            tags = hospital.orthanc.get(f"/instances/{name}/simplified-tags")
            found[tags["SOPInstanceUID"]] = tags["SOPClassUID"]
    return found


def test_a_study_is_read_because_a_workitem_asks_for_it(hospital: Hospital, worklist: UpsServer) -> None:
    early = worklist.schedule("1.5.1", study_uid("asked"))
    other = worklist.schedule("1.5.2", study_uid("asked"), code=("HEART", "99HOSPITAL", "Heart"))
    hospital.send(study_files("asked"))
    assert ended(early) == "COMPLETED"
    assert early.states == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
    assert outputs(early) == in_archive(hospital)
    assert len(outputs(early)) == 3
    assert other.states == ["SCHEDULED"]
    (job,) = hospital.jobs("asked")
    assert job["route"] == "brain"
    late = worklist.schedule("1.5.3", study_uid("asked"))
    assert ended(late) == "COMPLETED"
    assert (outputs(late), len(hospital.jobs("asked"))) == (outputs(early), 1)


def test_a_reading_that_a_person_cancels_is_canceled_on_the_worklist(hospital: Hospital, worklist: UpsServer) -> None:
    hospital.paused.set()
    hospital.send(study_files("dropped"))
    item = worklist.schedule("1.5.1", study_uid("dropped"))
    (job,) = wait_for(lambda: hospital.jobs("dropped"), within_s=60, what="the reading")
    reasons = [each.reason for each in readings.decisions(hospital.ledger, study_uid=study_uid("dropped"))]
    assert any(reason.startswith("a workitem asks for it") for reason in reasons)
    hospital.ledger.actions.cancel(job["job_id"], "not wanted", time.time(), by="root")
    assert ended(item) == "CANCELED"
    assert outputs(item) == {}
