"""TLS as BCP 195 wants it, with real clients: who gets through to the order port, and which servers get a result."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path

import pytest
from certificates import Authority, Pair
from otlp_collector import collector
from pydantic import ValidationError
from servers import wait_for

from medai.router import tls
from medai.router.delivery import fhir
from medai.router.delivery.ris import send_oru
from medai.router.errors import FhirUnreachable, OrthancBroke, OrthancUnreachable, RisUnreachable, SettingsError
from medai.router.hl7 import mllp
from medai.router.hl7.listener import OrderListener
from medai.router.hl7.orders_in import OrderMessage
from medai.router.orthanc.client import Orthanc
from medai.router.settings.destinations import FhirDestination
from medai.router.settings.tables import Hl7InSettings, OrthancSettings, RisSettings
from medai.router.settings.tls import ClientTls, ServerTls, WebTls
from medai.router.settings.tracing import TracingSettings
from medai.router.tracing.otlp import OtlpSink
from medai.router.tracing.spans import Span

ORM = (
    b"MSH|^~\\&|RIS|H|MEDAI|AI|20240301101500||ORM^O01|M1|P|2.5.1\rPID|1||1^^^H^MR||Doe^Jane\r"
    b"ORC|NW|PL1\rOBR|1|PL1|||S\r"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "other")


@pytest.fixture(scope="module")
def pair(site: Authority) -> Pair:
    return site.pair()


class Port:
    """An order port with TLS, and what came through."""

    def __init__(self, site: Authority, pair: Pair) -> None:
        self.orders: list[str] = []
        self.turned_away: Counter[str] = Counter()
        settings = Hl7InSettings(port=0, tls=server(site, pair))
        self.listener = OrderListener(settings, self._keep, turned_away=self.turned_away)

    def _keep(self, messages: Sequence[OrderMessage]) -> None:
        self.orders += [message.order.placer for message in messages]

    def send(self, context: ssl.SSLContext | None) -> bytes:
        return mllp.send(ORM, host="localhost", port=self.listener.port, timeout_s=20, tls=context)


def server(authority: Authority, pair: Pair) -> ServerTls:
    return ServerTls(certificate_file=pair.certificate, key_file=pair.key, ca_file=authority.ca_file)


def client(authority: Authority, pair: Pair | None) -> ssl.SSLContext:
    files = {"certificate_file": pair.certificate, "key_file": pair.key} if pair else {}
    return tls.client_context(ClientTls(ca_file=authority.ca_file, **files), where="test")


@pytest.fixture
def port(site: Authority, pair: Pair) -> Iterator[Port]:
    made = Port(site, pair)
    made.listener.start()
    yield made
    made.listener.stop()


def test_a_sender_with_a_certificate_of_the_site_is_answered(port: Port, site: Authority) -> None:
    assert b"MSA|AA|M1" in port.send(client(site, site.pair("ris")))
    assert (port.orders, port.turned_away) == (["PL1"], {})


def test_who_has_no_certificate_of_the_site_gets_nothing_through(port: Port, site: Authority, other: Authority) -> None:
    strangers = {"none": client(site, None), "another authority's": client(site, other.pair("ris")), "no TLS": None}
    for context in strangers.values():
        with pytest.raises(RisUnreachable):
            port.send(context)
    wait_for(lambda: port.turned_away["tls"] == len(strangers))
    assert port.orders == []
    assert b"MSA|AA" in port.send(client(site, site.pair("next")))


def test_a_client_that_trusts_another_authority_sends_nothing(port: Port, other: Authority, site: Authority) -> None:
    with pytest.raises(RisUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        port.send(client(other, site.pair("ris2")))
    assert port.orders == []


@pytest.mark.parametrize(
    ("offer", "connects"),
    [
        (("-tls1_3",), True), (("-tls1_2",), True), (("-tls1_2", "-cipher", tls.SUITES[0]), True),
        (("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), False), (("-tls1", "-cipher", "ALL:@SECLEVEL=0"), False),
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"), False), (("-tls1_2", "-cipher", "AES128-GCM-SHA256"), False),
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-CCM8:@SECLEVEL=0"), False),
    ],
    ids=str,
)  # fmt: skip
def test_openssl_connects_with_what_bcp_195_recommends_and_nothing_older(
    port: Port, site: Authority, pair: Pair, offer: Sequence[str], connects: bool
) -> None:
    command = ["openssl", "s_client", "-connect", f"localhost:{port.listener.port}", "-CAfile", site.ca_file,
               "-cert", pair.certificate, "-key", pair.key, "-verify_return_error", "-quiet", "-no_ign_eof", *offer]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as peer:
        assert peer.stdin is not None
        assert peer.stdout is not None
        try:
            peer.stdin.write(mllp.frame(ORM))
            peer.stdin.flush()
            answer = peer.stdout.read(60)
        except BrokenPipeError:
            answer = b""
        peer.kill()
    assert answer.startswith(b"\x0bMSH|") is connects
    assert bool(port.orders) is connects


def test_connections_that_never_shake_hands_keep_nobody_out(port: Port, site: Authority) -> None:
    with ExitStack() as stack:
        for _ in range(250):
            stack.enter_context(socket.create_connection(("127.0.0.1", port.listener.port), timeout=20))
        assert b"MSA|AA" in port.send(client(site, site.pair("busy")))
    assert port.turned_away["limit"] >= 200


@contextmanager
def secured(context: ssl.SSLContext, answer: bytes) -> Iterator[int]:
    """A RIS of one message behind TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            try:
                plain, _ = listening.accept()
                with plain, context.wrap_socket(plain, server_side=True) as peer:
                    peer.recv(65536)
                    peer.sendall(mllp.frame(answer))
            except OSError:
                pass  # the test looks at the other end

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.close()
        thread.join(20)


