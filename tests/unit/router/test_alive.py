"""Whether a port of ours answers: over TLS it is believed by the very certificate that it is configured with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from certificates import Authority
from servers import free_port

from medai.router import alive, tls
from medai.router.settings.tls import ServerTls, WebTls


class Well(BaseHTTPRequestHandler):
    """Answers 200, and 404 to what nobody asks for."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path in ("/ready", "/api/health") else 404)
        self.end_headers()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Nothing."""


@contextmanager
def answering(files: ServerTls) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Well) as there:
        context = tls.server_context(files, where="test")
        if context is not None:
            there.socket = context.wrap_socket(there.socket, server_side=True, do_handshake_on_connect=False)
        there.handle_error = lambda *_: None  # type: ignore[method-assign]  # who is not believed hangs up
        thread = threading.Thread(target=there.serve_forever, args=(0.05,))
        thread.start()
        yield there.server_port
        there.shutdown()
        thread.join(20)


def test_a_port_with_another_certificate_than_its_own_is_not_alive(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours, other = (
        ServerTls(certificate_file=pair.certificate, key_file=pair.key, ca_file=authority.ca_file)
        for pair in (authority.pair("medai.hospital.example"), authority.pair("other"))
    )
    with answering(ours) as port:
        for files, believed in ((ours, True), (other, False)):
            context = tls.own_context(files, where="test")
            assert alive.answers(f"https://127.0.0.1:{port}/ready", context) is believed
        assert not alive.answers(f"https://127.0.0.1:{port}/other", tls.own_context(ours, where="test"))


def test_a_container_s_check_asks_the_port_that_the_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Authority(tmp_path).pair()
    with answering(WebTls(certificate_file=pair.certificate, key_file=pair.key)) as port:
        monkeypatch.setenv("MEDAI_CONSOLE__HOST", "0.0.0.0")
        monkeypatch.setenv("MEDAI_CONSOLE__PORT", str(port))
        monkeypatch.setenv("MEDAI_CONSOLE__TLS__CERTIFICATE_FILE", pair.certificate)
        monkeypatch.setenv("MEDAI_CONSOLE__TLS__KEY_FILE", pair.key)
        monkeypatch.setenv("MEDAI_METRICS__PORT", str(free_port()))
        monkeypatch.chdir(tmp_path)
        assert [alive.main("console"), alive.main("router")] == [0, 1]
    with answering(WebTls()) as port:
        monkeypatch.setenv("MEDAI_METRICS__PORT", str(port))
        assert alive.main("router") == 0
