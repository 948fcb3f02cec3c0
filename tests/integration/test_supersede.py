"""What changes after a reading: images, patients, the study itself. Each with real Orthanc, Redis, RIS and router."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from dicom_cases import PLANTED, slice_of, study_files, study_uid, to_bytes
from hospital import Hospital, hospital_in
from servers import wait_for

from medai.router.reports import readings

MRN = PLANTED["mrn"]
SURVIVING = {
    "patient_id": "MRN-NEW", "prior_id": MRN, "patient_name": "Surviving^Test", "birth_date": PLANTED["birth"],
}  # fmt: skip
"""The images' patient, who has married since: what contradicts the images would wait for a person."""


@pytest.fixture
def hospital(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hospital]:
    with hospital_in(tmp_path, **getattr(request, "param", {})) as one:
        yield one


def test_a_deleted_study_is_withdrawn_and_one_that_comes_back_is_read_again(hospital: Hospital) -> None:
    hospital.send(study_files("a"))
    first = hospital.read("a")
    hospital.result("a", "P")
    hospital.delete("a")
    assert hospital.result("a", "P", "X")["withdrawn"]
    assert "1 result withdrawn" in readings.decisions(hospital.ledger, study_uid=study_uid("a"))[-1].reason
    hospital.send(study_files("a"))
    second = hospital.read("a", revision=2)
    assert second["results"]["seg"]["sop_uid"] != first["results"]["seg"]["sop_uid"]
    assert hospital.result("a", "P", "X", "P")["filler"]
    assert hospital.modalities("a") == ["MR", "OT", "SEG", "SR"]


def test_images_that_are_deleted_beside_their_results_take_them_along(hospital: Hospital) -> None:
    hospital.send(study_files("a"))
    hospital.read("a")
    hospital.result("a", "P")
    (images,) = [s["ID"] for s in hospital.orthanc.get("/series?expand") if s["MainDicomTags"]["Modality"] == "MR"]
    urllib3.request("DELETE", f"{hospital.orthanc.url}/series/{images}")
    hospital.send([to_bytes(slice_of(0, study="b"))])  # the archive goes on
    with (
        hospital.ledger.begin() as db
    ):  # Orthanc tells nobody of a deleted series: the study is looked at when it is due
        db.exec_driver_sql("UPDATE study SET due_at = 1 WHERE deleted_at IS NULL")
    hospital.result("a", "P", "X")
    wait_for(lambda: hospital.modalities("a") == [], what="their removal")


@pytest.mark.parametrize("hospital", [{"archive": {"OverwriteInstances": True}}], indirect=True)
def test_other_content_under_the_same_uids_makes_a_revision_and_the_same_content_does_not(hospital: Hospital) -> None:
    hospital.send(study_files("a"))
    hospital.read("a")
    hospital.send(study_files("a"))
    wait_for(lambda: "read before" in "".join(
        d.reason for d in readings.decisions(hospital.ledger, study_uid=study_uid("a"))), what="a decision")  # fmt: skip
    assert len(hospital.jobs("a")) == 1
    hospital.send(study_files("a", ProtocolName="repeated"))
    hospital.read("a", revision=2)
    assert hospital.result("a", "P", "P")
    assert hospital.models.model.calls == 2


def test_a_result_that_the_ris_has_not_taken_follows_its_patient(hospital: Hospital) -> None:
    hospital.ris.post("/faults", {"kind": "ar"})
    hospital.send(study_files("a"))
    wait_for(lambda: any(d["attempts"] for job in hospital.jobs("a") for d in job["deliveries"] if d["destination"] == "ris"),
             within_s=30, what="a first try")  # fmt: skip
    hospital.ris.post("/patients/merge", SURVIVING)
    wait_for(lambda: hospital.ledger.identities.aliases().targets, what="the merge")
    urllib3.request("DELETE", f"http://127.0.0.1:{hospital.ris.http_port}/faults")
    assert hospital.result("a", "P")["sent_patient_id"] == "MRN-NEW"
    hospital.send(study_files("b"))
    assert hospital.result("b", "P")["sent_patient_id"] == "MRN-NEW", "images still say the prior identifier"
    hospital.read("a")
    assert hospital.models.model.calls == 2


@pytest.mark.parametrize("hospital", [{"orthanc": {"follow_patient_updates": True}}], indirect=True)
def test_an_archive_that_follows_the_ris_moves_its_study_and_nothing_is_read_again(hospital: Hospital) -> None:
    hospital.send(study_files("a"))
    hospital.read("a")
    hospital.result("a", "P")
    hospital.ris.post("/patients/merge", SURVIVING)

    def patients() -> list[str]:
        return [p["MainDicomTags"]["PatientID"] for p in hospital.orthanc.get("/patients?expand")]

    wait_for(lambda: patients() == ["MRN-NEW"], within_s=60, what="the archive")
    wait_for(lambda: "another patient" in "".join(
        d.reason for d in readings.decisions(hospital.ledger, study_uid=study_uid("a"))), what="the ledger")  # fmt: skip
    time.sleep(3)
    assert [job["state"] for job in hospital.jobs("a")] == ["done"]
    assert hospital.result("a", "P")["patient_id"] == "MRN-NEW"
    assert hospital.modalities("a") == ["MR", "OT", "SEG", "SR"]
    assert hospital.models.model.calls == 1
    (job,) = hospital.jobs("a")
    there = {item["ID"] for item in hospital.orthanc.get("/instances?expand")}
    assert set(hospital.ledger.deliveries.result_ids(job["job_id"])) <= there, (
        "the ledger knows its objects under their new names"
    )