@pytest.mark.parametrize(
    ("trusts", "shows", "sent"), [("site", True, True), ("other", True, False), ("site", False, False)]
)
def test_a_result_goes_to_a_ris_that_is_trusted_and_trusts_us(
    site: Authority, other: Authority, pair: Pair, trusts: str, shows: bool, sent: bool
) -> None:
    context = tls.server_context(server(site, pair), where="test")
    assert context is not None
    files = {"certificate_file": pair.certificate, "key_file": pair.key} if shows else {}
    ca_file = (site if trusts == "site" else other).ca_file
    with secured(context, b"MSH|^~\\&|RIS|H|MEDAI|AI|2024||ACK|A1|P|2.5.1\rMSA|AA|C1\r") as port:
        ris = RisSettings(host="localhost", port=port, tls=True, ca_file=ca_file, **files)
        if sent:
            assert send_oru(b"MSH|", "C1", ris) == "AA"
        else:
            with pytest.raises(RisUnreachable):
                send_oru(b"MSH|", "C1", ris)


class Capability(BaseHTTPRequestHandler):
    """A FHIR server of one answer."""

    def do_GET(self) -> None:
        body = b'{"resourceType": "CapabilityStatement", "fhirVersion": "5.0.0"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Nothing."""


def test_a_fhir_server_that_asks_for_a_certificate_gets_ours(site: Authority, pair: Pair) -> None:
    context = tls.server_context(server(site, pair), where="test")
    assert context is not None
    with HTTPServer(("127.0.0.1", 0), Capability) as there:
        there.socket = context.wrap_socket(there.socket, server_side=True)
        thread = threading.Thread(target=there.serve_forever)
        thread.start()
        url = f"https://localhost:{there.server_port}/fhir"
        shown = FhirDestination(
            fhir_url=url, ca_file=site.ca_file, certificate_file=pair.certificate, key_file=pair.key
        )  # fmt: skip
        assert fhir.capability(shown, name="ehr")["fhirVersion"] == "5.0.0"
        with pytest.raises(FhirUnreachable):
            fhir.capability(FhirDestination(fhir_url=url, ca_file=site.ca_file), name="ehr")
        there.shutdown()
        thread.join(20)


