"""Traces: one for each study, across router and workers, off by default.

``Tracer`` is what the router, its courier and a worker tell of things that have just ended. It reads the ledger's own
stamps, so that times are exact and a restart changes nothing. No reading is ever slower or failed by it: spans wait in
memory for a thread that sends them, and what can't be sent is counted. Next: spans.py (what is told), otlp.py (how).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import Any, Protocol

import structlog
from sqlalchemy import Connection, and_, select

from medai.router.contract import Decision, DeliveryState, Verdict
from medai.router.errors import SettingsError
from medai.router.ledger import schema as t
from medai.router.ledger.database import Database
from medai.router.ledger.deliveries import Delivery
from medai.router.ledger.rows import StudyRow
from medai.router.log import describe
from medai.router.settings.tracing import TracingSettings
from medai.router.tracing.spans import Reading, Span, Trace, Tried, waiting_since
from medai.router.version import program_version

log = structlog.get_logger(__name__)


class Tracer(Protocol):
    """What is told, by those who know; none of these raises."""

    def arrived(self, study: StudyRow, complete_at: float) -> None:
        """All images of a study (its row) are there."""
        ...

    def decided(self, study_id: int, made: Decision, *, began: float, ended: float, job_id: str = "") -> None:
        """A decision was recorded."""
        ...

    def attempted(self, job_id: str, *, worker: str | None = None) -> None:
        """This worker's attempt at a reading ended; None: one that was taken from a worker that died."""
        ...

    def delivered(self, delivery: Delivery, *, protocol: str, began: float, ended: float) -> None:
        """A try to deliver ended, well or not."""
        ...

    def counts(self) -> Mapping[str, int]:
        """Spans so far by what became of them: sent or lost; empty where there is no tracing."""
        ...

    def close(self) -> None:
        """Send what waits, for a moment."""
        ...


class NoTracer:
    """No tracing: nothing is read, nothing is kept."""

    def arrived(self, study: StudyRow, complete_at: float) -> None:
        """Nothing."""

    def decided(self, study_id: int, made: Decision, *, began: float, ended: float, job_id: str = "") -> None:
        """Nothing."""

    def attempted(self, job_id: str, *, worker: str | None = None) -> None:
        """Nothing."""

    def delivered(self, delivery: Delivery, *, protocol: str, began: float, ended: float) -> None:
        """Nothing."""

    def counts(self) -> Mapping[str, int]:
        """None."""
        return {}

    def close(self) -> None:
        """Nothing."""


class Sink(Protocol):
    """Where closed spans go: otlp.OtlpSink, or a list in tests."""

    def send(self, spans: Iterable[Span]) -> None:
        """Take them; never waits for the network."""
        ...

    def counts(self) -> Mapping[str, int]:
        """Spans that were sent and that were lost."""
        ...

    def close(self) -> None:
        """Send what waits, for a moment."""
        ...


