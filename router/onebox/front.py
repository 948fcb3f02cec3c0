"""TLS before Orthanc's REST API: Debian's Orthanc 1.10.1 ends at each https connection (docs/security.md).

Bytes pass as they are. Where Orthanc is away, a connection ends before its handshake, and so nothing was asked.
Next: supervisor.py (which starts it in a site with TLS).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ssl
import sys

from medai.router import tls
from medai.router.settings.tls import WebTls

HANDSHAKE_S = 10.0
FAREWELL_S = 2.0
_CHUNK = 256 * 1024


class Front:
    """One port with TLS, and the port behind it, both on this machine."""

    def __init__(self, context: ssl.SSLContext, *, port: int, behind: int) -> None:
        self._context = context
        self._port = port
        self._behind = behind
        self._connections: set[asyncio.Task[None]] = set()
        """Named, or they would be collected as garbage while they wait."""

    async def serve(self) -> None:
        """Until cancelled."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", self._port, backlog=256)
        try:
            async with server:
                await server.serve_forever()
        finally:
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, _: asyncio.StreamReader, plain: asyncio.StreamWriter) -> None:
        plain.transport.pause_reading()  # type: ignore[attr-defined]  # what comes belongs to the handshake
        task = asyncio.get_running_loop().create_task(self._connected(plain))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _connected(self, plain: asyncio.StreamWriter) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._behind)
        except OSError:
            plain.transport.abort()
            return
        try:
            await self._secured(plain, reader, writer)
        except OSError:
            pass  # either side went away, or spoke no TLS that is taken
        finally:
            writer.transport.abort()
            plain.transport.abort()

    async def _secured(
        self, plain: asyncio.StreamWriter, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        asked = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(asked)
        transport = await loop.start_tls(
            plain.transport, protocol, self._context, server_side=True, ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=FAREWELL_S,
        )  # fmt: skip
        if transport is None:
            raise ConnectionAbortedError
        protocol.connection_made(transport)
        answer = asyncio.StreamWriter(transport, protocol, asked, loop)
        passing = [asyncio.create_task(_pass(asked, writer)), asyncio.create_task(_pass(reader, answer))]
        try:
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            answer.close()
            await answer.wait_closed()
        finally:
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)


async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(_CHUNK):
        sink.write(data)
        await sink.drain()


def main(argv: list[str] | None = None) -> int:
    """``python -m medai.router.onebox.front``: what ``medai up`` starts."""
    parser = argparse.ArgumentParser(prog="front")
    for name, kind in (("--port", int), ("--behind", int), ("--certificate", str), ("--key", str)):
        parser.add_argument(name, type=kind, required=True)
    options = parser.parse_args(argv)
    files = WebTls(certificate_file=options.certificate, key_file=options.key)
    context = tls.server_context(files, where="front")
    assert context is not None
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Front(context, port=options.port, behind=options.behind).serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
