"""Extra DICOM nodes as they are: Orthancs, and nodes that are full, away, silent, or lose what they took.

And a FHIR server that holds what the worker encoded, through faults, revisions and a withdrawal.
"""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
import urllib3
from ball_model import BallModel
from dicom_cases import PLANTED, study_files, study_uid
from fhir_server import FhirServer, fhir_server
from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance, Verification
from servers import OrthancServer, free_port, make_orthanc, running

from medai.router.cli import check
from medai.router.contract import Job, OrthancId, StudyUID, make_job_id
from medai.router.delivery import fhir
from medai.router.delivery.dicom_node import send
from medai.router.errors import DestinationUnreachable, FhirRefused, FhirUnreachable, PermanentError
from medai.router.orthanc.client import Orthanc
from medai.router.settings.destinations import DicomDestination, FhirDestination
from medai.router.settings.tables import OrthancSettings, Settings, WorkerSettings
from medai.workers.pipeline import prepare
from medai.workers.results.encode import Results, encode_all

SLICES = 3
NOT_THERE = 0x0112


class Node:
    """A DICOM node in this process. ``statuses`` answer the first C-STOREs, then all succeed.

    ``reports`` are what it says of storage commitments, one after the other: Failure Reasons for the first instances;
    None: it never reports.
    """

    def __init__(self, orthanc: OrthancServer, *, statuses: tuple[int, ...] = (), commitment: bool = True) -> None:
        self.orthanc = orthanc
        self.statuses = list(statuses)
        self.reports: list[tuple[int, ...] | None] = []
        self.action = 0x0000
        self.omits = 0
        self.taken: list[str] = []
        self.port = free_port()
        self._threads: list[threading.Thread] = []
        self._entity = AE(ae_title="NODE")
        self._entity.supported_contexts = AllStoragePresentationContexts
        self._entity.add_supported_context(Verification)
        if commitment:
            self._entity.add_supported_context(StorageCommitmentPushModel)

    @contextmanager
    def running(self) -> Iterator[Node]:
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._act)]
        server = self._entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        try:
            yield self
        finally:
            for thread in self._threads:
                thread.join()
            server.shutdown()

    def _store(self, event: Any) -> int:
        status = self.statuses.pop(0) if self.statuses else 0x0000
        if status == 0x0000:
            self.taken.append(str(event.request.AffectedSOPInstanceUID))
        return status

    def _act(self, event: Any) -> tuple[int, None]:
        report = self.reports.pop(0) if self.reports else ()
        if self.action == 0x0000 and report is not None:
            thread = threading.Thread(target=self._report, args=(event.action_information, report))
            self._threads.append(thread)
            thread.start()
        return self.action, None

    def _report(self, asked: Dataset, reasons: tuple[int, ...]) -> None:
        """N-EVENT-REPORT on an association of its own, as PS3.4 J.3.3 allows."""
        items = asked.ReferencedSOPSequence
        information = Dataset()
        information.TransactionUID = asked.TransactionUID
        information.ReferencedSOPSequence = list(items[len(reasons) + self.omits :])
        if reasons:
            information.FailedSOPSequence = list(items[: len(reasons)])
            for item, reason in zip(information.FailedSOPSequence, reasons, strict=True):
                item.FailureReason = reason
        entity = AE(ae_title="NODE")
        entity.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = entity.associate("127.0.0.1", self.orthanc.dicom_port, ae_title="ORTHANC", ext_neg=[role])
        association.send_n_event_report(
            information, 2 if reasons else 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        association.release()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    server = make_orthanc(tmp_path_factory.mktemp("archive"))
    with running(server):
        yield server


@pytest.fixture(scope="module")
def results(archive: OrthancServer) -> list[str]:
    """Instances that stand for a job's results."""
    return [str(archive.post(data)["ID"]) for data in study_files("results", slices=SLICES)]


@pytest.fixture
def client(archive: OrthancServer) -> Iterator[Orthanc]:
    client = Orthanc(OrthancSettings(url=archive.url))
    yield client
    client.close()


@pytest.fixture
def deliver(archive: OrthancServer, client: Orthanc, results: list[str]) -> Callable[..., str]:
    """Send the results to a port under the name "node"."""

    def to(port: int, *, aet: str = "NODE", **settings: Any) -> str:
        know(archive, "node", aet, port)
        return send(client, DicomDestination(modality="node", **settings), results)

    return to


def know(archive: OrthancServer, name: str, aet: str, port: int) -> None:
    urllib3.request("PUT", f"{archive.url}/modalities/{name}", json=[aet, "127.0.0.1", port])


def second_orthanc(folder: Path, archive: OrthancServer) -> OrthancServer:
    """It knows where to report to."""
    peers = {"archive": ["ORTHANC", "127.0.0.1", archive.dicom_port]}
    return make_orthanc(folder, DicomAet="SECOND", DicomModalities=peers)


def test_a_second_orthanc_takes_the_results_and_commits_them_also_when_they_are_sent_again(
    archive: OrthancServer, deliver: Callable[..., str], tmp_path: Path
) -> None:
    second = second_orthanc(tmp_path / "second", archive)
    with running(second):
        for _ in range(2):
            receipt = deliver(second.dicom_port, aet="SECOND", commitment="required")
            assert receipt == "C-STORE success, storage committed for 3 objects"
            assert len(second.get("/instances")) == SLICES


def test_a_second_orthanc_that_lost_an_object_says_so_and_gets_it_again(
    archive: OrthancServer, client: Orthanc, results: list[str], deliver: Callable[..., str], tmp_path: Path
) -> None:
    second = second_orthanc(tmp_path / "second", archive)
    with running(second):
        deliver(second.dicom_port, aet="SECOND")
        urllib3.request("DELETE", f"{second.url}/instances/{results[0]}")
        commitment = client.commit("node", results, timeout_s=5.0)
        assert (commitment.outcome, commitment.committed, commitment.failures) == ("failed", 2, {NOT_THERE: 1})
        assert "storage committed" in deliver(second.dicom_port, aet="SECOND")
        assert len(second.get("/instances")) == SLICES


def test_a_node_without_storage_commitment_counts_as_delivered_unless_it_is_required(
    archive: OrthancServer, deliver: Callable[..., str]
) -> None:
    with Node(archive, commitment=False).running() as node:
        assert deliver(node.port) == "C-STORE success, no storage commitment offered"
        assert deliver(node.port, commitment="off") == "C-STORE success"
        with pytest.raises(DestinationUnreachable, match="node offers no storage commitment"):
            deliver(node.port, commitment="required")
        assert len(node.taken) == 3 * SLICES


def test_a_node_that_is_full_is_tried_again_until_it_takes_the_results(
    archive: OrthancServer, deliver: Callable[..., str]
) -> None:
    with Node(archive, statuses=(0x0000, 0xA700)).running() as node:
        with pytest.raises(
            DestinationUnreachable, match=r"node refused an object with status 0xA700 \(out of resources\)"
        ):
            deliver(node.port)
        assert deliver(node.port) == "C-STORE success, storage committed for 3 objects"
        assert len(set(node.taken)) == SLICES


def test_a_reported_failure_sends_everything_again_and_the_next_report_counts(
    archive: OrthancServer, deliver: Callable[..., str]
) -> None:
    with Node(archive).running() as node:
        node.reports = [(NOT_THERE, 0x0110)]
        text = r"node commits 1 of 3 objects \(1 processing failure \(0x0110\), 1 not there \(0x0112\)\)"
        with pytest.raises(DestinationUnreachable, match=text):
            deliver(node.port)
        assert deliver(node.port) == "C-STORE success, storage committed for 3 objects"
        assert len(node.taken) == 2 * SLICES


def test_a_report_that_forgets_an_object_commits_nothing(archive: OrthancServer, deliver: Callable[..., str]) -> None:
    with Node(archive).running() as node:
        node.omits = 1
        with pytest.raises(DestinationUnreachable, match="node commits 2 of 3 objects$"):
            deliver(node.port)


def test_a_node_that_never_reports_counts_as_delivered_with_that_said_unless_it_is_required(
    archive: OrthancServer, deliver: Callable[..., str]
) -> None:
    with Node(archive).running() as node:
        node.reports = [None, None]
        receipt = deliver(node.port, commitment_timeout_s=0.3)
        assert receipt == "C-STORE success, no report on storage commitment within 0.3 s"
        with pytest.raises(DestinationUnreachable, match="does it know where to report to"):
            deliver(node.port, commitment="required", commitment_timeout_s=0.3)


def test_a_node_that_refuses_the_request_for_commitment_offers_none(
    archive: OrthancServer, deliver: Callable[..., str]
) -> None:
    with Node(archive).running() as node:
        node.action = 0x0110
        assert deliver(node.port) == "C-STORE success, no storage commitment offered"


def test_a_node_that_is_away_knows_another_name_or_no_such_objects_is_a_temporary_error_with_its_reason(
    archive: OrthancServer, deliver: Callable[..., str]
) -> None:
    with pytest.raises(DestinationUnreachable, match="node cannot be reached"):
        deliver(free_port())
    node = Node(archive)
    node._entity.require_called_aet = True
    with node.running(), pytest.raises(DestinationUnreachable, match="rejected the association: check the AE titles"):
        deliver(node.port, aet="WRONG")
    node = Node(archive)
    node._entity.supported_contexts = []
    node._entity.add_supported_context(Verification)
    with (
        node.running(),
        pytest.raises(DestinationUnreachable, match=r"accepts no objects of this kind \(SEG, SR or SC\)"),
    ):
        deliver(node.port)


def test_an_unknown_modality_and_results_that_are_gone_are_for_a_person(
    archive: OrthancServer, client: Orthanc, results: list[str]
) -> None:
    with pytest.raises(PermanentError, match="Orthanc has no modality 'nobody': add it to DicomModalities"):
        send(client, DicomDestination(modality="nobody"), results)
    gone = "aaaaaaaa-aaaaaaaa-aaaaaaaa-aaaaaaaa-aaaaaaaa"
    with Node(archive).running() as node:
        know(archive, "node", "NODE", node.port)
        with pytest.raises(PermanentError, match="no longer in the archive"):
            send(client, DicomDestination(modality="node"), [gone])
        with pytest.raises(PermanentError, match="nothing to send"):
            send(client, DicomDestination(modality="node"), [])


def test_check_says_whether_orthanc_knows_a_node_and_reaches_it(archive: OrthancServer) -> None:
    with Node(archive).running() as node:
        know(archive, "node", "NODE", node.port)
        know(archive, "away", "AWAY", free_port())
        named = {name: DicomDestination(modality=name) for name in ("node", "away", "nobody")}
        settings = Settings(orthanc={"url": archive.url}, destinations=named)
        found = {f.what: (f.level, f.text) for f in check.check(settings) if f.what.startswith("destination")}
    assert found["destination node"] == ("ok", "C-ECHO from Orthanc to node succeeds")
    assert found["destination away"][0] == "error"
    assert "no C-ECHO from Orthanc to away" in found["destination away"][1]
    assert found["destination nobody"] == ("error", "Orthanc has no modality 'nobody': add it to DicomModalities")


# -- FHIR


def read_study(destination: FhirDestination, *, slices: int = 16, revision: int = 1) -> Results:
    """What a worker makes of a study whose late slices make a revision."""
    images = [pydicom.dcmread(BytesIO(data)) for data in study_files("fhir", slices=slices)]
    stack = prepare(images, WorkerSettings(fetch_threads=1))
    job = Job(
        job_id=make_job_id(study_uid=study_uid("fhir"), sources=str(slices), route="brain", model="mr_brain", version="1"),
        study_uid=StudyUID(study_uid("fhir")), study_orthanc_id=OrthancId("o"), series_orthanc_ids=(OrthancId("s"),),
        sources_hash=str(slices), sources_count=slices, route="brain", model="mr_brain", model_version="1",
        revision=revision, destinations=("archive", "ehr"),
    )  # fmt: skip
    settings = Settings(destinations={"ehr": destination})
    created = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
    return encode_all(stack, BallModel().segment(stack.volume), job, settings, created_at=created)


@pytest.fixture
def ehr() -> Iterator[FhirServer]:
    with fhir_server(token="token-planted") as server:
        yield server


def test_a_fhir_server_holds_the_result_after_faults_and_a_second_delivery_changes_nothing(ehr: FhirServer) -> None:
    destination = FhirDestination(fhir_url=ehr.url, token="token-planted")
    results = read_study(destination)
    payload = results.fhir["ehr"]
    ehr.fault(503, Retry_After="3")
    with pytest.raises(FhirUnreachable) as caught:
        fhir.send(payload, destination, name="ehr")
    assert caught.value.retry_after_s == 3.0
    receipts = [fhir.send(payload, destination, name="ehr") for _ in range(2)]
    assert receipts == ["200, 8 resources"] * 2
    assert {len(versions) for versions in ehr.versions.values()} == {1}
    (report,) = ehr.of_kind("DiagnosticReport")
    values = [ehr.newest(item["reference"]).get("valueQuantity") for item in report["result"]]
    assert values[0]["value"] == results.measurements[0].value
    assert report["subject"]["identifier"]["value"] == PLANTED["mrn"]
    (selection,) = ehr.of_kind("ImagingSelection")
    assert selection["instance"][0]["uid"] == results.objects["seg"].SOPInstanceUID


def test_a_revision_replaces_the_report_and_its_withdrawal_marks_everything(ehr: FhirServer) -> None:
    destination = FhirDestination(fhir_url=ehr.url, token="token-planted")
    fhir.send(read_study(destination).fhir["ehr"], destination, name="ehr")
    addresses = set(ehr.versions)
    revised = read_study(destination, slices=17, revision=2).fhir["ehr"]
    fhir.send(revised, destination, name="ehr")
    assert {address.partition("/")[0] for address in set(ehr.versions) - addresses} == {"Provenance"}
    (report,) = ehr.of_kind("DiagnosticReport")
    assert report["status"] == "modified"
    fhir.send(fhir.withdrawn(revised, now=1.0, words="A reason."), destination, name="ehr")
    for kind in ("DiagnosticReport", "Observation", "ImagingSelection"):
        assert {item["status"] for item in ehr.of_kind(kind)} == {"entered-in-error"}
    (report,) = [item for address, item in ehr.versions.items() if address.startswith("DiagnosticReport/")]
    assert [version["status"] for version in report] == ["preliminary", "modified", "entered-in-error"]


def test_a_server_of_r4_holds_the_result_its_revision_and_its_withdrawal_and_takes_no_r5() -> None:
    with fhir_server(version="4.0.1") as server:
        destination = FhirDestination(fhir_url=server.url, version="R4")
        results = read_study(destination)
        fhir.send(results.fhir["ehr"], destination, name="ehr")
        (segment,) = [each for each in server.of_kind("Observation") if "identifier" in each]
        of_the_result = server.newest(segment["derivedFrom"][0]["reference"])
        assert of_the_result["series"][0]["instance"][0]["uid"] == results.objects["seg"].SOPInstanceUID
        revised = read_study(destination, slices=17, revision=2).fhir["ehr"]
        fhir.send(revised, destination, name="ehr")
        fhir.send(fhir.withdrawn(revised, now=1.0, words="A reason."), destination, name="ehr")
        (report,) = [item for address, item in server.versions.items() if address.startswith("DiagnosticReport/")]
        assert [version["status"] for version in report] == ["preliminary", "preliminary", "entered-in-error"]
        activities = [each["activity"]["coding"][0]["code"] for each in server.of_kind("Provenance")]
        assert activities == ["CREATE", "UPDATE", "NULLIFY"]
        other = FhirDestination(fhir_url=server.url)
        with pytest.raises(FhirRefused, match="422"):
            fhir.send(read_study(other).fhir["ehr"], other, name="ehr")


def test_a_wrong_token_waits_and_a_broken_bundle_is_refused_without_a_word_of_the_patient(ehr: FhirServer) -> None:
    wrong = FhirDestination(fhir_url=ehr.url, token="other")
    payload = read_study(wrong).fhir["ehr"]
    with pytest.raises(FhirUnreachable, match="answered 401: check its username and password, or token"):
        fhir.send(payload, wrong, name="ehr")
    right = FhirDestination(fhir_url=ehr.url, token="token-planted")
    broken = payload.replace(b'"status":"preliminary"', b'"stattus":"preliminary"')
    with pytest.raises(FhirRefused, match=r"refused the result with 422 \(structure\)$") as caught:
        fhir.send(broken, right, name="ehr")
    assert not any(text in str(caught.value) for text in PLANTED.values())
    assert ehr.versions == {}


def test_a_server_of_an_authority_of_the_hospitals_own_is_trusted_by_ca_file_alone(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=ehr"
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate))
    subprocess.run(["openssl", *options.split(), *names], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with fhir_server(tls=tls) as server:
        trusted = FhirDestination(fhir_url=server.url, ca_file=str(certificate))
        assert fhir.capability(trusted, name="ehr")["fhirVersion"] == "5.0.0"
        with pytest.raises(FhirUnreachable, match="TLS failed"):
            fhir.capability(FhirDestination(fhir_url=server.url), name="ehr")
