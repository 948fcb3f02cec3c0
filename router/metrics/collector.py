"""The figures that Prometheus reads: gauges and counts from the ledger, histograms of the readings that ended.

No label names a patient, a study or a job, and each has few values: routes, queues, priorities, stages, states, models
and destinations are configured, modalities are the known ones or "other", workers are those alive. Of several routers
the one that leads tells what the ledger holds, so that sums over routers are right. Next: page.py, reports/status.py.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from sqlalchemy import make_url

from medai.router.admission import REASONS
from medai.router.contract import Failure, JobState, Priority, known_modality
from medai.router.errors import MedaiError
from medai.router.ledger import Ledger
from medai.router.ledger.audit_lines import AuditFigure
from medai.router.ledger.retention import PRUNABLE
from medai.router.metrics import drift
from medai.router.reports import agreement
from medai.router.reports.agreement import DICE_BUCKETS, EditCounts
from medai.router.reports.report import Tables
from medai.router.reports.status import Status, overdue, status
from medai.router.reports.turnaround import FinishedReading, finished_stamps
from medai.router.settings.tables import ObjectivesSettings
from medai.router.stages import stages_of, turnaround_of

STAGE_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 7200)
"""A fetch takes tenths of a second, a reading seconds to minutes, a wait in the queue up to hours."""
WHOLE_BUCKETS_S = (5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 450, 600, 900, 1800, 3600, 7200, 14400)
OUTCOMES = ("in_time", "late", "failed", "images")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the router knows of itself and of its peers at the moment of a scrape."""

    orthanc_up: Callable[[], bool]
    broker_up: Callable[[], bool]
    leads: Callable[[], bool]
    spans: Callable[[], Mapping[str, int]] = dict
    """Spans of traces by what became of them; empty: no tracing."""
    hl7: Callable[[], Mapping[str, int]] = dict
    """Messages that came to the listener, by what became of them."""
    turned_away: Callable[[], Mapping[tuple[str, str], int]] = dict
    """Connections that a port did not take, or ended, by port and reason."""
    pruned: Callable[[], Mapping[str, int]] = dict
    """What went from the ledger because it was old, by what it was."""
    audit: Callable[[], Mapping[str, AuditFigure]] = dict
    """How it goes with each receiver of the audit trail."""


