"""The router's MLLP listener: takes orders and patients from the RIS and acknowledges each message after it is kept.

An AA leaves only when ``on_orders`` (the ledger's write) has returned: every order of the message is kept, or none.
AE: the content is wrong, sending it again is no use. AR: the kind is not taken here (ERR code 200, 201, 203), or the
ledger is away (207): send it again later. Messages of a batch are taken in their order, and a batch of acknowledgements
goes back. A RIS may send a message twice; ``on_orders`` must make a copy harmless.
Whoever connects is weighed before anything is read: who may, how many, how much they hold (admission.py).
Next: batches.py (several in one frame), messages.py (what one says), ledger/__init__.py (where an order is kept).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from medai.router import tls
from medai.router.admission import Admission, Guest
from medai.router.errors import PermanentError, TemporaryError
from medai.router.hl7 import batches, mllp
from medai.router.hl7.acknowledge import acknowledge
from medai.router.hl7.messages import parse
from medai.router.hl7.orders_in import OrderMessage
from medai.router.hl7.patients_in import PatientMessage
from medai.router.hl7.segments import BadMessage, Header
from medai.router.settings.tables import Hl7InSettings

MESSAGE_TIMEOUT_S = 30.0
"""Longest silence inside a message."""
WHOLE_TIMEOUT_S = 120.0
"""Longest time from a message's first byte to its last: a byte now and then keeps nothing open."""
HELD_LIMIT = 4 * mllp.SIZE_LIMIT
"""Bytes of messages that have not ended, or wait to be kept, over all connections."""
BACKLOG = 512
STOP_TIMEOUT_S = 5.0
HANDSHAKE_S = 10.0
FAREWELL_S = 2.0
"""Time for a peer to take the last bytes."""
_CHUNK = 65536
log = structlog.get_logger(__name__)


