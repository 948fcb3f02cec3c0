"""The router's page for Prometheus, and its /health and /ready.

Gauges and counts are read from the ledger at each scrape, so they are true after a restart; histograms grow as jobs
end. Next: collector.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app

from medai.router.errors import MedaiError
from medai.router.ledger import Ledger
from medai.router.metrics.collector import LedgerCollector, Parts, ReadingFigures
from medai.router.settings.tables import MetricsSettings, ObjectivesSettings

log = structlog.get_logger(__name__)


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Scrapes are not news."""


class _Server(WSGIServer):
    daemon_threads = True


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
        registry = CollectorRegistry()
        registry.register(LedgerCollector(ledger, parts=parts, objectives=objectives, version=version, clock=clock))
        self._readings = ReadingFigures(ledger, registry, routes=routes, objectives=objectives, since=clock())
        self._leads = parts.leads
        self._metrics: Any = make_wsgi_app(registry)
        self._ready: Callable[[], bool] = lambda: parts.orthanc_up() and clock() - heartbeat() < 30.0
        self._server = make_server(settings.host, settings.port, self._answer, _Server, _Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_port)

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path in ("/health", "/ready"):
            good = path == "/health" or self._ready()
            start_response("200 OK" if good else "503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"ok\n" if good else b"not ready\n"]
        if path != "/metrics":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"try /metrics, /health or /ready\n"]
        try:
            self._readings.update(observe=self._leads())
        except MedaiError as error:
            log.warning("metrics_without_histograms", reason=str(error))
        answer: Iterable[bytes] = self._metrics(environ, start_response)
        return answer

    def start(self) -> None:
        """Answer in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
