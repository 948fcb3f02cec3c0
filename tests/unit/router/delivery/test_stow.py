"""A STOW-RS answer counts object by object; what may pass is tried again, and no word of the server is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from medai.router.cli import check
from medai.router.delivery import stow
from medai.router.errors import DestinationRefused, DestinationUnreachable, MedaiError
from medai.router.settings.destinations import StowDestination
from medai.router.settings.tables import Settings

SECRET = "Plantedname"
FILES = {"1.1": b"first", "1.2": b"--second\r\n"}


class Server(ThreadingHTTPServer):
    """Answers everything with ``status`` and ``data``, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.data = 200, b""
        self.extra: dict[str, str] = {}
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []

    def destination(self, **settings: Any) -> StowDestination:
        return StowDestination(stow_url=f"http://127.0.0.1:{self.server_port}/dicom-web/", **settings)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): text for name, text in self.headers.items()}
        self.server.seen.append((self.command, self.path, headers, body))
        self.send_response(self.server.status)
        for name, text in self.server.extra.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(self.server.data)))
        self.end_headers()
        self.wfile.write(self.server.data)

    do_GET = do_POST  # noqa: N815 - the base class names it so

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Silence."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def answer(stored: tuple[str, ...] = (), failed: dict[str, int] | None = None) -> bytes:
    def item(uid: str, **more: Any) -> dict[str, Any]:
        return {"00081155": {"vr": "UI", "Value": [uid]}, "00100010": {"vr": "PN", "Value": [SECRET]}, **more}

    refused = [item(uid, **{"00081197": {"vr": "US", "Value": [code]}}) for uid, code in (failed or {}).items()]
    told = {"00081199": {"vr": "SQ", "Value": [item(uid) for uid in stored]}}
    return json.dumps(told | ({"00081198": {"vr": "SQ", "Value": refused}} if failed else {})).encode()


def deliver(server: Server, status: int, data: bytes, **settings: Any) -> str:
    server.status, server.data = status, data
    return stow.send(FILES, server.destination(**settings), name="web")


def test_one_request_carries_every_file_as_it_is_and_is_the_same_at_each_attempt(server: Server) -> None:
    assert deliver(server, 200, answer(("1.1", "1.2")), token="t") == "200, 2 objects"
    assert deliver(server, 202, answer(("1.2", "1.1"))) == "202, 2 objects"
    (method, path, headers, body), (_, _, _, again) = server.seen
    assert (method, path, headers["authorization"]) == ("POST", "/dicom-web/studies", "Bearer t")
    assert headers["accept"] == "application/dicom+json"
    kind, boundary = headers["content-type"].split("; boundary=")
    assert kind == 'multipart/related; type="application/dicom"'
    parts = body.split(f"--{boundary}".encode())
    assert parts[0] == b""
    assert [part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n") for part in parts[1:-1]] == list(FILES.values())
    assert parts[-1] == b"--\r\n"
    assert again == body


def test_an_object_that_was_there_before_counts_as_stored(server: Server) -> None:
    assert deliver(server, 409, answer((), {"1.1": 0x0111, "1.2": 0x0111})) == "409, 2 objects"
    assert deliver(server, 202, answer(("1.1",), {"1.2": 0x0111})) == "202, 2 objects"


@pytest.mark.parametrize(
    ("status", "failed", "kind", "reason"),
    [
        (409, {"1.1": 0xA700, "1.2": 0xA701}, DestinationUnreachable, r"1 out of resources \(0xA700\), 1 out of resources \(0xA701\)"),
        (202, {"1.2": 0x0110}, DestinationUnreachable, r"did not store 1 object \(1 processing failure \(0x0110\)\)"),
        (202, {"1.2": 0xC001}, DestinationUnreachable, r"cannot understand \(0xC001\)"),
        (409, {"1.1": 0x0122, "1.2": 0x0110}, DestinationUnreachable, "did not store 2 objects"),
        (409, {"1.1": 0x0122, "1.2": 0x0122}, DestinationRefused, r"answered 409 and did not store 2 objects \(2 class not supported"),
        (202, {"1.2": 0xA901}, DestinationRefused, r"data set does not match its class \(0xA901\)"),
        (202, {"1.2": 7}, DestinationUnreachable, r"\(1 0x0007\)"),
    ],
)  # fmt: skip
def test_an_object_that_was_not_stored_is_told_by_its_reason(
    server: Server, status: int, failed: dict[str, int], kind: type[MedaiError], reason: str
) -> None:
    stored = tuple(uid for uid in FILES if uid not in failed)
    with pytest.raises(kind, match=rf"^the DICOMweb server web at 127.0.0.1:\d+ .*{reason}") as caught:
        deliver(server, status, answer(stored, failed))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (answer(("1.1",)), "says of 1 of 2 objects that it stored them"),
        (answer(), "says of 0 of 2 objects"),
        (b"<html>please log in</html>", "no answer to STOW-RS: is stow_url right"),
        (b"[]", "no answer to STOW-RS"),
        (b"", "no answer to STOW-RS"),
        (b'{"00081199": 3}', "says of 0 of 2 objects"),
    ],
)
def test_only_an_answer_that_names_every_object_is_success(server: Server, data: bytes, reason: str) -> None:
    with pytest.raises(DestinationUnreachable, match=reason):
        deliver(server, 200, data)


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (503, DestinationUnreachable, "answered 503$"),
        (429, DestinationUnreachable, "answered 429$"),
        (401, DestinationUnreachable, "check its username and password, or token"),
        (404, DestinationUnreachable, "is stow_url right?"),
        (405, DestinationUnreachable, "It accepts no STOW-RS there"),
        (302, DestinationUnreachable, "a redirect: is stow_url right"),
        (400, DestinationRefused, "refused the result with 400"),
        (413, DestinationRefused, "refused the result with 413"),
    ],
)
def test_an_answer_without_reasons_is_judged_by_its_status(
    server: Server, status: int, kind: type[MedaiError], reason: str
) -> None:
    server.extra = {"Retry-After": "17"}
    with pytest.raises(kind, match=reason) as caught:
        deliver(server, status, SECRET.encode())
    assert SECRET not in str(caught.value)
    if status in (429, 503):
        assert getattr(caught.value, "retry_after_s", None) == 17.0


def test_a_server_that_is_away_is_tried_again() -> None:
    away = StowDestination(stow_url="http://127.0.0.1:1/")
    with pytest.raises(DestinationUnreachable, match=r"does not answer \(NewConnectionError\)"):
        stow.send(FILES, away, name="web")


@pytest.mark.parametrize(
    ("status", "level", "text"),
    [
        (200, "ok", "DICOMweb answers"),
        (204, "ok", "DICOMweb answers"),
        (405, "warning", "whether it takes results, the first one shows"),
        (404, "error", "is stow_url right?"),
        (400, "error", "answered 400 to a search"),
    ],
)
def test_check_asks_for_a_study_that_nobody_has(server: Server, status: int, level: str, text: str) -> None:
    server.status, server.data = status, b"" if status == 204 else b"[]"
    settings = Settings(destinations={"web": server.destination(username="u", password="p")})
    clear, found = check._web_servers(settings)
    assert (clear.level, clear.text) == ("warning", "its login goes over the network in the clear: use https")
    assert (found.what, found.level) == ("destination web", level)
    assert text in found.text
    assert server.seen[-1][:2] == ("GET", "/dicom-web/studies?StudyInstanceUID=2.25.0&limit=1")
