"""The few calls to an archive: the login is used and never shown, and every answer that is none has its reason."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from medai.training.data.orthanc_cases import Archive
from medai.training.errors import DataError

PASSWORD = "planted@secret"


@pytest.fixture
def archive() -> Iterator[tuple[str, dict[str, Any]]]:
    """An address with a login, and what the server says and was asked."""
    says: dict[str, Any] = {"status": 200, "body": b"[]", "asked": []}

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            says["asked"].append((self.path, self.headers.get("Authorization"), self.rfile.read(length)))
            self.send_response(says["status"])
            self.send_header("Content-Length", str(len(says["body"])))
            self.end_headers()
            self.wfile.write(says["body"])

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://me:planted%40secret@127.0.0.1:{server.server_port}/base/", says
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_login_of_the_url_is_sent_and_is_no_part_of_the_address(archive: tuple[str, dict[str, Any]]) -> None:
    url, says = archive
    found = Archive(url)
    assert PASSWORD not in found.address
    assert "me" not in found.address
    assert found.find("Series", Modality="SEG") == []
    ((path, login, body),) = says["asked"]
    assert path == "/base/tools/find"
    assert base64.b64decode(login.split()[1]).decode() == f"me:{PASSWORD}"
    assert json.loads(body) == {"Level": "Series", "Query": {"Modality": "SEG"}, "CaseSensitive": True}


def test_a_login_may_come_from_the_environment(
    archive: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, says = archive
    monkeypatch.setenv("MEDAI_ORTHANC__USERNAME", "other")
    monkeypatch.setenv("MEDAI_ORTHANC__PASSWORD", "word")
    Archive("http://" + url.rpartition("@")[2]).get("/system")
    assert base64.b64decode(says["asked"][0][1].split()[1]) == b"other:word"


@pytest.mark.parametrize(
    ("status", "words"), [(401, "refuses the login"), (403, "refuses the login"), (404, "answered 404"), (500, "500")]
)
def test_an_answer_that_is_none_is_told_without_the_login(
    status: int, words: str, archive: tuple[str, dict[str, Any]]
) -> None:
    url, says = archive
    says["status"] = status
    with pytest.raises(DataError, match=words) as told:
        Archive(url).get("/series/x")
    assert PASSWORD not in str(told.value)


def test_an_archive_that_is_not_there_is_told_and_its_url_is_in_no_cause() -> None:
    with pytest.raises(DataError, match=r"the Orthanc at 127.0.0.1:1 does not answer") as told:
        Archive(f"http://me:{PASSWORD.replace('@', '%40')}@127.0.0.1:1").get("/system")
    assert told.value.__cause__ is None


def test_a_damaged_image_is_told(archive: tuple[str, dict[str, Any]]) -> None:
    url, says = archive
    says["body"] = b"no DICOM"
    with pytest.raises(DataError, match="an image of the Orthanc at .* is damaged"):
        Archive(url).file("x")
    says["body"] = b'{"Instances": ["a", "b"]}'
    assert Archive(url).instances("s") == ["a", "b"]
