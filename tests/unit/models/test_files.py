"""A file is read whole or refused with a reason, and written whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from medai.models.errors import ModelUnavailable
from medai.models.files import json_object, sha256_of, whole


def test_an_object_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"ä": [1]}', encoding="utf-8")
    assert json_object(tmp_path / "a.json") == {"ä": [1]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "a.json is missing or not JSON"),
        (b"{", "a.json is missing or not JSON"),
        (b'{"a": "\xff"}', "a.json is missing or not JSON"),
        (b"[1]", "a.json must hold a JSON object"),
        (b"null", "a.json must hold a JSON object"),
    ],
)
def test_anything_else_is_a_plain_reason(content: bytes | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ModelUnavailable, match=words):
        json_object(tmp_path / "a.json")


def test_a_writer_that_fails_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with whole(path) as place:
        place.write_text("old")
        assert not path.exists(), "not before it is whole"

    def half(place: Path) -> None:
        place.write_text("ne")
        raise OSError("full")

    with pytest.raises(OSError, match="full"), whole(path) as place:
        half(place)
    assert path.read_text() == "old"


def test_the_hash_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
