"""A scanner's habits arrive at a real Orthanc as they were meant; DCMTK's storescp and wlmscpfs are its other peers."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
import urllib3
from pydicom.uid import CTImageStorage
from pynetdicom import AE, evt
from servers import OrthancServer, Server, free_port, make_orthanc, running, wait_for

from medai.trials.clock import Clock
from medai.trials.scanner.scu import Peer, SendError
from medai.trials.scanner.sender import Sender, Sent, Settings
from medai.trials.scanner.sources import stacked_ct
from medai.trials.scanner.volumes import LATE_SLICES, Request, Template, make_study, thinned
from medai.trials.scanner.worklist import WORKLIST as WORKLIST_CLASS
from medai.trials.scanner.worklist import find_scheduled
from medai.trials.study import Patient, derive

SLICES = 20


@pytest.fixture(scope="module")
def template() -> Template:
    return thinned(stacked_ct(), every_nth=2, downsample=2)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    made = make_orthanc(tmp_path_factory.mktemp("orthanc"))
    with running(made):
        yield made


class Scan:
    """One study, sent with some habits."""

    def __init__(self, template: Template, peer: Peer, habits: Sequence[str], seed: str) -> None:
        self.uid = derive(seed, "study")
        request = Request(
            patient=Patient(patient_id="P1", name="A^B"), accession="A1", study_uid=self.uid, seed=seed,
            acquired_at=datetime.now(UTC),
        )  # fmt: skip
        self.series = make_study(template, request, habits=habits)
        self.events: list[tuple[str, str]] = []
        settings = Settings(name="CT1", modality="CT", images_per_s=1e6, pause_s=0.0, late_s=600.0)
        self.clock = Clock(accelerate=600.0)
        self.sender = Sender(peer, settings, habits, self.clock, lambda *told: self.events.append(told))

    def run(self) -> Sent:
        return self.sender.run(self.series)

    @property
    def images(self) -> int:
        return sum(len(each.images) for each in self.series)

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


def at(orthanc: OrthancServer) -> Peer:
    return Peer(host="127.0.0.1", port=orthanc.dicom_port, called_aet="ORTHANC", calling_aet="CT1", timeout_s=10)


def stored(orthanc: OrthancServer, uid: str) -> list[dict[str, Any]]:
    query = {"Level": "Instance", "Query": {"StudyInstanceUID": uid}, "Expand": True}
    found: list[dict[str, Any]] = urllib3.request("POST", f"{orthanc.url}/tools/find", json=query, timeout=20.0).json()
    return found


@pytest.mark.parametrize(
    "habits",
    [(), ("localizer",), ("localizer", "repeated_series"), ("aborted_association",), ("late_slices",), ("wrong_body_part",),
     ("missing_accession",), ("duplicate_send",), ("compressed",), ("association_per_image",), ("discontinued",),
     ("localizer", "aborted_association", "late_slices", "duplicate_send", "compressed")],
    ids=lambda habits: " ".join(habits) or "plain",
)  # fmt: skip
def test_every_image_arrives_once_whatever_the_habits(
    template: Template, orthanc: OrthancServer, habits: tuple[str, ...]
) -> None:
    scan = Scan(template, at(orthanc), habits, seed=f"arrives {habits}")
    sent = scan.run()
    assert len(stored(orthanc, scan.uid)) == sent.images == scan.images
    assert sent.refused == []
    assert scan.names()[0] == "first-image"
    assert sent.first_at <= sent.last_at


def test_a_broken_association_is_resumed(template: Template, orthanc: OrthancServer) -> None:
    scan = Scan(template, at(orthanc), ("aborted_association",), seed="broken")
    sent = scan.run()
    assert ("aborted", f"after {SLICES // 2} images") in scan.events
    assert sent.associations == 2


def test_late_slices_come_after_the_others_and_do_not_move_the_end(template: Template, orthanc: OrthancServer) -> None:
    scan = Scan(template, at(orthanc), ("late_slices",), seed="late")
    sent = scan.run()
    assert scan.events[-1] == ("late-slices", f"{LATE_SLICES} images")
    assert sent.images == SLICES
    assert scan.clock.began + scan.clock.now_s() - sent.last_at > 0.9, "600 hospital seconds at 600 times"


def test_an_association_for_each_image(template: Template, orthanc: OrthancServer) -> None:
    assert Scan(template, at(orthanc), ("association_per_image",), seed="each").run().associations == SLICES


def test_what_is_sent_twice_is_counted_once(template: Template, orthanc: OrthancServer) -> None:
    sent = Scan(template, at(orthanc), ("duplicate_send",), seed="twice").run()
    assert (sent.images, sent.resent) == (SLICES, SLICES)


def test_compressed_images_are_stored_as_they_are(template: Template, orthanc: OrthancServer) -> None:
    scan = Scan(template, at(orthanc), ("compressed",), seed="small")
    scan.run()
    syntax = str(scan.series[0].images[0].file_meta.TransferSyntaxUID)
    (one, *_) = stored(orthanc, scan.uid)
    kept = urllib3.request("GET", f"{orthanc.url}/instances/{one['ID']}/metadata/TransferSyntax", timeout=20.0)
    assert kept.data.decode() == syntax != "1.2.840.10008.1.2.1"


LEFT_OPEN = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""pynetdicom leaves its socket to the collector where nobody listens."""


