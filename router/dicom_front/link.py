"""One side of a connection that is passed on: first its opening alone, then every byte to the other side.

No more is read than the other side takes, so that memory stays flat however slow one of them is. Next: relay.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from medai.router.dicom_front.pdu import BadPdu, Opening, Request

_OPENING_CHUNK = 4 * 1024
_CHUNK = 256 * 1024
MOVED_BYTES = 4 * 1024
"""So many bytes are worth a place at the archive: a byte now and then, or a C-ECHO, is not."""


class Link(asyncio.BufferedProtocol):
    """A connection: that of whoever calls (with ``opening``), or ours to the archive."""

    def __init__(self, opening: Opening | None = None, heard: Callable[[int], None] | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._opening = opening
        self._heard = heard
        self._room = memoryview(bytearray(_OPENING_CHUNK if opening else _CHUNK))
        self._other: Link | None = None
        self._transport: asyncio.Transport | None = None
        self.request: asyncio.Future[Request] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()
        self.heard_at = time.monotonic()
        self.moved: Callable[[], None] | None = None
        """Called each time that ``worth`` bytes have come."""
        self.worth = MOVED_BYTES
        self._came = 0

    def join(self, other: Link) -> None:
        """From now on whatever comes goes to the other side."""
        if self._opening is not None:
            self._room, self._opening = memoryview(bytearray(_CHUNK)), None
        self._other = other
        if self._transport is not None:
            self._transport.resume_reading()

    def ignore(self) -> None:
        """Read on, of what nobody needs: what lies unread would take back what was said (a reset)."""
        self._opening = self._other = None
        if self._transport is not None:
            self._transport.resume_reading()

    def say(self, data: bytes) -> None:
        """Send something of our own, unless it has ended."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """End it when all is sent."""
        if self._transport is not None:
            self._transport.close()

    def drop(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._opening is None:
            transport.pause_reading()  # until it is joined

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        if not self.over.done():
            self.over.set_result(None)
        if not self.request.done():
            self.request.cancel()

    def eof_received(self) -> bool:
        """The other end says no more: DICOM knows no half of a connection."""
        return False

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go: of an opening never more than belongs to it."""
        return self._room[: self._opening.missing] if self._opening is not None else self._room

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come."""
        self.heard_at = time.monotonic()
        if self._opening is not None:
            self._open(self._opening, nbytes)
        elif self._other is not None:
            self._came += nbytes
            if self._came >= self.worth and self.moved is not None:
                self._came = 0
                self.moved()
            self._other.say(bytes(self._room[:nbytes]))

    def pause_writing(self) -> None:
        """It does not take what comes from the other side."""
        if self._other is not None and self._other._transport is not None:
            self._other._transport.pause_reading()

    def resume_writing(self) -> None:
        """It does again."""
        if self._other is not None and self._other._transport is not None:
            self._other._transport.resume_reading()

    def _open(self, opening: Opening, size: int) -> None:
        try:
            request = opening.feed(self._room[:size])
        except BadPdu as error:
            self._hold()
            if not self.request.done():
                self.request.set_exception(error)
            return
        if self._heard is not None:
            self._heard(opening.held_bytes)
        if request is not None:
            self._hold()
            if not self.request.done():
                self.request.set_result(request)

    def _hold(self) -> None:
        assert self._transport is not None
        self._transport.pause_reading()
