"""Performed procedure steps with a peer that is not ours, dcmjs-dimse: the scanner reports to it, it reports to the RIS.

DCMTK has no tool for MPPS.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from servers import MockRis, free_port, make_ris, running

from medai.trials.scanner.scu import Peer
from medai.trials.scanner.sender import PerformedStep, Settings
from medai.trials.scanner.sources import stacked_ct
from medai.trials.scanner.volumes import Request, make_study, thinned
from medai.trials.study import Patient

PACKAGES = Path(sys.prefix) / "share" / "hl7-peer" / "node_modules"
PEER = Path(__file__).resolve().parents[1] / "peers" / "mpps_peer.mjs"
STEP = "1.2.840.99.1"


@pytest.fixture(scope="module")
def node() -> list[str]:
    """How the peer is run."""
    found = shutil.which("node", path=str(Path(sys.executable).parent)) or shutil.which("node")
    assert found is not None, "Node.js is missing: ./medai setup --test"
    assert (PACKAGES / "dcmjs-dimse").is_dir(), "dcmjs-dimse is missing: ./medai setup --test"
    return [found, str(PEER), str(PACKAGES)]


@contextmanager
def foreign_ris(node: list[str]) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    port = free_port()
    command = [*node, "scp", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            assert json.loads(process.stdout.readline()) == "ready"
            yield port, process
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # pip's node is a launcher, and leaves its child behind


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next request that the foreign RIS tells of; associations are left out."""
    assert process.stdout is not None
    while True:
        value: dict[str, Any] = json.loads(process.stdout.readline())
        if value.get("verb") != "associate":
            return value


@pytest.mark.parametrize("completed", [True, False])
def test_a_foreign_ris_understands_the_scanners_step(node: list[str], completed: bool) -> None:
    request = Request(
        patient=Patient(patient_id="P1", name="Muster^Anna", birth_date="19700131", sex="F"), accession="A1",
        study_uid="1.2.3.1", seed=f"foreign {completed}", acquired_at=datetime.now(UTC), scheduled_step_id="SPS1",
        requested_procedure_id="RP1", procedure="CT of the chest", performed=True,
    )  # fmt: skip
    series = make_study(thinned(stacked_ct(), every_nth=8, downsample=4), request, habits=("repeated_series",))
    scanner = Settings(name="CT1", modality="CT", images_per_s=1.0, pause_s=0.0)
    with foreign_ris(node) as (port, process):
        step = PerformedStep(Peer(host="127.0.0.1", port=port, calling_aet="CT1", timeout_s=10), scanner, request)
        step.begin()
        created = told(process)
        step.end(series, completed=completed)
        ended = told(process)
    assert (created["verb"], ended["verb"]) == ("create", "set")
    (referenced,) = series[0].images[0].ReferencedPerformedProcedureStepSequence
    assert created["uid"] == ended["uid"] == referenced.ReferencedSOPInstanceUID
    begun, done = created["attributes"], ended["attributes"]
    assert (begun["PerformedProcedureStepStatus"], begun["Modality"]) == ("IN PROGRESS", "CT")
    assert begun["PerformedStationAETitle"] == "CT1"
    (scheduled,) = begun["ScheduledStepAttributesSequence"]
    assert (scheduled["AccessionNumber"], scheduled["StudyInstanceUID"]) == ("A1", "1.2.3.1")
    assert (scheduled["RequestedProcedureID"], scheduled["ScheduledProcedureStepID"]) == ("RP1", "SPS1")
    assert done["PerformedProcedureStepStatus"] == ("COMPLETED" if completed else "DISCONTINUED")
    assert ("PerformedProcedureStepDiscontinuationReasonCodeSequence" in done) != completed
    assert [each["SeriesInstanceUID"] for each in done["PerformedSeriesSequence"]] == [
        each.images[0].SeriesInstanceUID for each in series
    ]
    assert [len(each["ReferencedImageSequence"]) for each in done["PerformedSeriesSequence"]] == [5, 5]


@pytest.fixture
def ris(tmp_path: Path) -> Iterator[MockRis]:
    made = make_ris(tmp_path)
    with running(made):
        made.post("/orders", {"accession": "A1", "patient_id": "P1", "modality": "CT", "study_uid": "1.2.3.1"})
        yield made


def attributes(**changes: Any) -> dict[str, Any]:
    """What a modality's N-CREATE holds."""
    return {
        "ScheduledStepAttributesSequence": [{"AccessionNumber": "A1", "StudyInstanceUID": "1.2.3.1"}],
        "PatientID": "P1",
        "PerformedProcedureStepID": "1",
        "PerformedStationAETitle": "DCMJS",
        "PerformedProcedureStepStartDate": "20260105",
        "PerformedProcedureStepStartTime": "090000",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "Modality": "CT",
        **changes,
    }


def asked(node: list[str], ris: MockRis, *wishes: tuple[str, str, dict[str, Any]]) -> list[int]:
    """The statuses that our RIS gives the foreign modality."""
    done = subprocess.run(
        [*node, "scu", str(ris.dicom_port), "MEDAI_RIS"], input=json.dumps(wishes), capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    statuses: list[int] = json.loads(done.stdout.splitlines()[-1])
    return statuses


def test_our_ris_understands_a_foreign_modalitys_step(node: list[str], ris: MockRis) -> None:
    images = [
        {"ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "ReferencedSOPInstanceUID": f"1.2.9.{n}"} for n in "12"
    ]
    performed = {"SeriesInstanceUID": "1.2.8", "ProtocolName": "x", "ReferencedImageSequence": images}
    done = {
        "PerformedProcedureStepStatus": "COMPLETED",
        "PerformedProcedureStepEndDate": "20260105",
        "PerformedProcedureStepEndTime": "091000",
        "PerformedSeriesSequence": [performed],
    }
    assert asked(node, ris, ("create", STEP, attributes()), ("set", STEP, done)) == [0, 0]
    (step,) = ris.get("/mpps")
    assert (step["status"], step["images"], step["station"]) == ("COMPLETED", 2, "DCMJS")
    (order,) = ris.get("/orders?accession=A1")
    assert order["step"] == "COMPLETED"


def test_our_ris_refuses_a_foreign_modality_what_the_standard_forbids(node: list[str], ris: MockRis) -> None:
    without_station = attributes()
    del without_station["PerformedStationAETitle"]
    statuses = asked(
        node, ris,
        ("create", STEP, without_station),
        ("set", STEP, {"PerformedProcedureStepStatus": "COMPLETED"}),
        ("create", STEP, attributes()),
        ("create", STEP, attributes()),
    )  # fmt: skip
    assert [hex(status) for status in statuses] == ["0x120", "0x112", "0x0", "0x111"]
