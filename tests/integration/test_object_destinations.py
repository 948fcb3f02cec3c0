"""Other forms, STOW-RS and rejection notes, from a reading in the ledger to foreign archives that hold what was sent.

A second Orthanc is DICOM node and DICOMweb server; a node of pynetdicom takes what a test lets it take, and dcmtk's
storescp writes what it gets to files.
"""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
import urllib3
from ball_model import BallModel
from dicom_cases import study_files, study_uid
from ledger_cases import T0, arrive, make
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    KeyObjectSelectionDocumentStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from servers import OrthancServer, answers, binary, free_port, make_orthanc, running, wait_for
from sqlalchemy import select, update

from medai.router.cli import check
from medai.router.contract import Form, JobId
from medai.router.delivery.courier import Courier
from medai.router.delivery.withdrawals import withdrawals
from medai.router.files.parcel import Parcel, unpack
from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.ledger.studies import SeriesSeen, StudySeen
from medai.router.orthanc.client import Orthanc
from medai.router.orthanc.recode import recode
from medai.router.reports import readings
from medai.router.settings.tables import OrthancSettings, Settings, WorkerSettings
from medai.workers import deliver
from medai.workers.pipeline import prepare
from medai.workers.results.encode import Results, encode_all

pytestmark = pytest.mark.slow

LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"
NOTE = str(KeyObjectSelectionDocumentStorage)
RESULTS = (SegmentationStorage, Comprehensive3DSRStorage, SecondaryCaptureImageStorage)
STUDY = "objects"


@dataclass
class Node:
    """A DICOM node that takes some kinds of objects in some transfer syntaxes, and keeps what it took."""

    kinds: Sequence[Any] = (*RESULTS, NOTE)
    syntaxes: Sequence[str] = (ExplicitVRLittleEndian,)
    status: int = 0x0000
    taken: list[Dataset] = field(default_factory=list)
    took_as: list[str] = field(default_factory=list)
    port: int = field(default_factory=free_port)

    @contextmanager
    def running(self) -> Iterator[Node]:
        entity = AE(ae_title="NODE")
        for kind in self.kinds:
            entity.add_supported_context(kind, list(self.syntaxes))
        server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        try:
            yield self
        finally:
            server.shutdown()

    def _store(self, event: Any) -> int:
        if self.status == 0x0000:
            self.taken.append(event.dataset)
            self.took_as.append(str(event.context.transfer_syntax))
        return self.status

    @property
    def notes(self) -> list[Dataset]:
        return [each for each in self.taken if each.SOPClassUID == NOTE]


class Site:
    """An archive, a ledger and a courier; workers' readings are made here."""

    def __init__(self, archive: OrthancServer, folder: Path, **destinations: Any) -> None:
        self.archive = archive
        self.settings = Settings(orthanc={"url": archive.url}, destinations=destinations)
        self.orthanc = Orthanc(OrthancSettings(url=archive.url))
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.ledger.migrate()
        self.now = T0
        self.courier = Courier(self.settings, self.ledger.deliveries, self.orthanc, clock=lambda: self.now)
        self._orthanc_study = ""

    def close(self) -> None:
        self.ledger.close()
        self.orthanc.close()

    def read(self, slices: int = 16) -> tuple[JobId, Results]:
        """A reading of so many slices; more of them make a revision."""
        files = study_files(STUDY, slices=slices)
        known = [self.archive.post(data) for data in files]
        self._orthanc_study = self._orthanc_study or str(known[0]["ParentStudy"])
        series = SeriesSeen(orthanc_id=str(known[0]["ParentSeries"]), series_uid="1", instances=slices, expected={})
        seen = StudySeen(
            study_uid=study_uid(STUDY), orthanc_id=self._orthanc_study, accession="A1", modality="MR", expected={},
            series=(series,), archive_update=str(slices), acquired_at=T0 - 600,
        )  # fmt: skip
        names = ("archive", *self.settings.destinations)
        self.now += 10
        study = arrive(self.ledger, seen, self.now)
        job_id, _ = make(self.ledger, study, self.now, sources=str(slices), count=slices, destinations=names)
        claim = self.ledger.claims.take(job_id, worker="w", lease_s=20, now=self.now)
        assert claim is not None
        stack = prepare([pydicom.dcmread(io.BytesIO(data)) for data in files], WorkerSettings(fetch_threads=1))
        results = encode_all(
            stack, BallModel().segment(stack.volume), claim.job, self.settings,
            created_at=datetime(2026, 1, 1, 12, 30, tzinfo=UTC),
        )  # fmt: skip
        claims = self.ledger.claims
        objects = deliver.keep(claim, results, claims=claims, settings=self.settings, now=self.now)
        deliver.hand_over(claim, objects, orthanc=self.orthanc, claims=claims, clock=lambda: self.now)
        return job_id, results

    def carry(self) -> int:
        self.now += 40
        return self.courier.round()

    def withdraw(self, job_id: JobId) -> list[str]:
        makers = withdrawals(self.settings, lambda: self.now)
        return self.ledger.actions.withdraw(job_id, "wrong side", self.now, withdrawn=makers, by="ana")

    def receipts(self, job_id: JobId) -> list[tuple[str, str]]:
        """Kind and receipt, or reason, of what went to others than the archive."""
        (found,) = readings.jobs(self.ledger, job_id=job_id)
        others = [each for each in found.deliveries if each.destination != "archive"]
        return [(each.kind, each.receipt or each.error) for each in others]