class LedgerCollector(Collector):
    """What the ledger and the loop say at the moment of the scrape."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        parts: Parts,
        objectives: ObjectivesSettings,
        version: str,
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._parts = parts
        self._objectives = objectives
        self._version = version
        self._clock = clock
        self._drift = drift.DriftFigures(ledger, clock)

    def collect(self) -> Iterator[Metric]:
        """One scrape; a ledger that is away shows as medai_ledger_up 0."""
        leads = self._parts.leads()
        yield InfoMetricFamily("medai_build", "Version of the router.", value={"version": self._version})
        yield GaugeMetricFamily("medai_leads", "Whether this router leads, of several.", value=leads)
        yield _spans(self._parts.spans())
        yield _hl7(self._parts.hl7())
        yield _turned_away(self._parts.turned_away())
        yield _pruned(self._parts.pruned())
        if leads:
            yield _gauge("medai_orthanc_up", "Whether Orthanc answers the router.", self._parts.orthanc_up())
            yield _gauge("medai_broker_up", "Whether Redis answers the router.", self._parts.broker_up())
            yield from self._objective_figures()
            yield from _audit(self._parts.audit(), self._clock())
        try:
            now = status(self._ledger, self._clock())
            late = overdue(self._ledger, self._clock(), self._objectives.limit_s)
            made = agreement.counts(self._ledger)
            drifted = self._drift.rows() if leads else []
            unkept = self._ledger.unkept_audit()
        except MedaiError:
            yield _gauge("medai_ledger_up", "Whether the ledger answers.", 0)
            return
        yield _gauge("medai_ledger_up", "Whether the ledger answers.", 1)
        if leads:
            yield from (*_queues(now), *_counts(now), *_destinations(now), *_workers(now), *_edits(made))
            yield _by(
                "medai_overdue", "Readings under way for longer than their objective.", ["priority"], late.items()
            )
            yield from drift.metrics(drifted)
            yield from _ledger_disk(self._ledger.database.url)
            text = (
                "Lines of the audit trail whose seal could not be kept in a second place yet ([ledger] audit_folder)."
            )
            yield _gauge("medai_audit_unkept", text, unkept)

    def _objective_figures(self) -> Iterator[Metric]:
        limits = ((p.name.lower(), self._objectives.limit_s(p.name.lower())) for p in Priority)
        yield _by("medai_objective_seconds", "Longest turnaround that was promised.", ["priority"], limits)
        yield _gauge("medai_objective_ratio", "Share of readings that must keep the objective.", self._objectives.share)


def _spans(counts: Mapping[str, int]) -> Metric:
    text = "Spans of this router's traces by what became of them: sent, or lost because the collector was unreachable."
    family = CounterMetricFamily("medai_trace_spans", text, labels=["outcome"])
    for outcome, count in counts.items():
        family.add_metric([outcome], count)
    return family


def _hl7(counts: Mapping[str, int]) -> Metric:
    text = "HL7 messages that came to the listener: taken, ignored as the settings say, or refused."
    family = CounterMetricFamily("medai_hl7_messages", text, labels=["outcome"])
    for outcome in ("taken", "ignored", "refused"):
        family.add_metric([outcome], counts.get(outcome, 0))
    return family


def _turned_away(counts: Mapping[tuple[str, str], int]) -> Metric:
    text = "Connections and senders that a port did not take, or ended for others' sake, by port and reason."
    family = CounterMetricFamily("medai_turned_away", text, labels=["port", "reason"])
    for port in ("orders", "announcements"):
        for reason in REASONS:
            family.add_metric([port, reason], counts.get((port, reason), 0))
    return family


def _pruned(counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily("medai_pruned", "What went from the ledger as [retention] says.", labels=["what"])
    for what in PRUNABLE:
        family.add_metric([what], counts.get(what, 0))
    return family


def _audit(receivers: Mapping[str, AuditFigure], now: float) -> Iterator[Metric]:
    label = ["receiver"]
    waiting = ((name, one.waiting) for name, one in receivers.items())
    yield _by("medai_audit_waiting", "Lines of the audit trail that a receiver has not got yet.", label, waiting)
    oldest = ((name, max(0.0, now - one.oldest_at) if one.oldest_at else 0.0) for name, one in receivers.items())
    yield _by("medai_audit_oldest_seconds", "Age of the oldest line that a receiver has not got yet.", label, oldest)
    text = "Times that a receiver of the audit trail did not take what was sent."
    failures = CounterMetricFamily("medai_audit_send_failures", text, labels=label)
    for name, one in receivers.items():
        failures.add_metric([name], one.failures)
    yield failures


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _by(name: str, text: str, labels: list[str], rows: Iterable[tuple[Any, float]]) -> GaugeMetricFamily:
    """A gauge with labels; a row is the label's value (a tuple of several) and the figure."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in rows:
        family.add_metric(list(key) if isinstance(key, tuple) else [key], value)
    return family


def _queues(now: Status) -> Iterator[Metric]:
    """Every queue that has workers or waiting jobs, and every priority: a queue that is empty says 0."""
    found = {(item.queue, item.priority): item for item in now.queues}
    served = {queue for worker in now.workers for queue in worker.queues} | {queue for queue, _ in found}
    keys = [(queue, p.name.lower()) for queue in sorted(served) for p in Priority]
    labels = ["queue", "priority"]
    depth = [(key, found[key].depth if key in found else 0) for key in keys]
    oldest = [(key, found[key].oldest_s if key in found else 0.0) for key in keys]
    yield _by("medai_queue_depth", "Readings that wait for a worker.", labels, depth)
    yield _by("medai_queue_oldest_seconds", "Age of the reading that has waited longest.", labels, oldest)


