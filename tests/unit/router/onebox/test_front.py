"""The relay before Orthanc: what is asked over TLS is answered, and an archive that is away was not asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from certificates import Authority
from servers import answers, free_port, wait_for

from medai.router import tls
from medai.router.errors import OrthancBroke, OrthancUnreachable
from medai.router.onebox.front import Front
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import OrthancSettings
from medai.router.settings.tls import WebTls

LARGE = bytes(range(256)) * 40_000


class Archive(BaseHTTPRequestHandler):
    """Answers what it was sent, and a large file."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(LARGE)

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Nothing."""


@contextmanager
def fronted(authority: Authority, behind: int) -> Iterator[Orthanc]:
    pair, port = authority.pair(), free_port()
    context = tls.server_context(WebTls(certificate_file=pair.certificate, key_file=pair.key), where="test")
    assert context is not None
    loop = asyncio.new_event_loop()
    serving = loop.create_task(Front(context, port=port, behind=behind).serve())

    def run() -> None:
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(serving)

    thread = threading.Thread(target=run)
    thread.start()
    wait_for(lambda: answers(port))
    orthanc = Orthanc(OrthancSettings(url=f"https://127.0.0.1:{port}", ca_file=authority.ca_file))
    try:
        yield orthanc
    finally:
        orthanc.close()
        loop.call_soon_threadsafe(serving.cancel)
        thread.join(20)
        loop.run_until_complete(asyncio.sleep(0.1))
        loop.close()


def test_what_is_asked_over_tls_is_answered_whole_and_a_connection_is_kept(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Archive) as archive:
        thread = threading.Thread(target=archive.serve_forever)
        thread.start()
        with fronted(Authority(tmp_path), archive.server_port) as orthanc:
            for number in range(3):
                assert orthanc.request("POST", "/instances", body=LARGE + bytes([number])) == LARGE + bytes([number])
            assert orthanc.request("GET", "/file") == LARGE
        archive.shutdown()
        thread.join(20)


def test_an_archive_that_is_away_was_not_asked(tmp_path: Path) -> None:
    with fronted(Authority(tmp_path), free_port()) as orthanc:
        with pytest.raises(OrthancUnreachable) as raised:
            orthanc.request("POST", "/instances", body=b"image")
        assert not isinstance(raised.value, OrthancBroke)