def listed(note: Dataset) -> set[str]:
    """What a rejection note rejects."""
    (study,) = note.CurrentRequestedProcedureEvidenceSequence
    return {
        item.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def uids(results: Results) -> set[str]:
    return {str(each.SOPInstanceUID) for each in results.objects.values()}


def stored_at(server: OrthancServer) -> dict[str, dict[str, Any]]:
    """Tags of what an Orthanc holds, by SOP Instance UID."""
    found = (server.get(f"/instances/{each}/simplified-tags") for each in server.get("/instances"))
    return {tags["SOPInstanceUID"]: tags for tags in found}


def know(archive: OrthancServer, node: Node) -> None:
    urllib3.request("PUT", f"{archive.url}/modalities/node", json=["NODE", "127.0.0.1", node.port])


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    with running(make_orthanc(tmp_path_factory.mktemp("archive"))) as server:
        yield server


@pytest.fixture
def site(archive: OrthancServer, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """With the destinations that a test's parameter names; its study is new to the archive."""
    for each in archive.get("/patients"):
        urllib3.request("DELETE", f"{archive.url}/patients/{each}")
    site = Site(archive, tmp_path, **request.param)
    yield site
    site.close()


plain = pytest.mark.parametrize("site", [{"node": {"modality": "node", "commitment": "off"}}], indirect=True)


@plain
def test_a_revision_is_followed_by_the_note_that_rejects_the_one_before_and_a_withdrawal_by_its_own(site: Site) -> None:
    with Node().running() as node:
        know(site.archive, node)
        first, one = site.read()
        assert site.carry() == 1
        assert site.receipts(first) == [("result", "C-STORE success")]
        assert {each.SOPInstanceUID for each in node.taken} == uids(one)
        second, two = site.read(17)
        assert site.carry() == 1
        assert site.receipts(second) == [("result", "C-STORE success; 1 rejection note for earlier revisions")]
        *objects, note = node.taken[3:]
        assert {each.SOPInstanceUID for each in objects} == uids(two)
        assert listed(note) == uids(one)
        assert (note.PatientID, note.StudyInstanceUID) == (objects[0].PatientID, objects[0].StudyInstanceUID)
        assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
        assert site.withdraw(second) == ["archive", "node"]
        site.carry()
        assert site.receipts(second)[-1] == ("withdrawal", "2 rejection notes")
        assert [listed(each) for each in node.notes[1:]] == [uids(two), uids(one)]
        assert node.notes[2] == note


@plain
def test_a_node_that_is_away_when_a_result_is_withdrawn_hears_of_it_when_it_is_back(site: Site) -> None:
    with Node().running() as node:
        know(site.archive, node)
        job_id, results = site.read()
        site.carry()
    site.withdraw(job_id)
    site.carry()
    assert "node cannot be reached" in site.receipts(job_id)[-1][1]
    with node.running():
        site.carry()
    assert site.receipts(job_id)[-1] == ("withdrawal", "1 rejection note")
    assert listed(node.taken[-1]) == uids(results)


@plain
def test_a_node_that_takes_no_notes_gets_its_revisions_and_a_withdrawal_there_needs_a_person(site: Site) -> None:
    with Node(kinds=RESULTS).running() as node:
        know(site.archive, node)
        site.read()
        site.carry()
        second, _ = site.read(17)
        assert site.carry() == 1
        text = "C-STORE success; it takes no rejection notes, and shows earlier revisions beside this one"
        assert site.receipts(second) == [("result", text)]
        site.withdraw(second)
        site.carry()
        assert "takes no rejection notes (Key Object Selection): remove the old result" in site.receipts(second)[-1][1]
        (letter,) = site.ledger.dead.letters()
        assert site.ledger.dead.retry(letter, site.now, by="ana")
        node.kinds = (*RESULTS, NOTE)
    with node.running():
        site.carry()
    assert len(node.notes) == 2


@pytest.mark.parametrize(
    "site", [{"node": {"modality": "node", "commitment": "off", "rejection_notes": False}}], indirect=True
)
def test_a_node_that_wants_no_notes_is_told_nothing(site: Site) -> None:
    with Node().running() as node:
        know(site.archive, node)
        site.read()
        site.carry()
        second, _ = site.read(17)
        site.carry()
        assert site.receipts(second) == [("result", "C-STORE success")]
        assert site.withdraw(second) == ["archive"]
        site.carry()
    assert len(node.taken) == 6
    assert node.notes == []


@plain
def test_a_result_that_is_withdrawn_half_way_is_not_sent_on_but_rejected(site: Site) -> None:
    node = Node(kinds=(SegmentationStorage, NOTE))
    with node.running():
        know(site.archive, node)
        job_id, results = site.read()
        assert site.carry() == 0
        assert site.withdraw(job_id) == ["archive", "node"]
        site.carry()
        site.carry()
    assert site.receipts(job_id) == [
        ("result", "not sent: withdrawn before it was there"), ("withdrawal", "1 rejection note"),
    ]  # fmt: skip
    assert listed(node.taken[-1]) == uids(results)
    assert site.ledger.dead.letters() == []


@plain
def test_a_note_names_the_patient_under_whom_the_objects_were_sent(site: Site) -> None:
    """A merge before delivery moves the note with the archive's objects; one after it leaves the note as it was."""
    with Node().running() as node:
        know(site.archive, node)
        job_id, _ = site.read()
        move(site, "MERGED-1")
        site.carry()
        assert {each.PatientID for each in node.taken} == {"MERGED-1"}
        move(site, "MERGED-2")
        site.withdraw(job_id)
        site.carry()
        assert [each.PatientID for each in node.notes] == ["MERGED-1"]


def move(site: Site, patient_id: str) -> None:
    old = site._orthanc_study
    site._orthanc_study = recode(site.orthanc, old, {"PatientID": patient_id}, 60.0)
    assert site.ledger.removals.study_moved(old, site._orthanc_study, patient_id)


@plain
def test_a_study_that_is_deleted_withdraws_its_newest_result_at_the_node(site: Site) -> None:
    with Node().running() as node:
        know(site.archive, node)
        _, one = site.read()
        site.carry()
        _, two = site.read(17)
        site.carry()
        site.ledger.removals.study_removed(
            site._orthanc_study, site.now, within_s=3600.0, withdrawn=withdrawals(site.settings, lambda: site.now)
        )
        site.carry()
        assert [listed(each) for each in node.notes] == [uids(one), uids(two), uids(one)]


@plain
def test_a_ledger_of_the_version_before_has_no_notes_and_everything_else_goes_on(site: Site) -> None:
    with Node().running() as node:
        know(site.archive, node)
        site.read()
        forget_parcels(site)
        site.carry()
        second, _ = site.read(17)
        forget_parcels(site)
        site.carry()
        assert site.receipts(second) == [("result", "C-STORE success")]
        assert site.withdraw(second) == ["archive"]
        site.carry()
        site.ledger.removals.study_removed(
            site._orthanc_study, site.now, within_s=3600.0, withdrawn=withdrawals(site.settings, lambda: site.now)
        )
        site.carry()
    assert (len(node.taken), node.notes) == (6, [])


def forget_parcels(site: Site) -> None:
    with site.ledger.begin() as db:
        db.execute(update(t.deliveries).values(payload=None))


@pytest.mark.parametrize(
    "site", [{"node": {"modality": "node", "commitment": "off", "results": ["seg-deflated", "sr"]}}], indirect=True
)
def test_a_deflated_seg_goes_as_such_or_as_the_node_takes_it(site: Site) -> None:
    node = Node(syntaxes=(DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian))
    with node.running():
        know(site.archive, node)
        _, one = site.read()
        assert site.carry() == 1
    taken = {str(each.SOPClassUID): how for each, how in zip(node.taken, node.took_as, strict=True)}
    assert taken == {
        SegmentationStorage: DeflatedExplicitVRLittleEndian,
        Comprehensive3DSRStorage: ExplicitVRLittleEndian,
    }
    implicit = Node(syntaxes=(ImplicitVRLittleEndian,), port=node.port)
    with implicit.running():
        _, two = site.read(17)
        assert site.carry() == 1
        assert set(implicit.took_as) == {ImplicitVRLittleEndian}
        segs = [each for each in implicit.taken if each.SOPClassUID == SegmentationStorage]
        assert [each.PixelData for each in segs] == [two.objects["seg"].PixelData]
        assert listed(implicit.notes[0]) == {str(one.objects[kind].SOPInstanceUID) for kind in ("seg", "sr")}


FORMS = ["labelmap", "sr", "rtstruct"]
EVERY = [*FORMS, "seg-deflated", "sc", "overlay", "gsps", "pdf"]


@pytest.mark.parametrize("site", [{"second": {"modality": "second", "results": EVERY}}], indirect=True)
def test_forms_that_the_archive_does_not_hold_are_passed_on_committed_and_rejected_and_then_forgotten(
    site: Site, tmp_path: Path
) -> None:
    peers = {"archive": ["ORTHANC", "127.0.0.1", site.archive.dicom_port]}
    with running(make_orthanc(tmp_path / "second", DicomAet="SECOND", DicomModalities=peers)) as second:
        urllib3.request("PUT", f"{site.archive.url}/modalities/second", json=["SECOND", "127.0.0.1", second.dicom_port])
        job_id, _ = site.read()
        packed = kept(site, job_id)
        assert set(packed.forms) == {Form.LABELMAP, Form.RTSTRUCT, Form.OVERLAY, Form.GSPS, Form.PDF}
        move(site, "MERGED-1")
        site.carry()
        # the page shows the patient's old name
        assert site.receipts(job_id) == [("result", "C-STORE success, storage committed for 7 objects; without pdf")]
        held = stored_at(second)
        assert sorted(tags["Modality"] for tags in held.values()) == ["OT", "OT", "PR", "RTSTRUCT", "SEG", "SEG", "SR"]
        assert {tags["PatientID"] for tags in held.values()} == {"MERGED-1"}
        left = kept(site, job_id)
        assert (left.forms, left.note is not None) == ({}, True)
        site.withdraw(job_id)
        site.carry()
        (note,) = [pydicom.dcmread(io.BytesIO(each)) for each in [left.note or b""]]
        assert listed(note) > held.keys()
        assert stored_at(second)[note.SOPInstanceUID]["PatientID"] == "MERGED-1"


@pytest.mark.parametrize("site", [{"web": {"stow_url": "http://127.0.0.1:1", "results": EVERY}}], indirect=True)
def test_a_dicomweb_server_takes_every_form(site: Site, tmp_path: Path) -> None:
    with running(make_orthanc(tmp_path / "web")) as second:
        address = {"web": {"stow_url": f"{second.url}/dicom-web", "results": EVERY}}
        site.settings = Settings(orthanc={"url": site.archive.url}, destinations=address)
        site.courier = Courier(site.settings, site.ledger.deliveries, site.orthanc, clock=lambda: site.now)
        job_id, _ = site.read()
        site.carry()
        assert site.receipts(job_id) == [("result", "200, 8 objects")]
        note = pydicom.dcmread(io.BytesIO(kept(site, job_id).note or b""))
        assert stored_at(second).keys() == listed(note)


def kept(site: Site, job_id: JobId) -> Parcel:
    with site.ledger.begin(reads_only=True) as db:
        mine = (t.deliveries.c.job_id == job_id, t.deliveries.c.destination != "archive")
        return unpack(db.execute(select(t.deliveries.c.payload).where(*mine)).scalar())


@pytest.mark.parametrize("site", [{"node": {"modality": "node", "results": FORMS}}], indirect=True)
def test_a_form_that_the_node_does_not_take_is_named_and_waits_until_it_does(site: Site) -> None:
    node = Node(kinds=RESULTS, syntaxes=(ExplicitVRLittleEndian, ImplicitVRLittleEndian))
    with node.running():
        know(site.archive, node)
        job_id, _ = site.read()
        assert site.carry() == 0
        reason = site.receipts(job_id)[0][1]
        assert reason == "DICOM destination node accepts no objects of this kind (labelmap): allow them there"
    node.kinds = (*RESULTS, LABELMAP, RTStructureSetStorage)
    with node.running():
        assert site.carry() == 1, site.receipts(job_id)
    assert {str(each.SOPClassUID) for each in node.taken[1:]} == {
        Comprehensive3DSRStorage,
        LABELMAP,
        RTStructureSetStorage,
    }


def test_storescp_of_dcmtk_takes_results_and_notes(archive: OrthancServer, tmp_path: Path) -> None:
    folder, port = tmp_path / "taken", free_port()
    folder.mkdir()
    command = [binary("storescp"), "--aetitle", "NODE", "--output-directory", str(folder), "--promiscuous", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    site = Site(archive, tmp_path, node={"modality": "node", "results": ["seg-deflated", "sr", "sc"]})
    try:
        wait_for(lambda: answers(port), what="storescp")
        know(archive, Node(port=port))
        job_id, results = site.read()
        assert site.carry() == 1
        assert site.receipts(job_id) == [("result", "C-STORE success, no storage commitment offered")]
        site.withdraw(job_id)
        site.carry()
        files = [pydicom.dcmread(each) for each in folder.iterdir()]
        assert {each.SOPInstanceUID for each in files if each.SOPClassUID != NOTE} == uids(results)
        (note,) = [each for each in files if each.SOPClassUID == NOTE]
        assert listed(note) == uids(results)
    finally:
        server.terminate()
        server.wait()
        site.close()


@pytest.mark.parametrize("site", [{"second": {"modality": "second", "commitment": "required"}}], indirect=True)
def test_a_second_orthanc_holds_results_and_notes_and_commits_what_the_archive_only_passed_on(
    site: Site, tmp_path: Path
) -> None:
    peers = {"archive": ["ORTHANC", "127.0.0.1", site.archive.dicom_port]}
    with running(make_orthanc(tmp_path / "second", DicomAet="SECOND", DicomModalities=peers)) as second:
        urllib3.request("PUT", f"{site.archive.url}/modalities/second", json=["SECOND", "127.0.0.1", second.dicom_port])
        job_id, results = site.read()
        site.carry()
        assert site.receipts(job_id) == [("result", "C-STORE success, storage committed for 3 objects")]
        site.withdraw(job_id)
        site.carry()
        held = stored_at(second)
        assert uids(results) < held.keys()
        (note,) = [tags for uid, tags in held.items() if uid not in uids(results)]
        assert note["Modality"] == "KO"


def test_a_dicomweb_server_holds_what_it_is_sent_through_an_outage_a_revision_and_a_withdrawal(
    archive: OrthancServer, tmp_path: Path
) -> None:
    second = make_orthanc(tmp_path / "web")
    site = Site(
        archive, tmp_path, web={"stow_url": f"{second.url}/dicom-web/", "results": ["seg-deflated", "sr", "sc"]}
    )
    try:
        first, one = site.read()
        assert site.carry() == 0
        assert "the DICOMweb server web at 127.0.0.1" in site.receipts(first)[0][1]
        assert "does not answer" in site.receipts(first)[0][1]
        with running(second):
            assert site.carry() == 1
            assert site.receipts(first) == [("result", "200, 3 objects")]
            assert stored_at(second).keys() == uids(one)
            syntaxes = {urllib3.request("GET", f"{second.url}/instances/{each}/metadata/TransferSyntax").data
                        for each in second.get("/instances")}  # fmt: skip
            assert DeflatedExplicitVRLittleEndian.encode() in syntaxes
            job_id, two = site.read(17)
            site.carry()
            assert site.receipts(job_id) == [("result", "200, 3 objects; 1 rejection note for earlier revisions")]
            site.withdraw(job_id)
            site.carry()
            assert site.receipts(job_id)[-1] == ("withdrawal", "2 rejection notes")
            held = stored_at(second)
            notes = [tags for tags in held.values() if tags["Modality"] == "KO"]
            assert held.keys() > uids(one) | uids(two)
            assert len(notes) == 2
            found = check.check(site.settings)
            assert [each.text for each in found if each.what == "destination web"] == ["DICOMweb answers"]
    finally:
        site.close()