@contextmanager
def archive(site: Authority, pair: Pair, address: str = "127.0.0.1") -> Iterator[int]:
    """A server of one answer over TLS, which asks for no certificate."""
    context = tls.server_context(WebTls(certificate_file=pair.certificate, key_file=pair.key), where="test")
    assert context is not None
    with ThreadingHTTPServer((address, 0), Capability) as there:
        there.socket = context.wrap_socket(there.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=there.serve_forever)
        thread.start()
        yield there.server_port
        there.shutdown()
        thread.join(20)


def test_orthanc_is_believed_over_https_by_its_authority_and_name_alone(
    site: Authority, other: Authority, pair: Pair
) -> None:
    def asked(url: str, authority: Authority) -> dict[str, object]:
        orthanc = Orthanc(OrthancSettings(url=url, ca_file=authority.ca_file))
        try:
            return orthanc.system()
        finally:
            orthanc.close()

    with archive(site, pair) as port:
        assert asked(f"https://127.0.0.1:{port}", site)["fhirVersion"] == "5.0.0"
        with pytest.raises(OrthancUnreachable, match="cannot be trusted"):
            asked(f"https://127.0.0.1:{port}", other)
    with archive(site, pair, "127.0.0.2") as port, pytest.raises(OrthancUnreachable, match="cannot be trusted"):
        asked(f"https://127.0.0.2:{port}", site)


def test_an_archive_that_hangs_up_before_tls_stands_was_not_there(site: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=lambda: listening.accept()[0].close())
        thread.start()
        port = listening.getsockname()[1]
        orthanc = Orthanc(OrthancSettings(url=f"https://127.0.0.1:{port}", ca_file=site.ca_file))
        with pytest.raises(OrthancUnreachable) as raised:
            orthanc.request("POST", "/instances", body=b"image")
        assert not isinstance(raised.value, OrthancBroke)
        thread.join(20)
        orthanc.close()


def test_traces_go_to_a_collector_that_is_trusted(site: Authority, other: Authority, pair: Pair) -> None:
    context = tls.server_context(server(site, pair), where="test")
    assert context is not None
    files = {"certificate_file": pair.certificate, "key_file": pair.key}
    with collector() as there:
        there.socket = context.wrap_socket(there.socket, server_side=True, do_handshake_on_connect=False)
        for authority, counts in ((site, {"sent": 1, "lost": 0}), (other, {"sent": 0, "lost": 1})):
            settings = TracingSettings(
                endpoint=there.url.replace("http:", "https:"), ca_file=authority.ca_file, timeout_s=1.0, **files
            )
            sink = OtlpSink(settings, service="medai-router", instance="1", version="1")
            sink.send([Span(name="x", trace_id=1, span_id=1, parent_id=None, start=1.0, end=2.0)])
            sink.close()
            assert sink.counts() == counts


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"certificate_file": "a"}, "key_file"),
        ({"certificate_file": "a", "key_file": "b"}, "require_client_certificate"),
        ({"key_file": "b"}, "TLS would be off"),
        ({"ca_file": "c"}, "TLS would be off"),
    ],
)
def test_half_of_a_port_s_tls_is_refused(files: dict[str, str], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        ServerTls.model_validate(files)
    with pytest.raises(ValidationError, match="nothing would be shown"):
        ClientTls(key_file="b")


def test_a_file_that_is_none_is_named_and_not_quoted(tmp_path: Path, site: Authority, pair: Pair) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("SECRET", "ascii")
    for files in ({"ca_file": str(wrong)}, {"certificate_file": str(wrong)}, {"ca_file": str(tmp_path / "none")}):
        with pytest.raises(SettingsError, match="cannot be used for TLS") as raised:
            tls.client_context(ClientTls(**files), where="ris")
        assert "SECRET" not in str(raised.value)
    swapped = ServerTls(certificate_file=pair.certificate, key_file=site.pair("swapped").key, ca_file=site.ca_file)
    with pytest.raises(SettingsError, match=r"\[hl7_in.tls\]"):
        tls.server_context(swapped, where="hl7_in.tls")
