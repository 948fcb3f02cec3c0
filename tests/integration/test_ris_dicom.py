"""Worklist and performed procedure steps of the mock RIS, asked by DCMTK and by the scanners of trials."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from servers import MockRis, make_ris, running

from medai.trials.scanner.scu import Peer, SendError
from medai.trials.scanner.sender import PerformedStep, Settings
from medai.trials.scanner.volumes import MPPS, Request, Series
from medai.trials.scanner.worklist import find_scheduled
from medai.trials.study import Patient

pytestmark = pytest.mark.slow

SCANNER = Settings(name="CT1", modality="CT", images_per_s=1.0, pause_s=0.0)
TODAY = datetime.now(UTC).astimezone().strftime("%Y%m%d")


@pytest.fixture
def ris(tmp_path: Path) -> Iterator[MockRis]:
    made = make_ris(tmp_path)
    with running(made):
        for number, (name, modality) in enumerate(
            [("Muster^Anna", "CT"), ("Müller^Jörg", "MR"), ("Mustermann^Max", "CT")], 1
        ):
            order = {"accession": f"A{number}", "patient_id": f"P{number}", "patient_name": name, "modality": modality,
                     "study_uid": f"1.2.3.{number}"}  # fmt: skip
            assert made.post("/orders", order)["accession"] == f"A{number}"
        yield made


def peer(ris: MockRis) -> Peer:
    return Peer(host="127.0.0.1", port=ris.dicom_port, called_aet="MEDAI_RIS", calling_aet="CT1", timeout_s=10)


def findscu(ris: MockRis, *keys: str) -> list[str]:
    """The accession numbers that DCMTK's findscu is told."""
    asked = [part for key in ("0008,0050", *keys) for part in ("-k", key)]
    command = ["findscu", "-W", "-v", "-aec", "MEDAI_RIS", *asked, "127.0.0.1", str(ris.dicom_port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    assert re.search(r"Received Final Find Response \(Success\)|Success", text), text
    return re.findall(r"\(0008,0050\) SH \[(\S+?)\s*\]", text.split("Request Identifiers", 1)[-1].split("W: ---")[0])


def answers(ris: MockRis, *keys: str) -> set[str]:
    return {each for each in findscu(ris, *keys) if re.fullmatch(r"A\d", each)}


def test_dcmtk_reaches_the_ris(ris: MockRis) -> None:
    subprocess.run(["echoscu", "-aec", "MEDAI_RIS", "127.0.0.1", str(ris.dicom_port)], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("keys", "accessions"),
    [
        ([], {"A1", "A2", "A3"}),
        (["0010,0010=Muster*"], {"A1", "A3"}),
        (["0010,0020=P2"], {"A2"}),
        (["0020,000d=1.2.3.3"], {"A3"}),
        (["(0040,0100)[0].Modality=MR"], {"A2"}),
        (["(0040,0100)[0].ScheduledProcedureStepStartDate={today}"], {"A1", "A2", "A3"}),
        (["(0040,0100)[0].ScheduledProcedureStepStartDate=20200101-20200102"], set()),
        (["0010,0020=nobody"], set()),
    ],
)
def test_dcmtk_finds_what_it_asks_for(ris: MockRis, keys: list[str], accessions: set[str]) -> None:
    assert answers(ris, *[key.format(today=TODAY) for key in keys]) == accessions


def request(number: int = 1) -> Request:
    return Request(
        patient=Patient(patient_id=f"P{number}", name="Muster^Anna"), accession=f"A{number}", study_uid=f"1.2.3.{number}",
        seed=f"step {number}", acquired_at=datetime.now(UTC),
    )  # fmt: skip


def series() -> Series:
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID, image.SeriesInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.9", "1.2.8"
    return Series(name="main", images=(image,))


def test_a_scanner_finds_its_study_begins_it_and_it_leaves_the_worklist(ris: MockRis) -> None:
    found = find_scheduled(peer(ris), patient_id="P1", accession="A1", modality="CT")
    assert found is not None
    assert (found.accession, found.study_uid) == ("A1", "1.2.3.1")
    assert found.scheduled_step_id.startswith("SPS")
    step = PerformedStep(peer(ris), SCANNER, request())
    step.begin()
    assert find_scheduled(peer(ris), patient_id="P1", accession="A1", modality="CT") is None
    assert answers(ris) == {"A2", "A3"}
    step.end([series()], completed=True)
    (kept,) = ris.get("/mpps")
    assert (kept["status"], kept["images"], kept["station"]) == ("COMPLETED", 1, "CT1")
    (order,) = ris.get("/orders?accession=A1")
    assert order["step"] == "COMPLETED"


def test_what_the_standard_forbids_is_refused(ris: MockRis) -> None:
    step = PerformedStep(peer(ris), SCANNER, request())
    step.begin()
    with pytest.raises(SendError, match="0x0111"):
        step.begin()
    step.end([series()], completed=False)
    with pytest.raises(SendError, match="0x0110"):
        step.end([series()], completed=True)
    with pytest.raises(SendError, match="0x0112"):
        PerformedStep(peer(ris), SCANNER, request(2)).end([series()], completed=True)
    assert [each["status"] for each in ris.get("/mpps")] == ["DISCONTINUED"]


def test_a_step_that_has_ended_says_with_an_error_id_why_it_stays(ris: MockRis) -> None:
    step = PerformedStep(peer(ris), SCANNER, request())
    step.begin()
    step.end([series()], completed=True)
    entity = AE(ae_title="CT1")
    entity.add_requested_context(MPPS)
    association = entity.associate("127.0.0.1", ris.dicom_port, ae_title="MEDAI_RIS")
    try:
        status, _ = association.send_n_set(step.ended([series()], completed=True), MPPS, step.uid)
    finally:
        association.release()
    assert (status.Status, status.ErrorID) == (0x0110, 0xA710)


def test_steps_and_reports_survive_a_restart(tmp_path: Path) -> None:
    made = make_ris(tmp_path)
    with running(made):
        placer = made.post("/orders", {"accession": "A1", "study_uid": "1.2.3.1", "modality": "CT"})["placer"]
        PerformedStep(peer(made), SCANNER, request()).begin()
        assert made.post("/reports", {"placer": placer, "text": "No bleed."})["number"] == 1
    with running(made):
        assert [each["status"] for each in made.get("/mpps")] == ["IN PROGRESS"]
        assert [each["text"] for each in made.get("/reports")] == ["No bleed."]


def test_without_its_port_the_ris_serves_no_dicom(tmp_path: Path) -> None:
    made = make_ris(tmp_path)
    at = made.command.index("--dicom-port")
    del made.command[at : at + 2]
    with running(made), socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", made.dicom_port)) != 0