class OrderListener:
    """An MLLP server in a thread of its own. Port 0 takes a free one; ``port`` tells which.

    ``on_orders`` is called in one thread, with all orders of a message; it may raise TemporaryError (AR) or
    PermanentError (AE).
    ``on_patient`` takes all that one ADT says; without it they get AR: nothing is acknowledged that nobody keeps.
    ``answers`` counts messages: taken, ignored (as the settings say), refused. ``turned_away`` counts, by reason, who
    was not let in and whose connection was ended (``Admission``).
    """

    def __init__(
        self, settings: Hl7InSettings, on_orders: Callable[[Sequence[OrderMessage]], None],
        clock: Callable[[], float] = time.time, *,
        on_patient: Callable[[Sequence[PatientMessage]], None] | None = None,
        answers: Counter[str] | None = None, turned_away: Counter[str] | None = None,
        message_timeout_s: float = MESSAGE_TIMEOUT_S, whole_timeout_s: float = WHOLE_TIMEOUT_S,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._on_orders = on_orders
        self._on_patient = on_patient
        self._answers = Counter() if answers is None else answers
        self._clock = clock
        self._timeout_s = message_timeout_s
        self._whole_s = whole_timeout_s
        self._admission = Admission(
            allowed=settings.allowed_peers,
            total=settings.connections,
            of_peer=settings.connections_of_peer,
            held_bytes=HELD_LIMIT,
            turned_away=Counter() if turned_away is None else turned_away,
        )
        self._tls = tls.server_context(settings.tls, where="hl7_in.tls")
        self._senders = {tuple(name.split("|")) for name in settings.allowed_senders}
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._stopping: asyncio.Event | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._busy = 0
        self._keeper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hl7-in-keep")
        self.port = settings.port

    def start(self) -> None:
        """Listen; returns when connections are accepted. Raises OSError when the port is taken."""
        self._thread = threading.Thread(target=self._run, name="hl7-in", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """Take no more messages, finish the acknowledgement of those that came whole, and close."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._keeper.shutdown()
        self._thread = None

    @property
    def alive(self) -> bool:
        """True while connections are accepted."""
        return self._thread is not None and self._thread.is_alive()

    # -- the server's thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(self._accept, self._settings.host, self._settings.port, backlog=BACKLOG)
        self.port = server.sockets[0].getsockname()[1]
        log.info("hl7_listening", host=self._settings.host, port=self.port)
        self._ready.set()
        await self._stopping.wait()
        server.close()
        await self._drain()

    async def _drain(self) -> None:
        for _ in range(int(STOP_TIMEOUT_S / 0.01)):
            if not self._busy:
                break
            await asyncio.sleep(0.01)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Weigh a connection before anything is read of it."""
        peer = _peer(writer)
        if not self._admission.allows(peer):
            self._turned_away(peer, "peer")
            writer.transport.abort()
            return
        if self._tls is not None:  # what comes belongs to the handshake
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport of a socket can
        ending: list[Callable[[str], None]] = []
        guest = self._admission.enter(peer, time.monotonic(), lambda reason: ending[0](reason))
        if guest is None:
            self._turned_away(peer, "limit")
            writer.transport.abort()
            return
        connection: Coroutine[Any, Any, None] = self._connection(guest, reader, writer)
        task = asyncio.get_running_loop().create_task(connection)

        def end(reason: str) -> None:
            self._turned_away(peer, reason)
            writer.transport.abort()
            task.cancel()

        ending.append(end)
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    def _turned_away(self, peer: str, reason: str) -> None:
        if self._admission.turn_away(peer, reason, time.monotonic()):
            log.warning("hl7_turned_away", peer=peer, reason=reason)

    async def _connection(self, guest: Guest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = mllp.Frames()
        try:
            _tune(writer)
            if self._tls is not None:
                reader, writer = await self._secured(self._tls, writer)
            await self._talk(guest, frames, reader, writer)
        except OSError as error:
            log.info("hl7_connection_broken", error=type(error).__name__)
        finally:
            frames.forget()
            self._admission.leave(guest)
            await _close(writer)

    async def _secured(
        self, context: ssl.SSLContext, plain: asyncio.StreamWriter
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The same connection after the handshake, during which it counts already; OSError where that fails."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport = await loop.start_tls(
                plain.transport, protocol, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=FAREWELL_S,
            )  # fmt: skip
        except OSError:
            self._turned_away(_peer(plain), "tls")
            raise
        if transport is None:  # it ended meanwhile
            raise ConnectionAbortedError
        protocol.connection_made(transport)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _talk(
        self, guest: Guest, frames: mllp.Frames, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            try:
                async with asyncio.timeout(self._patience_s(guest, inside=frames.inside)):
                    data = await reader.read(_CHUNK)
                messages = frames.feed(data)
            except TimeoutError:
                self._turned_away(_peer(writer), "too_long" if frames.inside else "idle")
                return
            except mllp.FrameTooLong:
                self._turned_away(_peer(writer), "too_long")
                await self._answer(writer, self._refusal(b"", BadMessage("the message is too long", code="207")))
                return
            if not data:
                return
            now = time.monotonic()
            guest.heard_at = now
            if messages:  # what is held now is a part of another message
                self._admission.hold(guest, 0, now)
            self._admission.hold(guest, frames.held_bytes + sum(map(len, messages)) + frames.inside, now)
            for message in messages:
                await self._take(guest, message, writer)
            self._admission.hold(guest, frames.held_bytes + frames.inside, now)

    def _patience_s(self, guest: Guest, *, inside: bool) -> float:
        if not inside:
            return self._settings.idle_s
        return min(self._timeout_s, max(0.0, guest.began_at + self._whole_s - time.monotonic()))

    async def _take(self, guest: Guest, message: bytes, writer: asyncio.StreamWriter) -> None:
        self._busy += 1
        guest.busy = True
        try:
            keep = asyncio.get_running_loop().run_in_executor(self._keeper, self._reply, message)
            await self._answer(writer, await keep)
            guest.proven = True
        finally:
            guest.busy = False
            self._busy -= 1

    @staticmethod
    async def _answer(writer: asyncio.StreamWriter, acknowledgement: bytes) -> None:
        writer.write(mllp.frame(acknowledgement))
        async with asyncio.timeout(MESSAGE_TIMEOUT_S):  # TimeoutError is an OSError
            await writer.drain()

    # -- one frame, in the keeper's thread

    def _reply(self, data: bytes) -> bytes:
        """The acknowledgement of one message, or of each of a batch, after they are kept."""
        try:
            whole = batches.split(data)
        except BadMessage as error:
            return self._refusal(data, error)
        return self._one(data)[0] if whole is None else self._batch(whole)

    def _batch(self, whole: batches.Batches) -> bytes:
        """Where one message must be sent again, so must those that follow it: their order matters."""
        later = False
        found: list[list[bytes]] = []
        for batch in whole.batches:
            found.append([])
            for message in batch.messages:
                if later:
                    words = "a message before this one cannot be stored now: send it again after that"
                    ack = self._refusal(message, BadMessage(words, ack="AR", code="207"))
                else:
                    ack, later = self._one(message)
                found[-1].append(ack)
        return batches.answer(whole, found, now=self._clock())

    def _one(self, data: bytes) -> tuple[bytes, bool]:
        """The acknowledgement of one message, after it is kept; whether it must be sent again."""
        try:
            head, content = parse(data, self._settings.ignore)
            self._require_sender(head)
            self._keep(content)
        except BadMessage as error:
            return self._refusal(data, error), False
        except TemporaryError:
            words = "the order cannot be stored now: send it again"
            return self._refusal(data, BadMessage(words, ack="AR", code="207")), True
        except PermanentError as error:
            return self._refusal(data, BadMessage(str(error), code="207")), False
        except Exception:  # whatever a message brings about, the RIS gets an answer and the listener goes on
            log.exception("hl7_message_failed")
            return self._refusal(data, BadMessage("the router failed on this message; see its log", code="207")), False
        self._answers["taken" if content else "ignored"] += 1
        orders = sum(isinstance(each, OrderMessage) for each in content)
        log.info("hl7_taken" if content else "hl7_ignored", type="^".join(head.kind), orders=orders)
        return acknowledge(head, "AA", now=self._clock()), False

    def _require_sender(self, head: Header) -> None:
        """MSH-3, and MSH-4 where the settings name a facility, must be known."""
        if self._senders and not {head.sender[:1], head.sender} & self._senders:
            self._admission.turn_away("", "sender", time.monotonic())
            raise BadMessage("MSH-3 and MSH-4 name no sender that is known here", code="103", location="MSH^1^3")

    def _keep(self, content: tuple[OrderMessage, ...] | tuple[PatientMessage, ...]) -> None:
        orders = [each for each in content if isinstance(each, OrderMessage)]
        if orders:
            self._on_orders(orders)
        patients = [each for each in content if isinstance(each, PatientMessage)]
        if patients and self._on_patient is None:
            raise BadMessage("patient updates are not processed here", ack="AR", code="200", location="MSH^1^9")
        if patients and self._on_patient is not None:
            self._on_patient(patients)

    def _refusal(self, data: bytes, error: BadMessage) -> bytes:
        self._answers["refused"] += 1
        log.warning("hl7_refused", ack=error.ack, code=error.code, reason=str(error))
        return acknowledge(batches.head_of(data), error.ack, now=self._clock(), error=error)


def _peer(writer: asyncio.StreamWriter) -> str:
    """The address at the other end; empty where it is gone."""
    return str((writer.get_extra_info("peername") or ("",))[0])


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close when the last bytes are taken, or when that takes too long."""
    writer.close()
    with contextlib.suppress(OSError):
        async with asyncio.timeout(FAREWELL_S):
            await writer.wait_closed()
    writer.transport.abort()


def _tune(writer: asyncio.StreamWriter) -> None:
    """Answers leave at once, and a peer that vanished without a word is noticed."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