def _counts(now: Status) -> Iterator[Metric]:
    yield _by("medai_jobs", "Readings in the ledger by state.", ["state"], now.jobs.items())
    yield _gauge("medai_studies", "Studies in the ledger.", now.studies)
    yield _gauge("medai_studies_arriving", "Studies whose completeness is not decided yet.", now.studies_arriving)
    labels = ["model", "verdict"]
    text = "Readings in the ledger by the verdict of the model's checks."
    verdicts = CounterMetricFamily("medai_verdicts", text, labels=labels)
    for item in now.verdicts:
        verdicts.add_metric([item.model, item.verdict], item.count)
    attempts = CounterMetricFamily("medai_attempts", "Attempts at readings by how they ended.", labels=["outcome"])
    for outcome, count in {"lost": 0, "retry": 0, "read": 0, "failed": 0, **now.attempts}.items():
        attempts.add_metric([outcome], count)
    yield from (verdicts, attempts)
    yield _gauge("medai_orders_held", "Orders that contradict the images, and wait for a person.", now.orders_held)
    yield _gauge("medai_merges_held", "Merges of patients that wait for a person.", now.merges_held)
    yield _by("medai_dead_letters", "Readings and deliveries that need a person.", ["kind"], now.dead_letters.items())


def _edits(made: EditCounts) -> Iterator[Metric]:
    """What readers made of our results. Structures are those of the models' own segments, so they are few."""
    states = (((row.model, row.kind, row.state), row.count) for row in made.states)
    text = "SEG and SR that readers stored on what was read, by state."
    yield _by("medai_edits", text, ["model", "kind", "state"], states)
    text = "Readings with a SEG of a reader that was compared."
    yield _by("medai_readings_edited", text, ["model"], made.edited.items())
    text = "Dice of each structure of readers' SEG with ours."
    dice = HistogramMetricFamily("medai_edit_dice", text, labels=["model", "structure"])
    for row in made.dice:
        edges = [(f"{edge:g}", float(count)) for edge, count in zip(DICE_BUCKETS, row.up_to, strict=True)]
        buckets = [*edges, ("+Inf", float(row.count))]
        dice.add_metric([row.model, row.structure], buckets=buckets, sum_value=row.sum)
    yield dice


def _destinations(now: Status) -> Iterator[Metric]:
    where = now.destinations
    label = ["destination"]
    counted = (((item.destination, item.state), item.count) for item in now.deliveries)
    yield _by("medai_deliveries", "Deliveries in the ledger by state.", ["destination", "state"], counted)
    yield _by("medai_deliveries_pending", "Deliveries that wait.", label, ((d.name, d.pending) for d in where))
    oldest = ((d.name, d.oldest_s) for d in where)
    yield _by("medai_delivery_oldest_seconds", "Age of the delivery that has waited longest.", label, oldest)
    away = ((d.name, d.away) for d in where)
    yield _by("medai_destination_away", "Whether its circuit breaker is open.", label, away)


LOADS = {
    "memory_bytes": ("medai_worker_memory_bytes", "Resident memory of the reading process and of its models' own."),
    "cores_used": ("medai_worker_cores_used", "Processor cores that the reading process and its models' own use."),
    "scratch_free_bytes": ("medai_worker_scratch_free_bytes", "Free space of the disk with the scratch directory."),
    "scratch_size_bytes": ("medai_worker_scratch_size_bytes", "Size of the disk with the scratch directory."),
    "gpu_memory_used_bytes": ("medai_worker_gpu_memory_used_bytes", "Used memory of the GPU, all processes' together."),
    "gpu_memory_size_bytes": ("medai_worker_gpu_memory_size_bytes", "Memory of the GPU."),
    "gpu_busy_ratio": ("medai_worker_gpu_busy_ratio", "Share of the last moments in which the GPU worked."),
    "trace_spans_lost": ("medai_worker_trace_spans_lost", "Spans that this worker could not send."),
}
"""What a worker says of its load (workers/load.py) -> metric."""