class LedgerTracer:
    """Makes spans of what the ledger holds, at the moment something ended."""

    def __init__(self, database: Database, sink: Sink) -> None:
        self._database = database
        self._sink = sink
        self._key = ""
        self._told = False

    def arrived(self, study: StudyRow, complete_at: float) -> None:
        """The root span, or one for later images."""

        def make() -> Iterable[Span]:
            judged = and_(t.decisions.c.study_id == study.id, t.decisions.c.verdict != Verdict.WAIT.value)
            with self._database.begin(reads_only=True) as db:
                before = db.execute(select(t.decisions.c.id).where(judged).limit(1)).first()
            yield self._trace(study.id).arrival(study, complete_at, first=before is None)

        self._safely(make)

    def decided(self, study_id: int, made: Decision, *, began: float, ended: float, job_id: str = "") -> None:
        """A short span."""
        self._safely(lambda: [self._trace(study_id).decision(made, began, ended, job_id=job_id)])

    def attempted(self, job_id: str, *, worker: str | None = None) -> None:
        """The newest attempt that ended: by this worker, or lost."""

        def make() -> Iterable[Span]:
            with self._database.begin(reads_only=True) as db:
                row, reading = _reading(db, job_id)
                query = select(t.attempts).where(t.attempts.c.job_id == job_id).order_by(t.attempts.c.id)
                attempts = [dict(found) for found in db.execute(query).mappings()]
            mine = [i for i, item in enumerate(attempts) if _is_told_by(item, worker)]
            if not mine:
                return
            attempt, before = attempts[mine[-1]], attempts[: mine[-1]]
            since = waiting_since(reading.stamps, before, int(attempt["number"]), row["retried_at"])
            yield from self._trace(int(row["study_id"])).attempt(reading, attempt, since)

        self._safely(make)

    def delivered(self, delivery: Delivery, *, protocol: str, began: float, ended: float) -> None:
        """One span a try."""

        def make() -> Iterable[Span]:
            with self._database.begin(reads_only=True) as db:
                row, reading = _reading(db, delivery.job_id)
                state = db.execute(select(t.deliveries.c.state).where(t.deliveries.c.id == delivery.id)).scalar_one()
            tried = Tried(
                destination=delivery.destination,
                protocol=protocol,
                kind=delivery.kind,
                attempt=delivery.attempts + 1,
                outcome="retry" if state == DeliveryState.PENDING.value else str(state),
                began=began,
                ended=ended,
            )
            yield self._trace(int(row["study_id"])).delivery(reading, tried)

        self._safely(make)

    def counts(self) -> Mapping[str, int]:
        """Of the sink."""
        return self._sink.counts()

    def close(self) -> None:
        """Of the sink."""
        self._sink.close()

    def _trace(self, study_id: int) -> Trace:
        if not self._key:
            self._key = self._database.log_key()
        return Trace(key=self._key, study_id=study_id)

    def _safely(self, make: Callable[[], Iterable[Span]]) -> None:
        """A span is never worth a reading: whatever goes wrong is told once, and the span is missing."""
        try:
            self._sink.send(list(make()))
        except Exception as error:  # noqa: BLE001 - see above
            if not self._told:
                log.warning("span_not_made", reason=describe(error))
            self._told = True


def _is_told_by(attempt: Mapping[str, Any], worker: str | None) -> bool:
    """Whose attempt it is to tell: a lost one is the router's, each other one its worker's."""
    if attempt["ended_at"] is None:
        return False
    lost = attempt["outcome"] == "lost"
    return lost if worker is None else not lost and attempt["worker"] == worker


def _reading(db: Connection, job_id: str) -> tuple[Mapping[str, Any], Reading]:
    row = dict(db.execute(select(t.jobs).where(t.jobs.c.id == job_id)).mappings().one())
    names = ("route", "model", "model_version", "modality", "priority")
    stamps = db.execute(select(t.stamps.c.name, t.stamps.c.at).where(t.stamps.c.job_id == job_id))
    moments = {str(name): float(at) for name, at in stamps}
    return row, Reading(job_id=job_id, stamps=moments, **{name: row[name] for name in names})


# -- opening

PARTS = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def require(settings: TracingSettings) -> None:
    """Raises SettingsError where tracing is on and its extra is not installed."""
    if settings.enabled and not all(_is_here(name) for name in PARTS):
        raise SettingsError("[tracing] enabled needs OpenTelemetry: pip install 'med-ai[tracing]', or turn it off")


def _is_here(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # not even its parent package
        return False


def open_tracer(settings: TracingSettings, database: Database, *, process: str, instance: str) -> Tracer:
    """The tracer of this process (``process`` is router or worker); OpenTelemetry is imported only where it is on."""
    if not settings.enabled:
        return NoTracer()
    require(settings)
    from medai.router.tracing.otlp import OtlpSink

    service = f"{settings.service_name}-{process}"
    sink = OtlpSink(settings, service=service, instance=instance, version=program_version())
    log.info("tracing", ratio=settings.ratio)
    return LedgerTracer(database, sink)
