"""An answer of a DICOMweb server is what was asked for, or none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from medai.router.delivery import web
from medai.router.errors import DestinationUnreachable
from medai.router.settings.outside import OutsideSettings
from medai.workers.outside.dicomweb import Server

KIND = 'multipart/related; type="application/dicom"; boundary=mark'


@pytest.fixture
def server() -> Server:
    return Server("theirs", OutsideSettings(stow_url="http://127.0.0.1:1/dicom-web"))


def answering(monkeypatch: pytest.MonkeyPatch, data: bytes, *, status: int = 200, kind: str = KIND) -> None:
    def request(*_args: Any, **_more: Any) -> web.Answer:
        return web.Answer(status=status, headers={"Content-Type": kind}, data=data)

    monkeypatch.setattr(web, "request", request)


def part(content: bytes) -> bytes:
    return b"--mark\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n"


def test_the_one_part_is_what_was_asked_for_byte_for_byte(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"\x00\r\n\r\nDICM\r\n" * 3
    answering(monkeypatch, part(content) + b"--mark--\r\n")
    assert server.object("1", "2", "3") == content


@pytest.mark.parametrize(
    "data", [b"", b"--mark--", part(b"a"), part(b"a") + part(b"b") + b"--mark--", b"no parts at all"]
)
def test_none_several_or_half_a_part_is_no_answer(server: Server, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    answering(monkeypatch, data)
    with pytest.raises(DestinationUnreachable, match="no answer to WADO-RS"):
        server.object("1", "2", "3")


def test_objects_are_told_by_their_uids_and_by_nothing_else(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    told = [{"00080018": {"vr": "UI", "Value": ["1.2"]}, "0020000E": {"vr": "UI", "Value": ["1.3"]}}]
    answering(monkeypatch, json.dumps(told).encode())
    assert server.objects("1") == {"1.2": "1.3"}
    answering(monkeypatch, b"", status=204)
    assert server.objects("1") == {}
    told[0]["00080018"]["Value"] = ["../../../patients"]
    for data in (json.dumps(told).encode(), b"[{}]", b"{", b"7"):
        answering(monkeypatch, data)
        with pytest.raises(DestinationUnreachable, match="no answer to QIDO-RS"):
            server.objects("1")
