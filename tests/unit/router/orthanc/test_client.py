"""What goes wrong between us and Orthanc is told apart: away (try again) or refused (do not), and no patient named."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from medai.router.contract import orthanc_id
from medai.router.errors import OrthancBroke, OrthancRefused, OrthancUnreachable, PermanentError
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import OrthancSettings

PATIENT = "1.2.840.99999.planted"


class Fake(ThreadingHTTPServer):
    """Answers every request by ``script`` and remembers what was asked."""

    daemon_threads = True
    script: Callable[[BaseHTTPRequestHandler], None]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str, bytes]] = []
        self.headers: list[dict[str, str]] = []
        self.release = threading.Event()

    def client(self, **settings: Any) -> Orthanc:
        return Orthanc(OrthancSettings(url=f"http://127.0.0.1:{self.server_port}/", **settings))

    def hold(self) -> None:
        self.release.wait(5)

    def answers(self, value: Any, status: int = 200) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.script = lambda handler: reply(handler, data, status)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Fake

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, body))
        self.server.headers.append(dict(self.headers))
        self.server.script(self)

    do_POST = do_GET  # noqa: N815 - the base class names it so

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Silence."""


def reply(handler: BaseHTTPRequestHandler, data: bytes, status: int = 200, *, length: int | None = None) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data) if length is None else length))
    handler.end_headers()
    handler.wfile.write(data)
    handler.close_connection = length is not None


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def orthanc(fake: Fake) -> Iterator[Orthanc]:
    client = fake.client()
    yield client
    client.close()


def test_orthancs_ids_are_sha1_in_five_groups() -> None:
    assert orthanc_id("P", "1.2") == "38213a87-6c701570-228f8693-27cc2a0f-f5f6ede7"
    assert orthanc_id("P", "1.2", "1.2.3") != orthanc_id("P", "1.2")


@pytest.mark.parametrize("status", [500, 502, 503, 507])
def test_a_server_error_is_temporary_and_asked_once(fake: Fake, orthanc: Orthanc, status: int) -> None:
    fake.answers({}, status)
    with pytest.raises(OrthancUnreachable, match=f"answered {status}"):
        orthanc.study(PATIENT)
    assert len(fake.seen) == 1