def _workers(now: Status) -> Iterator[Metric]:
    alive = [worker for worker in now.workers if worker.alive]
    alarms = sum(bool(worker.alarm) for worker in now.workers)
    yield _gauge("medai_workers_alive", "Workers seen lately.", len(alive))
    yield _gauge("medai_workers_busy", "Workers that read a study now.", sum(bool(w.job_id) for w in alive))
    yield _gauge("medai_worker_alarms", "Workers that need a person (a full disk).", alarms)
    for key, (name, text) in LOADS.items():
        said = [(worker.name, worker.load[key]) for worker in alive if worker.load and key in worker.load]
        yield _by(name, text, ["worker"], said)


def _ledger_disk(url: str) -> Iterator[Metric]:
    """The disk of an SQLite ledger; a PostgreSQL's is watched where it runs."""
    place = make_url(url)
    if place.get_backend_name() != "sqlite" or not place.database:
        return
    try:
        usage = shutil.disk_usage(Path(place.database).resolve().parent)
    except OSError:
        return
    yield _gauge("medai_ledger_disk_free_bytes", "Free space of the disk with the ledger.", usage.free)
    yield _gauge("medai_ledger_disk_size_bytes", "Size of the disk with the ledger.", usage.total)


class ReadingFigures:
    """Histograms of stages and turnaround, and counts against the objective, fed with the readings that ended."""

    def __init__(
        self,
        ledger: Tables,
        registry: CollectorRegistry,
        *,
        routes: Iterable[str],
        objectives: ObjectivesSettings,
        since: float,
    ) -> None:
        self._ledger = ledger
        self._objectives = objectives
        self._since = since
        self._seen: set[str] = set()
        whose = ["route", "modality", "priority"]
        self._stages = Histogram(
            "medai_stage_seconds",
            "Seconds of each stage of a reading.",
            ["stage", *whose],
            buckets=STAGE_BUCKETS_S,
            registry=registry,
        )
        self._whole = Histogram(
            "medai_turnaround_seconds",
            "Seconds from the last instance to the RIS's acknowledgement.",
            whose,
            buckets=WHOLE_BUCKETS_S,
            registry=registry,
        )
        self._readings = Counter(
            "medai_readings",
            "Readings that ended: in_time, late, failed, or images (which can't be read).",
            ["route", "priority", "outcome"],
            registry=registry,
        )
        for key in itertools.product(routes, (p.name.lower() for p in Priority), OUTCOMES):
            self._readings.labels(*key)  # a rate that starts at one instead of zero would miss the first

    def update(self, *, observe: bool) -> None:
        """Take what ended since; ``observe`` false passes over it (another router leads and counts it)."""
        ended = finished_stamps(self._ledger, since=self._since)
        for reading in ended if observe else []:
            if reading.id not in self._seen:
                self._observe(reading)
        if ended:
            self._since = ended[-1].finished_at
            self._seen = {reading.id for reading in ended if reading.finished_at == self._since}

    def _observe(self, reading: FinishedReading) -> None:
        whose = (reading.route, known_modality(reading.modality), reading.priority)
        whole_s = turnaround_of(reading.stamps)
        outcome = outcome_of(reading, whole_s, self._objectives.limit_s(reading.priority))
        if outcome is None:
            return
        self._readings.labels(reading.route, reading.priority, outcome).inc()
        if reading.state != JobState.DONE.value:
            return
        for stage, length_s in stages_of(reading.stamps).items():
            self._stages.labels(stage, *whose).observe(max(0.0, length_s))
        if whole_s is not None:
            self._whole.labels(*whose).observe(max(0.0, whole_s))


def outcome_of(reading: FinishedReading, whole_s: float | None, limit_s: float) -> str | None:
    """What a reading that ended counts as; None for one that was replaced or cancelled."""
    if reading.state == JobState.DONE.value:
        return "late" if whole_s is not None and whole_s > limit_s else "in_time"
    if reading.state == JobState.FAILED.value:
        return "images" if reading.failure == Failure.IMAGES.value else "failed"
    return None
