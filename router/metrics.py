"""The router's page for Prometheus, and its /health and /ready.

Gauges and counts are read from the ledger at each scrape, so they are true after a restart; histograms grow as jobs
end. No label names a patient or a study: routes, priorities, queues, stages, states, models and verdicts only.
Next: reports.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from prometheus_client import CollectorRegistry, Histogram, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from router import reports
from router.contract import JobState
from router.errors import MedaiError
from router.ledger import Ledger
from router.settings import MetricsSettings

BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200)
log = structlog.get_logger(__name__)


class LedgerCollector(Collector):
    """What the ledger and the loop say at the moment of the scrape."""

    def __init__(
        self, ledger: Ledger, *, orthanc_up: Callable[[], bool], version: str, clock: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._orthanc_up = orthanc_up
        self._version = version
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """One scrape; a ledger that is away shows as medai_ledger_up 0."""
        yield InfoMetricFamily("medai_build", "Version of the router.", value={"version": self._version})
        yield GaugeMetricFamily("medai_orthanc_up", "Whether Orthanc answers the router.", value=self._orthanc_up())
        try:
            now = reports.status(self._ledger, self._clock())
        except MedaiError:
            yield GaugeMetricFamily("medai_ledger_up", "Whether the ledger answers.", value=0)
            return
        yield GaugeMetricFamily("medai_ledger_up", "Whether the ledger answers.", value=1)
        yield from _queue_metrics(now)
        yield from _other_metrics(now)


def _queue_metrics(now: dict[str, Any]) -> Iterator[Metric]:
    depth = GaugeMetricFamily("medai_queue_depth", "Jobs that wait for a worker.", labels=["queue", "priority"])
    oldest = GaugeMetricFamily(
        "medai_queue_oldest_seconds", "Age of the job that has waited longest.", labels=["queue", "priority"]
    )
    for item in now["queues"]:
        depth.add_metric([item["queue"], item["priority"]], item["depth"])
        oldest.add_metric([item["queue"], item["priority"]], item["oldest_s"])
    yield depth
    yield oldest


def _other_metrics(now: dict[str, Any]) -> Iterator[Metric]:
    states = GaugeMetricFamily("medai_jobs", "Jobs in the ledger by state.", labels=["state"])
    for state, count in now["jobs"].items():
        states.add_metric([state], count)
    yield states
    yield GaugeMetricFamily("medai_studies", "Studies in the ledger.", value=now["studies"])
    yield GaugeMetricFamily(
        "medai_studies_arriving", "Studies whose completeness is not decided yet.", value=now["studies_arriving"]
    )
    verdicts = CounterMetricFamily(
        "medai_verdicts", "Readings in the ledger by what the model's checks came to.", labels=["model", "verdict"]
    )
    for item in now["verdicts"]:
        verdicts.add_metric([item["model"], item["verdict"]], item["count"])
    yield verdicts
    alive = sum(bool(item["alive"]) for item in now["workers"])
    yield GaugeMetricFamily("medai_workers_alive", "Workers heard of lately.", value=alive)


class StageHistograms:
    """Histograms of stages and turnaround, fed with the jobs that ended since the last look."""

    def __init__(self, ledger: Ledger, registry: CollectorRegistry, *, since: float) -> None:
        self._ledger = ledger
        self._since = since
        self._seen: set[str] = set()
        self._stages = Histogram(
            "medai_stage_seconds",
            "Seconds of each stage of a reading.",
            ["stage", "route"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._whole = Histogram(
            "medai_turnaround_seconds",
            "Seconds from the last instance to the RIS's acknowledgement.",
            ["route", "priority"],
            buckets=BUCKETS_S,
            registry=registry,
        )

    def update(self) -> None:
        """Observe what ended since; called before each scrape."""
        rows = reports.finished_stamps(self._ledger, since=self._since)
        for row in rows:
            if row["id"] in self._seen or row["state"] != JobState.DONE.value:
                continue
            for stage, seconds in reports.stages_of(row["stamps"]).items():
                self._stages.labels(stage, row["route"]).observe(max(0.0, seconds))
            whole = reports.turnaround_of(row["stamps"])
            if whole is not None:
                self._whole.labels(row["route"], row["priority"]).observe(max(0.0, whole))
        if rows:
            self._since = rows[-1]["finished_at"]
            self._seen = {row["id"] for row in rows if row["finished_at"] == self._since}


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
        orthanc_up: Callable[[], bool],
        heartbeat: Callable[[], float],
        version: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        registry = CollectorRegistry()
        registry.register(LedgerCollector(ledger, orthanc_up=orthanc_up, version=version, clock=clock))
        self._histograms = StageHistograms(ledger, registry, since=clock())
        self._metrics: Any = make_wsgi_app(registry)
        self._ready: Callable[[], bool] = lambda: orthanc_up() and clock() - heartbeat() < 30.0
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
            self._histograms.update()
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
