"""MLLP: HL7 messages over TCP, each between 0x0B and 0x1C 0x0D (HL7 v2.5.1 appendix C, transport MLLP release 1).

``Framer`` finds the messages and does no I/O; ``MllpServer`` answers them one at a time on each connection;
``exchange`` sends one message and waits for its reply.
Next: receiver.py (what is answered), order_sender.py (who sends).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from dataclasses import dataclass
from typing import Protocol

import structlog

START = b"\x0b"
END = b"\x1c\x0d"
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
READ_BYTES = 64 * 1024

log = structlog.get_logger()


class MllpError(Exception):
    """No usable reply came; sending the identical bytes again is safe."""


class FrameTooLongError(Exception):
    """A message grew beyond the limit; ``head`` is how it began."""

    def __init__(self, head: bytes) -> None:
        super().__init__("message longer than the limit")
        self.head = head


def frame(payload: bytes) -> bytes:
    """Wrap a message for the wire."""
    return START + payload + END


class Framer:
    """Cuts a byte stream into messages, however it was split on its way.

    Bytes outside a frame are dropped and counted in ``skipped``. A start mark inside a message means that its
    sender began anew: what came before is dropped as well.
    """

    def __init__(self, limit: int = MAX_MESSAGE_BYTES) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._inside = False
        self._scanned = 0
        self.skipped = 0

    @property
    def partial(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._inside

    def feed(self, data: bytes) -> list[bytes]:
        """Take what arrived and return the messages that are whole; raises FrameTooLongError."""
        self._buffer += data
        messages: list[bytes] = []
        while self._find_start() and (message := self._find_end()) is not None:
            messages.append(message)
        return messages

    def _find_start(self) -> bool:
        if self._inside:
            return True
        at = self._buffer.find(START)
        dropped = len(self._buffer) if at < 0 else at
        self.skipped += len(bytes(self._buffer[:dropped]).strip(b"\r\n"))
        del self._buffer[: dropped if at < 0 else at + 1]
        self._inside = at >= 0
        self._scanned = 0
        return self._inside

    def _find_end(self) -> bytes | None:
        end = self._buffer.find(END, self._scanned)
        restart = self._buffer.rfind(START, self._scanned, end if end >= 0 else len(self._buffer))
        if restart >= 0:
            self.skipped += restart
            del self._buffer[: restart + 1]
            self._scanned = 0
            end = self._buffer.find(END)
        if (end if end >= 0 else len(self._buffer)) > self._limit:
            raise FrameTooLongError(bytes(self._buffer[:4096]))
        if end < 0:
            self._scanned = max(0, len(self._buffer) - 1)  # the end mark may be split in two
            return None
        message = bytes(self._buffer[:end])
        del self._buffer[: end + len(END)]
        self._inside = False
        return message


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What goes back on the wire (framing included, so that a test fault can send anything)."""

    wire: bytes = b""
    close: bool = False
    """Close the connection afterwards."""


class Handler(Protocol):
    """What answers messages."""

    async def answer(self, raw: bytes) -> Reply:
        """The reply to one message."""

    def refuse_too_long(self, head: bytes) -> Reply:
        """The reply to a message that was too long to be read; ``head`` is how it began."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a connection may ask of us."""

    message_bytes: int = MAX_MESSAGE_BYTES
    idle_s: float = 600.0
    """A connection on which nothing is said for this long is closed."""
    partial_s: float = 30.0
    """A message that has begun must go on within this time."""
    write_s: float = 30.0
    connections: int = 256


class MllpServer:
    """Listens on one socket; each connection has at most one message in work."""

    def __init__(self, handler: Handler, *, limits: Limits | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._handler = handler
        self._limits = limits or Limits()
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._idle: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def ready(self) -> bool:
        """Whether it takes connections."""
        return self._server is not None and self._server.is_serving()

    async def start(self, listener: socket.socket) -> None:
        """Serve a socket that is bound already."""
        self._server = await asyncio.start_server(self._connected, sock=listener, ssl=self._tls)

    async def stop(self, grace_s: float = 5.0) -> None:
        """Take no new connection, let messages in work be answered, close the rest."""
        self._closing = True
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._idle):
            writer.close()
        if self._tasks:
            _, late = await asyncio.wait(tuple(self._tasks), timeout=grace_s)
            for task in late:
                task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._tasks) >= self._limits.connections:
            log.warning("mllp_connection_refused", open_connections=len(self._tasks))
            writer.close()
            return
        self._tasks.add(task)
        try:
            await self._converse(reader, writer)
        except (OSError, ssl.SSLError, TimeoutError) as error:
            log.info("mllp_connection_lost", error=type(error).__name__)
        finally:
            self._tasks.discard(task)
            self._idle.discard(writer)
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 5)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        framer = Framer(self._limits.message_bytes)
        while not self._closing:
            data = await self._read(reader, writer, framer.partial)
            if not data:
                break  # the other side said all it will; replies to what it said have been sent
            try:
                messages = framer.feed(data)
            except FrameTooLongError as error:
                log.warning("mllp_message_too_long", limit_bytes=self._limits.message_bytes)
                await self._send(writer, self._handler.refuse_too_long(error.head))
                return
            for raw in messages:
                if not await self._send(writer, await self._handler.answer(raw)):
                    return
        if framer.partial or framer.skipped:
            log.warning("mllp_bytes_dropped", outside_frames=framer.skipped, unfinished=framer.partial)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, partial: bool) -> bytes:
        self._idle.add(writer)
        try:
            wait_s = self._limits.partial_s if partial else self._limits.idle_s
            return await asyncio.wait_for(reader.read(READ_BYTES), wait_s)
        finally:
            self._idle.discard(writer)

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply) -> bool:
        """Whether the connection stays open."""
        if reply.wire:
            writer.write(reply.wire)
            await asyncio.wait_for(writer.drain(), self._limits.write_s)
        return not reply.close


async def exchange(
    host: str, port: int, payload: bytes, *, timeout_s: float = 10.0, tls: ssl.SSLContext | None = None
) -> bytes:
    """Send one message and return its reply, unframed; raises MllpError. The connection is closed afterwards."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _exchange(host, port, payload, tls)
    except TimeoutError as error:
        raise MllpError(f"no reply within {timeout_s:g} s") from error
    except FrameTooLongError as error:
        raise MllpError("the reply is too long") from error
    except (OSError, ssl.SSLError) as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else type(error).__name__
        raise MllpError(f"connection failed: {reason}") from error


async def _exchange(host: str, port: int, payload: bytes, tls: ssl.SSLContext | None) -> bytes:
    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    try:
        writer.write(frame(payload))
        await writer.drain()
        framer = Framer()
        while data := await reader.read(READ_BYTES):
            if replies := framer.feed(data):
                return replies[0]
        raise MllpError("the connection was closed without a reply")
    finally:
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 2)
