"""MLLP, the frame around an HL7 message on a TCP stream, and a client that sends one message and reads its answer.

A frame is ``0B message 1C 0D`` (HL7 v2, Transport Specification: MLLP, release 1). ``Frames`` takes a stream apart, for
the client here and the listener alike. Next: listener.py (the listener), messages.py (what is inside).
"""

from __future__ import annotations

import socket
import ssl
import time

from medai.router.errors import RisUnreachable

START = b"\x0b"
END = b"\x1c"
SIZE_LIMIT = 8 * 1024 * 1024
_CHUNK = 65536


class FrameTooLong(ValueError):
    """A message is longer than the limit; the rest of the stream can't be trusted."""


class Frames:
    """Takes a stream of bytes apart into messages, however it is cut.

    Bytes between frames are dropped. A start byte inside a message begins a new one: its sender gave up on the first.
    The carriage return after the end byte may be missing.
    """

    def __init__(self, limit: int = SIZE_LIMIT) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._inside = False

    @property
    def inside(self) -> bool:
        """True while a message has begun and not ended."""
        return self._inside

    @property
    def held_bytes(self) -> int:
        """Bytes of the message that has begun and not ended."""
        return len(self._buffer)

    def forget(self) -> None:
        """Let go of what was kept: a traceback may keep this object for a while."""
        self._buffer = bytearray()
        self._inside = False

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that end in ``data``; raises FrameTooLong."""
        messages: list[bytes] = []
        while data:
            if not self._inside:
                _, start, data = data.partition(START)
                self._inside = bool(start)
                continue
            head, end, rest = data.partition(END)
            _, start, last = head.rpartition(START)
            if start:
                self._buffer.clear()
                head = last
            self._buffer += head
            if len(self._buffer) > self._limit:
                raise FrameTooLong(f"a message is longer than {self._limit} bytes")
            if end:
                messages.append(bytes(self._buffer))
                self._buffer.clear()
                self._inside = False
            data = rest
        return messages


def frame(message: bytes) -> bytes:
    """A message in its MLLP frame."""
    return START + message + END + b"\r"


def send(message: bytes, *, host: str, port: int, timeout_s: float, tls: ssl.SSLContext | None = None) -> bytes:
    """Send one message on a connection of its own and return the answer, without its frame.

    ``timeout_s`` bounds the whole exchange. Raises RisUnreachable when there is no connection, no answer in time, or an
    answer that is not MLLP. Whether the answer belongs to the message (MSA-2) is for the caller to check.
    """
    peer = f"the RIS at {host}:{port}"
    deadline = time.monotonic() + timeout_s
    try:
        with socket.create_connection((host, port), timeout=max(timeout_s, 0.001)) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with tls.wrap_socket(plain, server_hostname=host) if tls else plain as connection:
                connection.settimeout(_remaining_s(deadline))
                connection.sendall(frame(message))
                return _answer(connection, peer, deadline)
    except TimeoutError as error:
        raise RisUnreachable(f"{peer} did not answer within {timeout_s:g} s") from error
    except ssl.SSLError as error:
        raise RisUnreachable(f"{peer}: TLS failed ({error.reason or 'connection broken'})") from error
    except OSError as error:
        raise RisUnreachable(f"{peer} cannot be reached ({error.strerror or type(error).__name__})") from error


def _answer(connection: socket.socket, peer: str, deadline: float) -> bytes:
    frames = Frames()
    begun = False
    while True:
        connection.settimeout(_remaining_s(deadline))
        data = connection.recv(_CHUNK)
        if not data:
            raise RisUnreachable(f"{peer} closed the connection without an acknowledgement")
        if not begun and not data.lstrip(b"\r\n").startswith(START) and data.strip(b"\r\n"):
            raise RisUnreachable(f"{peer} answered something that is not MLLP")
        begun = begun or START in data
        try:
            messages = frames.feed(data)
        except FrameTooLong as error:
            raise RisUnreachable(f"{peer} answered more than {SIZE_LIMIT} bytes") from error
        if messages:
            return messages[0]


def _remaining_s(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
