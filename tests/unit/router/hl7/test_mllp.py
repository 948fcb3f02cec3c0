"""Frames on a stream, and the client against peers that behave and peers that do not."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medai.router.errors import RisUnreachable
from medai.router.hl7.mllp import Frames, FrameTooLong, frame, send


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


contents = st.binary(max_size=40).map(lambda raw: raw.replace(b"\x0b", b"a").replace(b"\x1c", b"b"))


@given(st.lists(contents, max_size=5), st.integers(1, 50))
def test_messages_come_out_whole_however_the_stream_is_cut(messages: list[bytes], size: int) -> None:
    frames = Frames()
    stream = b"".join(frame(message) for message in messages)
    assert [m for part in pieces(stream, size) for m in frames.feed(part)] == messages
    assert not frames.inside


def test_bytes_between_frames_are_dropped_and_the_last_return_may_be_missing() -> None:
    assert Frames().feed(b"junk\x0bA\x1cmore junk\r\n\x0bB\x1c\r") == [b"A", b"B"]


@pytest.mark.parametrize("size", [1, 100])
def test_a_start_inside_a_message_begins_a_new_one(size: int) -> None:
    frames = Frames()
    assert [m for part in pieces(b"\x0bcut off\x0bwhole\x1c\r", size) for m in frames.feed(part)] == [b"whole"]


def test_a_message_over_the_limit_is_refused_while_it_comes() -> None:
    frames = Frames(limit=10)
    assert frames.feed(b"\x0b12345") == []
    assert frames.inside
    with pytest.raises(FrameTooLong):
        frames.feed(b"678901")


@contextmanager
def peer(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server for one connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                behave(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def read_message(connection: socket.socket) -> bytes:
    frames, found = Frames(), []
    while not found:
        found = frames.feed(connection.recv(4096))
    return found[0]


def test_a_message_is_sent_and_its_answer_returned() -> None:
    got: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        got.append(read_message(connection))
        for part in pieces(frame(b"MSH|ACK"), 3):
            connection.sendall(part)

    with peer(behave) as port:
        assert send(b"MSH|ORU" * 30000, host="127.0.0.1", port=port, timeout_s=10) == b"MSH|ACK"
    assert got == [b"MSH|ORU" * 30000]


def closes(connection: socket.socket) -> None:
    read_message(connection)


def talks_http(connection: socket.socket) -> None:
    read_message(connection)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def is_silent(connection: socket.socket) -> None:
    read_message(connection)
    connection.recv(1)  # until the client gives up


def never_ends(connection: socket.socket) -> None:
    read_message(connection)
    connection.sendall(b"\x0bMSH")
    connection.recv(1)


@pytest.mark.parametrize(
    ("behave", "timeout_s", "words"),
    [(closes, 10, "closed the connection"), (talks_http, 10, "not MLLP"), (is_silent, 0.1, "did not answer within"),
     (never_ends, 0.1, "did not answer within")],
)  # fmt: skip
def test_a_peer_that_gives_no_acknowledgement_is_unreachable(
    behave: Callable[[socket.socket], None], timeout_s: float, words: str
) -> None:
    with peer(behave) as port, pytest.raises(RisUnreachable, match=words) as caught:
        send(b"MSH|secret", host="127.0.0.1", port=port, timeout_s=timeout_s)
    assert "secret" not in str(caught.value)


def test_a_closed_port_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(RisUnreachable, match="cannot be reached"):
        send(b"MSH|", host="127.0.0.1", port=port, timeout_s=5)


def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    with pytest.raises(RisUnreachable, match="cannot be reached"):
        send(b"MSH|", host="no-such-host.invalid", port=1, timeout_s=5)


def test_a_peer_without_tls_is_unreachable_over_tls() -> None:

    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"this is no TLS")

    with peer(behave) as port, pytest.raises(RisUnreachable, match="TLS failed"):
        send(b"MSH|", host="127.0.0.1", port=port, timeout_s=5, tls=ssl.create_default_context())
