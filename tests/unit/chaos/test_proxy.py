"""What stands between the parts does what a fault asks of it, and nothing else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import urllib3
from chaos.proxy import PASS, HttpProxy, MllpProxy, Mode, Spoken, Tripwire

BODY = b"0123456789" * 100


class Archive(BaseHTTPRequestHandler):
    """Answers everything with the same body and counts."""

    protocol_version = "HTTP/1.1"
    requests: list[str]

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        type(self).requests.append(f"{self.command} {self.path}")
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    do_POST = do_GET  # noqa: N815 - the library's name

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def archive() -> Iterator[HttpProxy]:
    Archive.requests = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Archive)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    proxy = HttpProxy("worker1", "orthanc", server.server_address[1])
    yield proxy
    proxy.close()
    server.shutdown()
    server.server_close()
    thread.join()


def ask(proxy: HttpProxy, path: str = "/instances/a/file", method: str = "GET") -> urllib3.BaseHTTPResponse:
    with urllib3.PoolManager(retries=False, timeout=3.0) as pool:
        return pool.request(method, f"http://127.0.0.1:{proxy.port}{path}", body=b"x" if method == "POST" else None)


def test_without_a_fault_everything_passes(archive: HttpProxy) -> None:
    assert ask(archive).data == BODY


def test_a_cut_ends_the_body_half_way_and_only_of_the_paths_it_names(archive: HttpProxy) -> None:
    archive.behave(Mode(kind="cut", path="*/file"))
    with pytest.raises(urllib3.exceptions.HTTPError):
        ask(archive)
    assert ask(archive, "/changes").data == BODY
    archive.behave(PASS)
    assert ask(archive).data == BODY


def test_an_error_never_reaches_the_archive(archive: HttpProxy) -> None:
    archive.behave(Mode(kind="error"))
    assert ask(archive).status == 500
    assert Archive.requests == []


def test_a_black_hole_keeps_a_request_until_it_is_healed(archive: HttpProxy) -> None:
    archive.behave(Mode(kind="blackhole"))
    threading.Timer(0.5, lambda: archive.behave(PASS)).start()
    assert ask(archive).data == BODY


def test_a_tripwire_before_the_archive_drops_the_request_it_rang_for(archive: HttpProxy) -> None:
    rung: list[str] = []
    archive.wires.append(
        Tripwire(method="POST", path="/instances", when="before", action=rung.append, skip=1, drop=True)
    )
    assert ask(archive, "/instances", "POST").status == 200
    with pytest.raises(urllib3.exceptions.HTTPError):
        ask(archive, "/instances", "POST")
    assert ask(archive, "/instances", "POST").status == 200
    assert rung == ["worker1"]
    assert Archive.requests == ["POST /instances"] * 2


def test_a_tripwire_after_the_archive_loses_only_the_answer(archive: HttpProxy) -> None:
    archive.wires.append(Tripwire(method="POST", path="/instances", when="after", action=lambda _: None, drop=True))
    with pytest.raises(urllib3.exceptions.HTTPError):
        ask(archive, "/instances", "POST")
    assert Archive.requests == ["POST /instances"]


def test_the_witness_knows_which_message_was_acknowledged() -> None:
    spoken: list[Spoken] = []
    with socket.create_server(("127.0.0.1", 0)) as ris:
        proxy = MllpProxy("worker1", "ris", ris.getsockname()[1], spoken)
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=3) as sender:
            sender.sendall(b"\x0bMSH|^~\\&|A|B|C|D|20260101||ORU^R01|ID7|P|2.5.1\rPID|1\r\x1c\r")
            receiver, _ = ris.accept()
            with receiver:
                receiver.recv(1000)
                receiver.sendall(b"\x0bMSH|^~\\&|C|D|A|B|20260101||ACK|9|P|2.5.1\rMSA|AA|ID7\r\x1c\r")
                assert b"MSA|AA|ID7" in sender.recv(1000)
        proxy.close()
    assert [(each.control_id, each.ack) for each in spoken] == [("ID7", "AA")]
