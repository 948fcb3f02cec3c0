"""How a port for HTTP bears with slow, idle, endless and many: uvicorn, and the time limits that it has no setting for.

``Impatient`` ends a connection whose request does not come or whose answer is not taken; beyond ``most_connections``
the one that has been idle longest makes room. With TLS (``over``) the handshake is a part of that time, and who never
ends it counts as idle. ``Bounded`` bounds what a request's body may hold and take, before anybody asks who sent it.
Next: metrics/page.py, console/app.py (who serve by it).
"""

from __future__ import annotations

import asyncio
import resource
import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
"""A request's first line and headers are here in this time, from the moment the connection is made."""
TAKEN_S = 60.0
"""An answer that is not taken for so long is given up."""
BODY_S = 30.0
"""A request's body is here in this time."""
BODY_MAX_BYTES = 2**20
"""Longer ones are refused; the longest that the API takes is a tenth of it."""
MOST_CONNECTIONS = 4000
FAREWELL_S = 2.0
"""The end of TLS is answered in this time, or done without."""
MOST_SECURED = 300
"""Of connections by TLS, each of which takes 86 kB from its first byte on (measured) and not 6."""
SPARE_FILES = 200
"""What a process needs besides connections: its database, its archive, its log."""
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def most_connections() -> int:
    """How many connections may be open at once; lets this process have as many files as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + SPARE_FILES
    if 0 <= soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(SPARE_FILES, min(MOST_CONNECTIONS, soft - SPARE_FILES)) if soft >= 0 else MOST_CONNECTIONS


class Impatient(H11Protocol):
    """A connection that must say what it wants within ``HEAD_S``, and take the answer."""

    most = MOST_CONNECTIONS
    _late: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """From here the time runs."""
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > self._limit():
            self._make_room()

    def handle_events(self) -> None:
        """While a request is served the time stands still; it runs again with the first byte of the next."""
        super().handle_events()
        if self.conn.their_state is not h11.IDLE:
            self._head_is_here()
        elif self._late is None and not self.transport.is_closing():
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """No time runs for what is gone."""
        self._head_is_here()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The other side does not take the answer as fast as it is made."""
        super().pause_writing()
        if self._stuck is None:
            self._stuck = self.loop.call_later(TAKEN_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It took some."""
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        super().resume_writing()

    def _limit(self) -> int:
        return self.most

    def _await_head(self) -> None:
        self._late = self.loop.call_later(HEAD_S, self.timeout_keep_alive_handler)

    def _head_is_here(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _make_room(self) -> None:
        waiting = [each for each in self.connections if isinstance(each, Impatient) and each._late is not None]
        oldest = min((each for each in waiting if each is not self), key=_runs_out_at, default=None)
        if oldest is not None:
            oldest._head_is_here()
            self.connections.discard(oldest)  # the next one, in the same turn of the loop, counts without it
            oldest.transport.abort()


class _Secured(Impatient):
    """The same behind TLS: until the handshake is over, a connection waits as one that says nothing."""

    context: ssl.SSLContext
    _handshake: asyncio.Task[None] | None = None
    _early = b""
    """What came with the last message of the handshake."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Of TCP at first, then of TLS, which ``is_ssl`` of uvicorn sees by itself."""
        super().connection_made(transport)
        self._handshake = self.loop.create_task(self._shake_hands(transport))

    def shutdown(self) -> None:
        """The server stops: who has been answered is not waited for to say goodbye."""
        super().shutdown()
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.get_write_buffer_size():
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """The request, once uvicorn has the connection that its answer goes by."""
        if self._handshake is None:
            super().data_received(data)
        else:
            self._early += data

    def _limit(self) -> int:
        return min(self.most, MOST_SECURED)

    async def _shake_hands(self, plain: asyncio.Transport) -> None:
        try:
            secured = await self.loop.start_tls(
                plain,
                self,
                self.context,
                server_side=True,
                ssl_handshake_timeout=HEAD_S,
                ssl_shutdown_timeout=FAREWELL_S,
            )
        except OSError:  # no TLS, none that is taken, no certificate, or gone; asyncio has closed it
            secured = None
        self._handshake = None
        if secured is None:
            self.connection_lost(None)
            return
        H11Protocol.connection_made(self, secured)  # the time runs since the connection was made
        early, self._early = self._early, b""
        if early:
            super().data_received(early)


def over(context: ssl.SSLContext | None) -> type[Impatient]:
    """What uvicorn is to speak on a port: over TLS where there is a context."""
    if context is None:
        return Impatient
    return type("Secured", (_Secured,), {"context": context})


def _runs_out_at(connection: Impatient) -> float:
    return connection._late.when() if connection._late is not None else 0.0


class Bounded:
    """An ASGI application whose requests' bodies are bounded in size and time; ``refused`` makes the fault
    that the application answers."""

    def __init__(self, app: App, *, refused: Callable[[int, str], Exception], limit: int = BODY_MAX_BYTES) -> None:
        self._app = app
        self._refused = refused
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if not told.isdigit() or int(told) > self._limit:
            await _refuse(send, 413, f"a request holds {self._limit} bytes at most")
            return
        await self._app(scope, self._bounded(receive), send)

    def _bounded(self, receive: Receive) -> Receive:
        """The body's parts, until there are too many of them or it takes too long."""
        state = {"bytes": 0, "whole": False}
        ends = asyncio.get_running_loop().time() + BODY_S

        async def received() -> Message:
            if state["whole"]:
                return await receive()  # what may come now is that the other side goes away
            try:
                async with asyncio.timeout_at(ends):
                    message = await receive()
            except TimeoutError as error:
                raise self._refused(408, "the request did not come in time") from error
            state["bytes"] += len(message.get("body", b""))
            state["whole"] = not message.get("more_body", False)
            if state["bytes"] > self._limit:
                raise self._refused(413, f"a request holds {self._limit} bytes at most")
            return message

        return received


async def _refuse(send: Send, status: int, why: str) -> None:
    body = f'{{"detail": "{why}"}}'.encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
