"""A connection from its first byte to its last: weighed, read, let in or refused by the standard's words, passed on.

Idle connections never reach the archive: it hears of one when the whole request for an association is here, and a place
for it is free. Who came first and said nothing goes first (admission.py).
Next: link.py (the bytes), places.py (the archive's places), senders.py (who may).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
import time
from collections import Counter
from dataclasses import dataclass

import structlog

from medai.router import tls
from medai.router.admission import Admission, Guest, group_of
from medai.router.dicom_front import pdu
from medai.router.dicom_front.link import Link
from medai.router.dicom_front.pdu import BadPdu, Opening, Rejection, Request
from medai.router.dicom_front.places import Holder, Places
from medai.router.dicom_front.senders import Senders
from medai.router.settings.dicom_in import DicomInSettings

REQUEST_S = 30.0
"""For a whole request from the connection's first moment, with TLS from the end of its handshake."""
HANDSHAKE_S = 10.0
FAREWELL_S = 2.0
"""Time for a peer to take the last bytes."""
CONNECT_S = 5.0
HELD_LIMIT = 8 * 1024 * 1024
"""Bytes of requests that are not whole, over all connections."""
BACKLOG = 512
log = structlog.get_logger(__name__)


@dataclass(eq=False, kw_only=True)
class _Caller:
    """Who has connected."""

    address: str
    guest: Guest
    link: Link


