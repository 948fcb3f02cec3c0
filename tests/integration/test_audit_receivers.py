"""The audit trail at receivers of others: rsyslog over TLS, jing with the schema, and a FHIR server."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from audit_cases import REPORTER, every_kind
from certificates import Authority, Pair
from fhir.resources.R4B.auditevent import AuditEvent
from fhir_server import FhirServer, fhir_server
from servers import Server, binary, free_port, wait_for

from medai.router.audit import exporter, syslog
from medai.router.audit.dicom_message import message
from medai.router.audit.exporter import AuditExporter, Figures
from medai.router.errors import AuditReceiverAway
from medai.router.ledger import Ledger
from medai.router.settings.audit import AuditSettings

T0 = 1_800_000_000.0
SCHEMA = Path(__file__).parents[1] / "peers" / "audit_message.rnc"
CONFIGURATION = """
global(workDirectory="{folder}" maxMessageSize="64k" defaultNetstreamDriver="gtls"
       defaultNetstreamDriverCAFile="{ca}" defaultNetstreamDriverCertFile="{own.certificate}"
       defaultNetstreamDriverKeyFile="{own.key}")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/name"
       permittedPeer=["medai"])
template(name="told" type="string" string="%pri%|%timestamp:::date-rfc3339%|%hostname%|%app-name%|%msgid%|%structured-data%|%msg%\\n")
input(type="imtcp" port="{port}" address="127.0.0.1")
action(type="omfile" file="{folder}/told.log" template="told")
"""


@dataclass
class Repository:
    """An rsyslog that takes messages of the client "medai" alone, and what it wrote down."""

    server: Server
    authority: Authority
    client: Pair

    @property
    def lines(self) -> list[list[str]]:
        file = self.server.folder / "told.log"
        text = file.read_text("utf-8") if file.exists() else ""
        return [each.split("|", 6) for each in text.split("\n") if each]

    @property
    def numbers(self) -> list[int]:
        return [int(re.findall(r'sequenceId="(\d+)"', each[5])[0]) for each in self.lines]

    def settings(self, **own: Any) -> AuditSettings:
        table = {
            "host": "localhost", "port": self.server.port, "ca_file": self.authority.ca_file,
            "certificate_file": self.client.certificate, "key_file": self.client.key, "timeout_s": 5.0, **own,
        }  # fmt: skip
        return AuditSettings.model_validate({"poll_s": 0.05, "syslog": table})


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    folder = tmp_path_factory.mktemp("rsyslog")
    authority = Authority(folder)
    port, file = free_port(), folder / "rsyslog.conf"
    file.write_text(
        CONFIGURATION.format(folder=folder, ca=authority.ca_file, own=authority.pair("localhost"), port=port), "utf-8"
    )
    command = [binary("rsyslogd"), "-n", "-f", str(file), "-i", str(folder / "pid")]
    server = Server(command, folder, port, {})
    server.start()
    yield Repository(server, authority, authority.pair("medai"))
    server.stop()


@contextmanager
def exporting(settings: AuditSettings, ledger: Ledger) -> Iterator[Figures]:
    """A router's exporter at work."""

    class Archive:
        def study(self, _name: str) -> dict[str, Any]:
            return {}

    figures = Figures()
    running = AuditExporter(settings, ledger.audit, ledger.deliveries, Archive(), figures=figures)
    running.start()
    try:
        yield figures
    finally:
        running.stop()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    found.migrate()
    yield found
    found.close()


def write(ledger: Ledger, count: int) -> None:
    for _ in range(count):
        ledger.accounts.note_action("ana", "login", T0, detail="from 10.1.2.3")


def test_each_kind_of_event_is_valid_by_the_schema(tmp_path: Path) -> None:
    files = []
    for number, event in enumerate(every_kind()):
        file = tmp_path / f"{number}.xml"
        file.write_bytes(message(event, REPORTER))
        files.append(str(file))
    bad = tmp_path / "bad.xml"
    bad.write_bytes(Path(files[0]).read_bytes().replace(b'csd-code="110100"', b""))
    judge = [binary("jing"), "-c", str(SCHEMA)]
    found = subprocess.run([*judge, *files, str(bad)], capture_output=True, text=True, timeout=60, check=False)
    assert [line for line in found.stdout.splitlines() if str(bad) not in line] == []
    assert "csd-code" in found.stdout, "it does judge"