@LEFT_OPEN
def test_an_archive_that_is_away_loses_nothing(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medai.trials.scanner.sender.AGAIN_S", 0.05)
    made = make_orthanc(tmp_path)
    scan = Scan(template, at(made), (), seed="away")
    results: list[Sent] = []
    thread = threading.Thread(target=lambda: results.append(scan.run()))
    with running(made):
        pass
    thread.start()
    wait_for(lambda: "archive-away" in scan.names(), what="a first try in vain")
    with running(made):
        thread.join(timeout=60)
        assert len(stored(made, scan.uid)) == results[0].images == SLICES
        assert results[0].resent > 0


@LEFT_OPEN
def test_a_trial_that_is_given_up_ends_the_tries(template: Template) -> None:
    port = free_port()
    scan = Scan(
        template, Peer(host="127.0.0.1", port=port, timeout_s=2), ("duplicate_send", "late_slices"), seed="gone"
    )
    scan.clock.stopped.set()
    sent = scan.run()
    assert (sent.images, len(sent.refused)) == (0, 1)
    assert f"127.0.0.1:{port} did not answer" in sent.refused[0]
    assert scan.names() == ["archive-away"], "nothing is said to be sent that was not"


@contextmanager
def answering(event: Any, context: str, handler: Any) -> Iterator[Peer]:
    """A pynetdicom server whose answers the test chooses."""
    entity = AE(ae_title="ANY")
    entity.add_supported_context(context)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(event, handler)])
    try:
        yield Peer(host="127.0.0.1", port=server.server_address[1], called_aet="ANY", timeout_s=10)
    finally:
        server.shutdown()


def test_an_image_that_the_archive_refuses_for_now_is_kept_and_sent_again(
    template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medai.trials.scanner.sender.AGAIN_S", 0.01)
    statuses, kept = iter([0x0000, 0xA700, 0xA700]), []

    def handle(event: Any) -> int:
        status = next(statuses, 0x0000)
        if status == 0:
            kept.append(str(event.request.AffectedSOPInstanceUID))
        return status

    with answering(evt.EVT_C_STORE, CTImageStorage, handle) as peer:
        scan = Scan(template, peer, (), seed="full")
        sent = scan.run()
    assert kept == [str(image.SOPInstanceUID) for each in scan.series for image in each.images], "in their order"
    assert (sent.images, sent.resent) == (SLICES, 2)
    assert ("archive-away", "C-STORE status 0xA700") in scan.events


def test_a_worklist_that_fails_is_not_taken_for_an_empty_one() -> None:
    def handle(event: Any) -> Iterator[tuple[int, None]]:
        yield 0xA700, None

    with answering(evt.EVT_C_FIND, WORKLIST_CLASS, handle) as ris, pytest.raises(SendError, match="0xA700"):
        find_scheduled(ris, patient_id="P1", accession="A1", modality="CT")


@contextmanager
def dcmtk(folder: Path, program: str, *options: str) -> Iterator[int]:
    port = free_port()
    server = Server(command=[program, *options, str(port)], folder=folder, port=port, environment={"TCP_NODELAY": "1"})
    with running(server):
        yield port


def test_dcmtks_storescp_takes_every_kind_of_image(template: Template, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with dcmtk(tmp_path, "storescp", "-aet", "ANY", "+xa", "-od", str(out)) as port:
        for habits in ((), ("compressed", "localizer")):
            scan = Scan(
                template, Peer(host="127.0.0.1", port=port, called_aet="ANY", timeout_s=10), habits, seed=str(habits)
            )
            assert scan.run().images == scan.images
    files = [path for path in out.iterdir() if path.is_file()]
    assert len(files) == 2 * SLICES + 3
    assert len({pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID for path in files}) == 2


WORKLIST = """
(0008,0005) CS [ISO_IR 192]
(0008,0050) SH [{accession}]
(0010,0010) PN [Muster^Anna]
(0010,0020) LO [P1]
(0020,000d) UI [1.2.3.{accession_number}]
(0032,1060) LO [CT of the chest]
(0040,1001) SH [RP{accession_number}]
(0040,0100) SQ
(fffe,e000) na
(0008,0060) CS [{modality}]
(0040,0001) AE [CT1]
(0040,0002) DA [20260105]
(0040,0003) TM [090000]
(0040,0007) LO [CT of the chest]
(0040,0009) SH [SPS{accession_number}]
(fffe,e00d) na
(fffe,e0dd) na
"""


def test_dcmtks_worklist_is_understood(tmp_path: Path) -> None:
    folder = tmp_path / "lists" / "RIS"
    folder.mkdir(parents=True)
    (folder / "lockfile").write_text("")
    for number, modality in ((1, "CT"), (2, "MR")):
        text = WORKLIST.format(accession=f"A{number}", accession_number=number, modality=modality)
        (tmp_path / "entry.txt").write_text(text)
        subprocess.run(
            ["dump2dcm", "-g", str(tmp_path / "entry.txt"), str(folder / f"{number}.wl")],
            check=True,
            capture_output=True,
        )
    with dcmtk(tmp_path, "wlmscpfs", "-dfp", str(tmp_path / "lists")) as port:
        ris = Peer(host="127.0.0.1", port=port, called_aet="RIS", calling_aet="CT1", timeout_s=10)
        found = find_scheduled(ris, patient_id="P1", accession="A1", modality="CT")
        assert found is not None
        assert (found.study_uid, found.requested_procedure_id, found.scheduled_step_id) == ("1.2.3.1", "RP1", "SPS1")
        assert found.procedure == "CT of the chest"
        assert find_scheduled(ris, patient_id="P1", accession="A2", modality="CT") is None, "that one is an MR"