@pytest.mark.parametrize("status", [400, 404, 409, 415])
def test_a_client_error_is_permanent_and_names_the_kind_of_resource_only(
    fake: Fake, orthanc: Orthanc, status: int
) -> None:
    fake.answers({"Details": PATIENT}, status)
    with pytest.raises(OrthancRefused, match=f"answered {status} for a request to /studies$") as caught:
        orthanc.study(PATIENT)
    assert caught.value.status == status
    assert PATIENT not in str(caught.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_login_says_what_to_check_and_not_the_password(fake: Fake, status: int) -> None:
    client = fake.client(username="user", password="planted-secret")
    fake.answers({}, status)
    with pytest.raises(OrthancRefused, match=r"check \[orthanc\] username and password") as caught:
        client.system()
    assert "planted" not in str(caught.value)
    expected = "Basic " + base64.b64encode(b"user:planted-secret").decode()
    assert fake.headers[0]["authorization"] == expected
    client.close()


def test_without_a_user_no_login_is_sent(fake: Fake, orthanc: Orthanc) -> None:
    fake.answers({"Version": "1.12"})
    assert orthanc.system() == {"Version": "1.12"}
    assert "authorization" not in {name.lower() for name in fake.headers[0]}


def test_an_image_that_was_cut_short_is_never_taken_for_whole(fake: Fake, orthanc: Orthanc) -> None:
    fake.script = lambda handler: reply(handler, b"DICM" * 100, length=4000)
    with pytest.raises(OrthancUnreachable, match="does not answer"):
        orthanc.file("instance")


def test_an_archive_that_is_too_slow_is_away(fake: Fake) -> None:
    client = fake.client(timeout_s=0.1)
    fake.script = lambda _: fake.hold()
    with pytest.raises(OrthancUnreachable, match=r"does not answer \(ReadTimeoutError\)"):
        client.system()
    assert len(fake.seen) == 1
    client.close()


def test_a_closed_port_is_away_and_a_password_in_the_address_is_not_told() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        client = Orthanc(OrthancSettings(url=f"http://user:planted@127.0.0.1:{port}"))
        with pytest.raises(OrthancUnreachable, match=f"Orthanc at 127.0.0.1:{port} does not answer") as caught:
            client.system()
        assert "planted" not in str(caught.value)
        client.close()


@pytest.mark.parametrize("data", [b"", b"{", b"<html>proxy</html>", b"\xff\xfe"])
def test_an_answer_that_is_no_json_is_temporary(fake: Fake, orthanc: Orthanc, data: bytes) -> None:
    fake.answers(data)
    with pytest.raises(OrthancUnreachable, match="sent a broken answer"):
        orthanc.system()


def test_the_change_log_is_read_by_pages_and_its_newest_number_alone(fake: Fake, orthanc: Orthanc) -> None:
    fake.answers({"Changes": [{"Seq": 8}], "Last": 8, "Done": True})
    page = orthanc.changes(7)
    assert (page.changes, page.last, page.done) == (({"Seq": 8},), 8, True)
    assert orthanc.last_change() == 8
    assert [path for _, path, _ in fake.seen] == ["/changes?since=7&limit=1000", "/changes?last"]


def test_series_are_asked_for_in_one_call(fake: Fake, orthanc: Orthanc) -> None:
    fake.answers([{"ID": "s"}])
    assert orthanc.series_of(iter(["a", "b"])) == [{"ID": "s"}]
    ((method, path, body),) = fake.seen
    assert (method, path) == ("POST", "/tools/bulk-content")
    assert json.loads(body)["Resources"] == ["a", "b"]


@pytest.mark.parametrize(("status", "there"), [(200, True), (404, False)])
def test_a_resource_is_there_or_not(fake: Fake, orthanc: Orthanc, status: int, there: bool) -> None:
    fake.answers({}, status)
    assert orthanc.exists("instances", "x") is there


def test_a_refusal_other_than_not_found_does_not_mean_absent(fake: Fake, orthanc: Orthanc) -> None:
    fake.answers({}, 403)
    with pytest.raises(OrthancRefused):
        orthanc.exists("instances", "x")


def test_what_was_stored_is_told_for_a_file_and_for_a_zip(fake: Fake, orthanc: Orthanc) -> None:
    fake.answers({"ID": "i", "Status": "Success"})
    assert orthanc.store(b"DICM") == {"ID": "i", "Status": "Success"}
    fake.answers([{"ID": "i"}, {"ID": "j"}])
    assert orthanc.store(b"PK") == {"Instances": [{"ID": "i"}, {"ID": "j"}]}
    assert [body for _, _, body in fake.seen] == [b"DICM", b"PK"]


def test_a_destination_that_took_only_a_part_is_tried_again(fake: Fake, orthanc: Orthanc) -> None:
    fake.answers({"FailedInstancesCount": 0})
    orthanc.send_to("PACS2", ["a"])
    fake.answers({"FailedInstancesCount": "2"})
    with pytest.raises(OrthancUnreachable, match="PACS2 accepted all but 2"):
        orthanc.send_to("PACS2", ["a", "b", "c"])


@pytest.mark.parametrize(
    ("body", "code"), [({"OrthancStatus": 21}, 21), ({"OrthancStatus": "x"}, 0), (b"no JSON", 0), ([1], 0)]
)
def test_orthancs_own_code_tells_a_bad_file_from_a_wrong_address(fake: Fake, body: Any, code: int) -> None:
    fake.answers(body, 404)
    with pytest.raises(OrthancRefused) as caught:
        fake.client().store(b"a picture")
    assert (caught.value.status, caught.value.code) == (404, code)


def test_an_orthanc_that_fails_on_a_request_is_told_from_one_that_is_away(fake: Fake) -> None:
    fake.answers({}, 500)
    with pytest.raises(OrthancBroke):
        fake.client().system()
    fake.script = lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(OrthancBroke):
        fake.client().system()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(OrthancUnreachable) as caught:
        Orthanc(OrthancSettings(url=f"http://127.0.0.1:{port}")).system()
    assert not isinstance(caught.value, OrthancBroke)


def test_an_answer_that_is_nested_too_deeply_is_final(fake: Fake) -> None:
    fake.answers(b"[" * 100_000 + b"]" * 100_000)
    with pytest.raises(PermanentError, match="nested too deeply"):
        fake.client().system()


def test_the_objects_of_a_study_are_named_and_one_that_is_gone_has_none(fake: Fake, orthanc: Orthanc) -> None:
    fake.answers([{"ID": "a", "MainDicomTags": {"SOPInstanceUID": "1.9.1"}}, {"ID": "b", "MainDicomTags": {}}])
    assert orthanc.sop_uids("study") == {"1.9.1", ""}
    assert fake.seen[-1][1] == "/studies/study/instances?expand"
    fake.answers({"HttpStatus": 404}, status=404)
    assert orthanc.sop_uids("study") == frozenset()
    fake.answers({}, status=403)
    with pytest.raises(OrthancRefused):
        orthanc.sop_uids("study")
