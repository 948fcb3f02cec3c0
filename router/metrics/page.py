"""The router's page for Prometheus, and its /health and /ready.

Gauges and counts are read from the ledger at each scrape, so they are true after a restart; histograms grow as jobs
end. A connection that says nothing holds up nobody, nor does a scrape /health. Next: collector.py, router/serving.py.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterable

import structlog
import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from medai.router import tls
from medai.router.errors import MedaiError
from medai.router.ledger import Ledger
from medai.router.metrics.collector import LedgerCollector, Parts, ReadingFigures
from medai.router.serving import Impatient, Receive, Scope, Send, most_connections, over
from medai.router.settings.tables import MetricsSettings, ObjectivesSettings

log = structlog.get_logger(__name__)
TEXT = "text/plain; charset=utf-8"


class MetricsServer:
    """/metrics, /health (the process lives) and /ready (the loop turns and Orthanc answers) on one port."""

    def __init__(
        self,
        settings: MetricsSettings,
        ledger: Ledger,
        *,
        parts: Parts,
        heartbeat: Callable[[], float],
        routes: Iterable[str],
        objectives: ObjectivesSettings,
        version: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(
            LedgerCollector(ledger, parts=parts, objectives=objectives, version=version, clock=clock)
        )
        self._readings = ReadingFigures(ledger, self._registry, routes=routes, objectives=objectives, since=clock())
        self._leads = parts.leads
        self._ready: Callable[[], bool] = lambda: parts.orthanc_up() and clock() - heartbeat() < 30.0
        self._scrapes = threading.Lock()
        secured = tls.server_context(settings.tls, where="metrics.tls")
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        self._socket = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
        Impatient.most = most_connections()
        config = uvicorn.Config(
            self._answer, interface="asgi3", http=over(secured), ws="none", lifespan="off", log_config=None,
            access_log=False, server_header=False, proxy_headers=False, timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="metrics", daemon=True
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    async def _answer(self, scope: Scope, _receive: Receive, send: Send) -> None:
        status, kind, body = await self._page(str(scope["path"]), dict(scope["headers"]).get(b"accept", b"").decode())
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

    async def _page(self, path: str, accept: str) -> tuple[int, str, bytes]:
        if path == "/health":
            return 200, TEXT, b"ok\n"
        if path == "/ready":
            good = await asyncio.to_thread(self._ready)
            return (200, TEXT, b"ok\n") if good else (503, TEXT, b"not ready\n")
        if path != "/metrics":
            return 404, TEXT, b"try /metrics, /health or /ready\n"
        return await asyncio.to_thread(self._scraped, accept)

    def _scraped(self, accept: str) -> tuple[int, str, bytes]:
        with self._scrapes:  # one at a time, however many ask
            try:
                self._readings.update(observe=self._leads())
            except MedaiError as error:
                log.warning("metrics_without_histograms", reason=str(error))
            encode, kind = choose_encoder(accept)
            return 200, kind, encode(self._registry)

    def start(self) -> None:
        """Answer in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)
        self._socket.close()
