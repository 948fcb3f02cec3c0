"""A connection that Orthanc lets go of costs a read nothing; a write is never sent twice, half an answer never taken."""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from medai.router.errors import OrthancBroke, OrthancUnreachable
from medai.router.orthanc.client import Orthanc
from medai.router.orthanc.transport import KEPT_S, reads
from medai.router.settings.tables import OrthancSettings

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n[{"ID": "a"}]'


def request_on(connection: socket.socket) -> bytes:
    """One request, with the body that its header announces."""
    data = b""
    while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < announced(data):
        part = connection.recv(65536)
        if not part:
            break
        data += part
    return data


def announced(request: bytes) -> int:
    found = re.search(rb"content-length: (\d+)", request, re.IGNORECASE)
    return int(found.group(1)) if found else 0


class Lines:
    """A server whose connections each do the steps of a script; ``asked``: what came whole, by connection."""

    def __init__(self, *scripts: list[str]) -> None:
        self.scripts = list(scripts)
        self.asked: list[list[bytes]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.port = self._listener.getsockname()[1]

    def _serve(self) -> None:
        for left, script in reversed(list(enumerate(reversed(self.scripts)))):
            try:
                connection, _ = self._listener.accept()
            except OSError:  # the test has seen enough
                return
            if not left:  # before the last one ends: the kernel would take one more in until then
                self._listener.close()
            with connection:
                asked: list[bytes] = []
                self.asked.append(asked)
                self._play(connection, script, asked)

    @staticmethod
    def _play(connection: socket.socket, script: list[str], asked: list[bytes]) -> None:
        for step in script:
            select.select([connection], [], [], 5)
            if step == "drop unread":  # the bytes that nobody read make it a reset
                return
            asked.append(request_on(connection))
            if step == "drop":
                return
            if step == "answer":
                connection.sendall(ANSWER)
            else:
                cut = {"in the status": 9, "in a header": 25, "between headers": 17, "in the body": len(ANSWER) - 4}[
                    step
                ]
                connection.sendall(ANSWER[:cut])
                return

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def served() -> Iterator[Callable[..., tuple[Orthanc, Lines]]]:
    """``served(script, ...)``: a client, and the server that plays a script on each of its connections in turn."""
    open_: list[Any] = []

    def serve(*scripts: list[str], **settings: Any) -> tuple[Orthanc, Lines]:
        lines = Lines(*scripts)
        client = Orthanc(OrthancSettings(url=f"http://127.0.0.1:{lines.port}", timeout_s=5, **settings))
        open_.extend((client, lines))
        return client, lines

    yield serve
    for each in open_:
        each.close()


Serve = Callable[..., tuple[Orthanc, Lines]]
LOST = pytest.mark.parametrize("lost", ["drop unread", "drop"])


@LOST
def test_a_read_on_a_kept_connection_that_ends_without_an_answer_is_sent_again_at_once(
    served: Serve, lost: str
) -> None:
    orthanc, lines = served(["answer", lost], ["answer"])
    assert orthanc.get("/series") == [{"ID": "a"}]
    begun = time.monotonic()
    assert orthanc.get("/series") == [{"ID": "a"}]
    assert time.monotonic() - begun < 2
    assert [len(asked) for asked in lines.asked][1] == 1


@LOST
@pytest.mark.parametrize("path", ["/tools/bulk-content", "/tools/find"])
def test_a_question_that_is_asked_by_post_is_sent_again_with_its_body(served: Serve, lost: str, path: str) -> None:
    orthanc, lines = served(["answer", lost], ["answer"])
    orthanc.get("/series")
    assert orthanc.post(path, {"Resources": ["a"]}) == [{"ID": "a"}]
    assert lines.asked[1][0].endswith(b'{"Resources": ["a"]}')


@LOST
@pytest.mark.parametrize(("method", "path"), [("POST", "/instances"), ("DELETE", "/studies/a"), ("PUT", "/x")])
def test_what_changes_something_is_never_sent_twice(served: Serve, lost: str, method: str, path: str) -> None:
    orthanc, lines = served(["answer", lost], ["answer"])
    orthanc.get("/series")
    with pytest.raises(OrthancBroke, match="does not answer"):
        orthanc.request(method, path, body=b"DICM")
    assert len(lines.asked) == 1


@LOST
def test_a_new_connection_that_ends_without_an_answer_is_a_fault_and_not_tried_again(served: Serve, lost: str) -> None:
    orthanc, lines = served([lost], ["answer"])
    with pytest.raises(OrthancBroke, match="does not answer"):
        orthanc.get("/series")
    assert len(lines.asked) == 1


@LOST
def test_it_is_sent_again_once_and_no_more(served: Serve, lost: str) -> None:
    orthanc, lines = served(["answer", lost], [lost], ["answer"])
    orthanc.get("/series")
    with pytest.raises(OrthancBroke, match="does not answer"):
        orthanc.get("/series")
    assert len(lines.asked) == 2


@pytest.mark.parametrize("before", [[], ["answer"]])
@pytest.mark.parametrize("cut", ["in the status", "in a header", "between headers", "in the body"])
def test_half_an_answer_is_never_taken_for_a_whole_one(served: Serve, before: list[str], cut: str) -> None:
    orthanc, lines = served([*before, cut], ["answer"])
    for _ in before:
        orthanc.get("/series")
    with pytest.raises(OrthancBroke):
        orthanc.file("a")
    assert len(lines.asked) == 1, "its first byte has come: the caller decides what to do"


def test_an_archive_that_is_gone_by_then_is_away(served: Serve) -> None:
    orthanc, _ = served(["answer", "drop"])
    orthanc.get("/series")
    with pytest.raises(OrthancUnreachable) as caught:
        orthanc.get("/series")
    assert not isinstance(caught.value, OrthancBroke)


def test_a_connection_unused_for_long_is_opened_anew(served: Serve) -> None:
    orthanc, lines = served(["answer", "answer", "answer"], ["answer"])
    orthanc.get("/series")
    orthanc.get("/series")
    time.sleep(KEPT_S + 0.1)
    orthanc.request("DELETE", "/studies/a")
    assert [len(list(filter(None, asked))) for asked in lines.asked] == [2, 1]


@pytest.mark.parametrize(
    ("method", "url", "harmless"),
    [
        ("GET", "/studies", True),
        ("HEAD", "/studies", True),
        ("POST", "/orthanc/tools/find?x=1", True),
        ("POST", "/tools/lookup", True),
        ("POST", "/tools/bulk-modify", False),
        ("POST", "/instances", False),
        ("DELETE", "/studies/a", False),
        ("PUT", "/tools/find", False),
    ],
)
def test_what_changes_nothing_is_known_by_method_and_path(method: str, url: str, harmless: bool) -> None:
    assert reads(method, url) is harmless
