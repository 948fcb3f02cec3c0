"""``medai scan`` as a person calls it: a real Orthanc holds what it says it sent, the mock RIS what it reported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from servers import MockRis, OrthancServer, free_port, make_orthanc, make_ris, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    made = make_orthanc(tmp_path_factory.mktemp("orthanc"))
    with running(made):
        yield made


@pytest.fixture
def ris(tmp_path: Path) -> Iterator[MockRis]:
    made = make_ris(tmp_path / "ris")
    with running(made):
        yield made


def scan(root: Path, port: int, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, JSON and progress."""
    command = [sys.executable, "-m", "medai.router.cli", "scan", "--archive", f"127.0.0.1:{port}", "--json", "--pace", "0",
               "--pause", "0", "--modality", "CT", "--every-nth", "4", "--downsample", "2", *options]  # fmt: skip
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def stored(orthanc: OrthancServer, study: dict[str, Any]) -> list[dict[str, Any]]:
    query = {"Level": "Instance", "Query": {"StudyInstanceUID": study["study_uid"]}, "Expand": True}
    found: list[dict[str, Any]] = urllib3.request("POST", f"{orthanc.url}/tools/find", json=query, timeout=20.0).json()
    return found


def test_studies_of_people_who_do_not_exist_reach_the_archive(project_root: Path, orthanc: OrthancServer) -> None:
    code, told, progress = scan(
        project_root, orthanc.dicom_port, "--count", "2", "--habit", "localizer", "--habit", "late-slices",
        "--late-after", "0.1", "--habit", "compressed", "--seed", "two",
    )  # fmt: skip
    assert code == 0, progress
    assert told["ok"]
    assert [study["series"] for study in told["studies"]] == [{"localizer": 3, "main": 10}] * 2
    assert [len(stored(orthanc, study)) for study in told["studies"]] == [13, 13]
    assert "study 2: late-slices: 3 images" in progress
    again = scan(project_root, orthanc.dicom_port, "--count", "1", "--habit", "compressed", "--seed", "two")[1]
    assert again["studies"][0]["study_uid"] == told["studies"][0]["study_uid"], "the same seed, the same studies"


def test_the_worklist_is_worked_off_and_each_step_reported(
    project_root: Path, orthanc: OrthancServer, ris: MockRis
) -> None:
    for number, modality in ((1, "CT"), (2, "MR"), (3, "CT")):
        order = {"accession": f"W{number}", "patient_id": f"P{number}", "patient_name": "Muster^Anna",
                 "birth_date": "19700131", "modality": modality, "study_uid": f"1.2.3.{number}"}  # fmt: skip
        ris.post("/orders", order)
    code, told, progress = scan(
        project_root, orthanc.dicom_port, "--ris", f"127.0.0.1:{ris.dicom_port}", "--count", "3", "--aet", "CT1"
    )
    assert (code, told["ok"]) == (1, False), "the worklist has two of CT, three were asked for"
    assert "the worklist has no more CT studies" in progress
    assert {(study["accession"], study["scheduled"], study["step_reported"]) for study in told["studies"]} == {
        ("W1", True, True),
        ("W3", True, True),
    }
    assert {(step["status"], step["images"], step["station"]) for step in ris.get("/mpps")} == {
        ("COMPLETED", 10, "CT1")
    }
    for study in told["studies"]:
        tags = stored(orthanc, study)
        assert len(tags) == 10
        one = urllib3.request("GET", f"{orthanc.url}/instances/{tags[0]['ID']}/simplified-tags", timeout=20.0).json()
        assert (one["AccessionNumber"], one["PatientName"]) == (study["accession"], "Muster^Anna")
        assert one["ReferencedPerformedProcedureStepSequence"][0]["ReferencedSOPClassUID"] == "1.2.840.10008.3.1.2.3.3"


def test_an_archive_that_never_answers_ends_it_and_says_why(project_root: Path) -> None:
    port = free_port()
    code, told, progress = scan(project_root, port, "--give-up", "0", "--count", "5")
    assert (code, len(told["studies"])) == (1, 1), "the next study would fare no better"
    assert f"127.0.0.1:{port} did not answer" in told["studies"][0]["refused"][0]
    assert "archive-away" in progress
