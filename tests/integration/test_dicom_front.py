"""The relay before a real Orthanc, attacked as a stranger on the network can: a scanner goes on storing meanwhile."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from dicom_cases import slice_of, study_files
from pynetdicom import AE
from servers import OrthancServer, Server, binary, free_port, make_orthanc, running, wait_for

from medai.router.settings.dicom_in import DicomFrontSettings, DicomInSettings, DicomSender

MR = "1.2.840.10008.5.1.4.1.1.4"
IDLE = 1_000
TOML = """\
[dicom_in.front]
port = {port}
archive_port = {archive}
spare_after_s = 2.0
[[dicom_in.senders]]
ae_title = "CT1"
host = "127.0.0.1"
[[dicom_in.senders]]
ae_title = "MR 1"
host = "127.0.0.9"
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """An archive, and the relay before it as a process of its own."""

    archive: OrthancServer
    relay: Server

    @property
    def stored(self) -> int:
        return int(self.archive.get("/statistics")["CountInstances"])

    @property
    def memory_kib(self) -> int:
        assert self.relay.process
        status = Path(f"/proc/{self.relay.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("front")
    senders = tuple(
        DicomSender(ae_title=name, host=host) for name, host in (("CT1", "127.0.0.1"), ("MR 1", "127.0.0.9"))
    )
    port = free_port()
    told = DicomInSettings(senders=senders, front=DicomFrontSettings(port=port)).orthanc()
    archive = make_orthanc(folder / "orthanc", **told)
    (folder / "medai.toml").write_text(TOML.format(port=port, archive=archive.dicom_port))
    command = [sys.executable, "-P", "-m", "medai.router.cli", "dicom-front", "--config", str(folder / "medai.toml")]
    relay = Server(command=command, folder=folder, port=port, environment={})
    with running(archive), running(relay):
        yield Place(archive=archive, relay=relay)


def answer(port: int, *, calling: str = "CT1", called: str = "ORTHANC", by: str = "127.0.0.1") -> str:
    """What is said to who asks for an association: accepted, or by whom and why not."""
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    ae.add_requested_context(MR)
    association = ae.associate("127.0.0.1", port, ae_title=called, bind_address=(by, 0))
    if association.is_established:
        told = (
            association.send_c_store(slice_of(0, study=f"{calling} {called}")) if association.accepted_contexts else {}
        )
        if association.is_established:
            association.release()
        return "stored" if "Status" in told and told.Status == 0 else "not stored"
    primitive = association.acceptor.primitive
    return f"{primitive.result_str}, {primitive.reason_str}" if primitive else "no answer"


def storescu(port: int, files: list[Path]) -> float:
    """Seconds that DCMTK takes, with all of it stored."""
    began = time.monotonic()
    command = [binary("storescu"), "-to", "10", "-aet", "CT1", "-aec", "ORTHANC", "127.0.0.1", str(port)]
    subprocess.run([*command, *map(str, files)], check=True, capture_output=True, timeout=60)
    return time.monotonic() - began


def written(folder: Path, study: str, *, slices: int = 10) -> list[Path]:
    files = [folder / f"{number}.dcm" for number in range(slices)]
    for file, data in zip(files, study_files(study, slices=slices), strict=True):
        file.write_bytes(data)
    return files


@pytest.mark.parametrize(("said", "what"), [
    (b"", "nothing"), (b"\x01\x00\x00\x00\xff\x00" + bytes(60_000), "most of a request"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_a_scanner_stores_while_a_thousand_connections_say(
    place: Place, tmp_path: Path, said: bytes, what: str
) -> None:
    assert answer(place.relay.port) == "stored"
    idle_kib, before = place.memory_kib, place.stored
    with ExitStack() as stack:
        for _ in range(IDLE):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", place.relay.port), timeout=10))
            connection.setblocking(False)
            with suppress(OSError):  # it has ended for another already
                connection.send(said)
        assert storescu(place.relay.port, written(tmp_path, what)) < 5.0
        assert place.stored == before + 10
        assert place.memory_kib < 1.2 * idle_kib + 2_000
    assert answer(place.relay.port) == "stored"


def test_associations_that_say_nothing_give_way_to_a_scanner(place: Place, tmp_path: Path) -> None:
    """Beside four of them Orthanc itself takes seconds for each image (docs/orthanc.md)."""
    silent = []
    for _ in range(3):
        ae = AE(ae_title="CT1")
        ae.add_requested_context(MR)
        silent.append(ae.associate("127.0.0.1", place.relay.port, ae_title="ORTHANC"))
    assert all(each.is_established for each in silent)
    assert storescu(place.relay.port, written(tmp_path, "beside silent ones")) < 8.0
    wait_for(lambda: any(each.is_aborted for each in silent), what="the end of one of them")
    for each in silent:
        each.abort()


STRANGER, MISSPELT = (f"Rejected Permanent, {which} AE title not recognised" for which in ("Calling", "Called"))


@pytest.mark.parametrize(("calling", "by", "called", "said"), [
    ("CT1", "127.0.0.1", "ORTHANC", "stored"), ("ct1", "127.0.0.1", "orthanc", "stored"),
    ("MR 1", "127.0.0.9", "ORTHANC", "stored"), ("MR 1", "127.0.0.1", "ORTHANC", STRANGER),
    ("CT1", "127.0.0.9", "ORTHANC", STRANGER), ("EVIL", "127.0.0.1", "ORTHANC", STRANGER),
    ("CT1", "127.0.0.1", "PACS", MISSPELT),
])  # fmt: skip
def test_each_caller_gets_its_answer(place: Place, calling: str, by: str, called: str, said: str) -> None:
    assert answer(place.relay.port, calling=calling, called=called, by=by) == said


def test_the_archives_own_port_stores_from_nowhere_but_the_relay(place: Place) -> None:
    port = place.archive.dicom_port
    callers = (("EVIL", "127.0.0.1"), ("CT1", "127.0.0.9"), ("MR 1", "127.0.0.9"), ("MR 1", "127.0.0.8"))
    assert {answer(port, calling=calling, by=by) for calling, by in callers} == {"not stored"}


def test_an_archive_that_is_down_is_told_as_congestion_and_found_again(place: Place) -> None:
    place.archive.kill()
    assert answer(place.relay.port) == "Rejected Transient, Temporary congestion"
    place.archive.start()
    assert answer(place.relay.port) == "stored"