class Relay:
    """The port before the archive's. ``turned_away`` counts, by reason, who was not let in and who was ended: those of
    admission.py, "not_dicom" (its first PDU is no A-ASSOCIATE-RQ), and "silent" (it gave way to one that waited)."""

    def __init__(
        self, settings: DicomInSettings, *, request_s: float = REQUEST_S, turned_away: Counter[str] | None = None
    ) -> None:
        own = settings.front
        self._own = own
        self._request_s = request_s
        self._senders = Senders(settings)
        self._tls = tls.server_context(settings.tls, where="dicom_in.tls")
        self._admission = Admission(
            allowed=own.allowed_peers,
            total=own.connections,
            of_peer=own.connections_of_peer,
            held_bytes=HELD_LIMIT,
            turned_away=Counter() if turned_away is None else turned_away,
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Until cancelled; raises OSError where the port is taken."""
        self._places = Places(
            total=self._own.associations,
            of_peer=self._own.associations_of_peer,
            silent_s=self._own.spare_after_s,
            clock=time.monotonic,
        )
        server = await asyncio.get_running_loop().create_server(
            lambda: _Arrival(self), self._own.host, self._own.port, backlog=BACKLOG
        )
        log.info("dicom_front_listening", host=self._own.host, port=self._own.port)
        try:
            async with server:
                await server.serve_forever()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- who is there

    def arrived(self, transport: asyncio.Transport) -> None:
        """Weigh a connection before anything is read of it."""
        transport.pause_reading()
        address = str((transport.get_extra_info("peername") or ("",))[0])
        if not address or not self._admission.allows(address):  # it has none where it has gone already
            self._turned_away(address, "peer")
            transport.abort()
            return
        ending: list[asyncio.Task[None]] = []

        def end(reason: str) -> None:
            self._turned_away(address, reason)
            transport.abort()
            ending[0].cancel()

        guest = self._admission.enter(address, time.monotonic(), end)
        if guest is None:
            self._turned_away(address, "limit")
            transport.abort()
            return
        caller = _Caller(address=address, guest=guest, link=self._link(guest))
        task = asyncio.get_running_loop().create_task(self._connection(caller, transport))
        ending.append(task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _link(self, guest: Guest) -> Link:
        def heard(held_bytes: int) -> None:
            now = time.monotonic()
            guest.heard_at = now
            self._admission.hold(guest, held_bytes, now)

        return Link(Opening(), heard)

    def _turned_away(self, address: str, reason: str, **more: str) -> None:
        if self._admission.turn_away(address, reason, time.monotonic()):
            log.warning("dicom_turned_away", peer=address, reason=reason, **more)

    # -- one connection

    async def _connection(self, caller: _Caller, plain: asyncio.Transport) -> None:
        try:
            if await self._opened(caller, plain):
                await self._asked(caller)
        except OSError:
            pass  # either side went away, or spoke no TLS that is taken
        finally:
            self._admission.leave(caller.guest)
            caller.link.drop()
            plain.abort()

    async def _opened(self, caller: _Caller, plain: asyncio.Transport) -> bool:
        """The link is set up, with TLS where the site asks for it."""
        if self._tls is None:
            plain.set_protocol(caller.link)
            caller.link.connection_made(plain)
            plain.resume_reading()
            return True
        transport = await self._secured(self._tls, caller, plain)
        if transport is None:  # it ended meanwhile
            return False
        caller.link.connection_made(transport)
        return True

    async def _secured(
        self, context: ssl.SSLContext, caller: _Caller, plain: asyncio.Transport
    ) -> asyncio.Transport | None:
        try:
            return await asyncio.get_running_loop().start_tls(
                plain, caller.link, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=FAREWELL_S,
            )  # fmt: skip
        except OSError:
            self._turned_away(caller.address, "tls")
            raise

    async def _asked(self, caller: _Caller) -> None:
        """Wait for its request, and answer it."""
        try:
            async with asyncio.timeout(self._request_s):
                request = await _unless_lost(caller.link)
        except TimeoutError:
            self._turned_away(caller.address, "too_long")
            return
        except BadPdu as error:
            self._turned_away(caller.address, "not_dicom")
            await _farewell(caller.link, pdu.abort(error.why))
            return
        if request is None:
            return
        caller.guest.proven = True
        self._admission.hold(caller.guest, 0, time.monotonic())
        refusal = self._senders.refusal(request, caller.address)
        if refusal is not None:
            self._turned_away(caller.address, "sender", calling=request.calling, called=request.called)
            await _farewell(caller.link, pdu.reject(refusal))
            return
        await self._placed(caller, request)

    async def _placed(self, caller: _Caller, request: Request) -> None:
        """With a place at the archive, once there is one."""
        ending: list[str] = []
        over = asyncio.Event()

        def end(reason: str) -> None:
            ending.append(reason)
            over.set()

        holder = Holder(peer=group_of(caller.address), end=end, moved_at=time.monotonic())
        if not await self._places.take(holder, self._own.wait_s):
            self._turned_away(caller.address, "limit")
            await _farewell(caller.link, pdu.reject(Rejection.LOCAL_LIMIT_EXCEEDED))
            return
        caller.guest.busy = True
        try:
            said = await self._associated(caller, request, holder, over)
        finally:
            caller.guest.busy = False
            self._places.give_back(holder)
        if ending:
            self._turned_away(caller.address, ending[0])
        if said:
            await _farewell(caller.link, said)

    async def _associated(self, caller: _Caller, request: Request, holder: Holder, over: asyncio.Event) -> bytes:
        """Pass everything on until it is over; what the caller is told besides, if anything."""
        archive = Link()
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: archive, self._own.archive_host, self._own.archive_port
                )
        except (OSError, TimeoutError) as error:
            log.warning("dicom_archive_away", error=type(error).__name__)
            return pdu.reject(Rejection.TEMPORARY_CONGESTION)

        def moved() -> None:
            holder.moved_at = time.monotonic()

        def answered() -> None:
            holder.answered_at = time.monotonic()

        caller.link.moved = moved
        archive.moved, archive.worth = answered, 1
        try:
            archive.say(request.data)
            archive.join(caller.link)
            caller.link.join(archive)
            if await self._lasts(caller, archive, over):
                await _closed(caller.link, archive)
                return b""
            archive.say(pdu.abort())
            archive.close()
            return pdu.abort()
        finally:
            if not archive.over.done():
                await _settle(archive)
            archive.drop()

    async def _lasts(self, caller: _Caller, archive: Link, over: asyncio.Event) -> bool:
        """Until one of the two ends it: True. False where it must end: nothing is said, or others need its place."""
        must_end = asyncio.ensure_future(over.wait())
        ends: list[asyncio.Future[object]] = [caller.link.over, archive.over, must_end]  # type: ignore[list-item]
        try:
            while True:
                heard_at = max(caller.link.heard_at, archive.heard_at)
                left_s = heard_at + self._own.idle_s - time.monotonic()
                if left_s <= 0:
                    over.set()
                    self._turned_away(caller.address, "idle")
                    return False
                await asyncio.wait(ends, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                if caller.link.over.done() or archive.over.done():
                    return True
                if over.is_set():
                    return False
        finally:
            must_end.cancel()


class _Arrival(asyncio.Protocol):
    """A connection of which nothing is known yet."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the relay weigh it."""
        assert isinstance(transport, asyncio.Transport)
        self._relay.arrived(transport)


async def _unless_lost(link: Link) -> Request | None:
    """Its request; None where it ended before. Raises BadPdu."""
    await asyncio.wait([link.request])
    return None if link.request.cancelled() else link.request.result()


async def _farewell(link: Link, data: bytes) -> None:
    """Say the last word, and let the other end close, as it should; for a moment."""
    link.ignore()
    link.say(data)
    await asyncio.wait([link.over], timeout=FAREWELL_S)


async def _settle(link: Link) -> None:
    link.close()
    await asyncio.wait([link.over], timeout=FAREWELL_S)


async def _closed(caller: Link, archive: Link) -> None:
    """One of the two has ended: the other takes what is still on its way, and ends."""
    for link in (caller, archive):
        link.close()
    await asyncio.wait([caller.over, archive.over], timeout=FAREWELL_S)


def run(settings: DicomInSettings) -> None:
    """Serve until told to stop."""
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(_until_stopped(Relay(settings)))


async def _until_stopped(relay: Relay) -> None:
    task = asyncio.ensure_future(relay.serve())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await task
