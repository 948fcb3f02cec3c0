"""Each answer of Orthanc about another node becomes one of three: sent, try again with the reason, or a person's matter.

What Orthanc 1.10.1 really answers is tested in tests/integration/test_destinations.py.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from medai.router.delivery.dicom_node import send
from medai.router.errors import DestinationUnreachable, OrthancUnreachable, PermanentError
from medai.router.orthanc.client import Orthanc
from medai.router.settings.destinations import DicomDestination
from medai.router.settings.tables import OrthancSettings

SECRET = "Plantedname"
STORE, COMMIT, REPORT = "/modalities/P/store", "/modalities/P/storage-commitment", "/storage-commitment/1.2"
STORED = (200, {"FailedInstancesCount": 0})
ASKED = (200, {"ID": "1.2"})
PENDING = (200, {"Status": "Pending"})


def failure(details: str, code: int = 9, status: int = 500) -> tuple[int, Any]:
    return status, {"OrthancStatus": code, "Details": details, "HttpStatus": status}


class Fake(ThreadingHTTPServer):
    """Answers each path with what ``answers`` has for it: one after the other, the last again and again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, list[tuple[int, Any]]] = {}
        self.seen: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Fake

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append(self.path)
        waiting = self.server.answers[self.path]
        status, value = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST  # noqa: N815 - the base class names it so

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Silence."""


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def deliver(fake: Fake, *, pauses: list[float] | None = None, **settings: Any) -> str:
    waited = [] if pauses is None else pauses
    orthanc = Orthanc(OrthancSettings(url=f"http://127.0.0.1:{fake.server_port}"))
    try:
        return send(orthanc, DicomDestination(modality="P", **settings), iter("abc"), pause=waited.append)
    finally:
        orthanc.close()


@pytest.mark.parametrize(
    ("said", "ours"),
    [
        ('C-STORE SCU to AET "P" has failed with DIMSE status 0xA700', r"status 0xA700 \(out of resources\)"),
        ("failed with DIMSE status 0xA900", r"status 0xA900 \(data set does not match its class\)"),
        ("failed with DIMSE status 0xC123", r"status 0xC123 \(cannot understand\)"),
        ("failed with DIMSE status 0x0110", "status 0x0110$"),
        ("TCP Initialization Error: Connection refused", "cannot be reached"),
        ("DUL Association Rejected", "rejected the association"),
        ("Unable to negotiate a presentation context with AET", "accepts no objects of this kind"),
        ("DUL network read timeout", "did not answer in time"),
        ("Peer aborted Association (or never connected): Abort", "broke off the association"),
        (f"something about {SECRET}", "did not accept the results$"),
    ],
)
def test_a_failed_c_store_is_temporary_in_our_own_words(fake: Fake, said: str, ours: str) -> None:
    fake.answers = {STORE: [failure(said + f" {SECRET}" * ("DIMSE" in said))]}
    with pytest.raises(DestinationUnreachable, match=f"DICOM destination P .*{ours}") as caught:
        deliver(fake)
    assert SECRET not in str(caught.value)
    assert fake.seen == [STORE]


@pytest.mark.parametrize(
    "answer", [(502, b"<html>proxy</html>"), (503, b""), failure("The database is locked", code=11), (200, b"{")]
)
def test_what_orthanc_itself_or_a_proxy_failed_at_is_not_laid_at_the_nodes_door(
    fake: Fake, answer: tuple[int, Any]
) -> None:
    for path in (STORE, COMMIT, REPORT):
        fake.answers = {STORE: [STORED], COMMIT: [ASKED], REPORT: [PENDING]} | {path: [answer]}
        with pytest.raises(OrthancUnreachable, match="Orthanc at"):
            deliver(fake)


def test_a_node_that_was_taken_for_none_is_offered_nothing_where_orthanc_does_not_describe_errors(fake: Fake) -> None:
    fake.answers = {STORE: [STORED], COMMIT: [(500, b"")]}
    assert deliver(fake) == "C-STORE success, no storage commitment offered"


def test_a_node_that_goes_away_between_c_store_and_commitment_is_asked_again_later(fake: Fake) -> None:
    fake.answers = {STORE: [STORED], COMMIT: [failure("TCP Initialization Error: Connection refused")]}
    with pytest.raises(DestinationUnreachable, match="P cannot be reached"):
        deliver(fake)


def test_a_report_is_waited_for_with_growing_pauses(fake: Fake) -> None:
    done = (200, {"Status": "Success", "Success": [{}, {}, {}], "Failures": []})
    fake.answers = {STORE: [STORED], COMMIT: [ASKED], REPORT: [*[PENDING] * 8, done]}
    pauses: list[float] = []
    assert deliver(fake, pauses=pauses) == "C-STORE success, storage committed for 3 objects"
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_an_orthanc_that_was_restarted_forgets_the_commitment_and_is_asked_again_later(fake: Fake) -> None:
    fake.answers = {STORE: [STORED], COMMIT: [ASKED], REPORT: [failure("No storage commitment", 7, 404)]}
    with pytest.raises(OrthancUnreachable, match="was restarted and lost a storage commitment"):
        deliver(fake)


def test_a_reason_without_a_name_is_told_by_its_number(fake: Fake) -> None:
    report = {"Status": "Failure", "Success": [{}], "Failures": [{"FailureReason": 0xC001}, {"FailureReason": 0x0213}]}
    fake.answers = {STORE: [STORED], COMMIT: [ASKED], REPORT: [(200, report)]}
    with pytest.raises(DestinationUnreachable, match=r"1 of 3 objects \(1 out of resources \(0x0213\), 1 0xC001\)"):
        deliver(fake)


def test_a_wrong_login_at_orthanc_is_told_as_such(fake: Fake) -> None:
    fake.answers = {STORE: [(401, b"")]}
    with pytest.raises(PermanentError, match=r"answered 401 .*check \[orthanc\] username and password"):
        deliver(fake)