def test_rsyslog_gets_every_line_once_in_order_also_those_of_while_it_was_dead(
    repository: Repository, ledger: Ledger
) -> None:
    write(ledger, 120)
    with exporting(repository.settings(), ledger) as figures:
        wait_for(lambda: len(repository.lines) >= 120, what="the first lines")
        wait_for(lambda: ledger.audit.cursor("audit-syslog") == 120, what="the cursor")
        repository.server.kill()
        write(ledger, 30)
        wait_for(lambda: figures.told()["audit-syslog"].failures > 1, what="failures")
        assert figures.told()["audit-syslog"].waiting == 30
        repository.server.start()
        wait_for(lambda: len(repository.lines) >= 150, within_s=15, what="the rest")
        wait_for(lambda: ledger.audit.cursor("audit-syslog") == 150, what="the cursor")
    assert repository.numbers == list(range(1, 151)), "a batch that was read is known to be read"
    priority, at, _host, name, kind, _number, text = repository.lines[0]
    assert (priority, at, name, kind) == ("85", "2027-01-15T08:00:00.000Z", "MEDAI", "DICOM+RFC3881")
    assert "<AuditMessage>" in text
    assert 'csd-code="110122"' in text


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"certificate_file": "", "key_file": ""}, "does it want a client certificate|does not answer"),
        ({"ca_file": "other"}, "cannot be trusted"),
        ({"ca_file": "/nowhere.pem"}, r"\[audit.syslog\]: /nowhere.pem"),
        ({"port": 1}, "does not answer"),
    ],
)
def test_a_receiver_that_is_not_as_configured_takes_nothing_and_check_says_why(
    repository: Repository, tmp_path: Path, own: dict[str, Any], words: str
) -> None:
    if own.get("ca_file") == "other":
        own = {"ca_file": Authority(tmp_path, "other").ca_file}
    before = len(repository.lines)
    assert exporter.probe(repository.settings()) == {"audit-syslog": ""}
    assert re.search(words, exporter.probe(repository.settings(**own))["audit-syslog"])
    with pytest.raises(AuditReceiverAway):
        syslog.send([b"<85>1 - - - - - - secret"], repository.settings(**own).syslog)
    assert len(repository.lines) == before


def test_a_receiver_that_dies_with_lines_unread_has_not_got_them(repository: Repository) -> None:
    """What TCP took is not what was read: silence, and a reset, are failures."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        own = repository.settings(port=deaf.getsockname()[1], timeout_s=0.3).syslog
        with pytest.raises(AuditReceiverAway, match="does not answer"):
            syslog.send([b"<85>1 - - - - - - x"], own)


@pytest.mark.parametrize("lines", [[], [b"<85>1 - - - - - - x"]])
def test_a_receiver_that_ends_the_connection_before_it_reads_has_nothing(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, lines: list[bytes]
) -> None:
    """As one does that lets in whom it has looked at after the handshake: its end without a word is no receipt."""
    ended = threading.Event()
    pair = repository.authority.pair("hasty")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    really = ssl.SSLSocket.sendall

    def later(secured: ssl.SSLSocket, data: bytes) -> None:
        assert ended.wait(10)
        really(secured, data)

    def serve(server: socket.socket) -> None:
        plain, _ = server.accept()
        context.wrap_socket(plain, server_side=True).close()
        ended.set()

    monkeypatch.setattr(ssl.SSLSocket, "sendall", later)
    with socket.create_server(("127.0.0.1", 0)) as hasty:
        thread = threading.Thread(target=serve, args=(hasty,))
        thread.start()
        with pytest.raises(AuditReceiverAway, match="does not answer"):
            syslog.send(lines, repository.settings(port=hasty.getsockname()[1]).syslog)
        thread.join()


def test_a_fhir_server_gets_events_that_are_valid_r4_also_those_of_while_it_was_busy(ledger: Ledger) -> None:
    with fhir_server(version="4.0.1", token="secret") as server:
        table = {"fhir_url": server.url, "token": "secret", "patient_system": "urn:oid:1.2.3"}
        settings = AuditSettings.model_validate({"poll_s": 0.05, "fhir": table})
        assert exporter.probe(settings) == {"audit-fhir": ""}
        server.fault(503, times=1)
        write(ledger, 7)
        with exporting(settings, ledger) as figures:
            wait_for(lambda: ledger.audit.cursor("audit-fhir") == 7, what="the events")
        assert figures.told()["audit-fhir"].failures == 1
        got = server.of_kind("AuditEvent")
        assert [int(each["meta"]["tag"][0]["code"]) for each in got] == list(range(1, 8))
        for each in got:
            AuditEvent.model_validate(each)
        wrong = AuditSettings.model_validate({"fhir": {**table, "token": "wrong"}})
        assert wrong.fhir.destination.fhir_url == server.url


def test_a_line_that_a_fhir_server_refuses_is_not_passed_over(ledger: Ledger) -> None:
    with fhir_server(version="4.0.1") as server:
        settings = AuditSettings.model_validate({"poll_s": 0.05, "fhir": {"fhir_url": server.url}})
        server.fault(422, times=1)
        write(ledger, 3)
        began = time.monotonic()
        with exporting(settings, ledger) as figures:
            wait_for(lambda: ledger.audit.cursor("audit-fhir") == 3, what="the events")
        assert time.monotonic() - began > 1.9, "after a pause"
        assert figures.told()["audit-fhir"].failures == 1
    assert isinstance(server, FhirServer)
