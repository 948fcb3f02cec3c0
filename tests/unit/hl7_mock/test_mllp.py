"""Framing: however the bytes were split, the same messages come out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medai.hl7_mock.mllp import Framer, FrameTooLongError, frame

STREAM = frame(b"MSH|one") + b"\r\n" + frame(b"MSH|two\rPID|x") + frame(b"")


def test_a_stream_split_at_any_byte_gives_the_same_messages() -> None:
    for cut in range(len(STREAM) + 1):
        framer = Framer()
        got = framer.feed(STREAM[:cut]) + framer.feed(STREAM[cut:])
        assert got == [b"MSH|one", b"MSH|two\rPID|x", b""], cut
        assert not framer.partial
        assert framer.skipped == 0


def test_a_stream_that_comes_byte_by_byte_gives_the_same_messages() -> None:
    framer = Framer()
    got = [message for byte in STREAM for message in framer.feed(bytes([byte]))]
    assert got == [b"MSH|one", b"MSH|two\rPID|x", b""]


def test_bytes_outside_frames_are_dropped_and_counted() -> None:
    framer = Framer()
    assert framer.feed(b"GET / HTTP/1.1" + frame(b"MSH|a")) == [b"MSH|a"]
    assert framer.skipped == 14


def test_a_start_mark_inside_a_message_begins_it_anew() -> None:
    for cut in range(1, 14):
        stream = b"\x0bMSH|bro" + frame(b"MSH|whole")
        framer = Framer()
        assert framer.feed(stream[:cut]) + framer.feed(stream[cut:]) == [b"MSH|whole"]


def test_an_end_mark_without_its_carriage_return_does_not_end_a_message() -> None:
    assert Framer().feed(b"\x0bMSH|a\x1cb\x1c\r") == [b"MSH|a\x1cb"]


@pytest.mark.parametrize("ended", [b"", b"\x1c\r"])
def test_a_message_beyond_the_limit_is_an_error_that_shows_its_head(ended: bytes) -> None:
    with pytest.raises(FrameTooLongError) as caught:
        Framer(limit=100).feed(b"\x0bMSH|" + b"x" * 200 + ended)
    assert caught.value.head.startswith(b"MSH|x")


def test_garbage_without_end_needs_no_memory() -> None:
    framer = Framer(limit=100)
    for _ in range(100):
        assert framer.feed(b"y" * 1000) == []
    assert framer.skipped == 100_000
    assert not framer.partial


@given(st.lists(st.binary(max_size=40)), st.randoms())
def test_any_bytes_in_any_pieces_never_break_the_framer(pieces: list[bytes], dice: object) -> None:
    framer = Framer(limit=10_000)
    for piece in pieces:
        for message in framer.feed(piece):
            assert b"\x0b" not in message
    got = framer.feed(frame(b"MSH|after"))
    assert got[-1:] == [b"MSH|after"]
