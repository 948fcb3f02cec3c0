"""Send spans by OpenTelemetry's SDK: OTLP over HTTP, in batches, from a thread of its own.

Imported only where tracing is on. A collector that is away is told once; what it does not take in time is lost, and
counted. Next: spans.py.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import requests
import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from requests.adapters import HTTPAdapter

from medai.router import tls
from medai.router.settings.tracing import TracingSettings
from medai.router.tracing.spans import Span

QUEUE = 8192
"""Spans that may wait: a study has about 15."""
BATCH = 512
DELAY_MS = 2000.0
FLUSH_S = 2.0
"""How long the end of a process may wait for the collector."""
log = structlog.get_logger(__name__)


class OtlpSink:
    """Spans to one collector."""

    def __init__(self, settings: TracingSettings, *, service: str, instance: str, version: str) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it tells every failure; Watched tells one
        session = requests.Session()
        if settings.url.startswith("https:"):
            session.mount("https://", Verified(tls.client_context(settings, where="tracing")))
        self._exporter = Watched(OTLPSpanExporter(endpoint=settings.url, timeout=settings.timeout_s, session=session))
        self._batches = BatchSpanProcessor(
            self._exporter, max_queue_size=QUEUE, max_export_batch_size=BATCH, schedule_delay_millis=DELAY_MS
        )
        self._ids = GivenIds()
        self._lock = threading.Lock()
        names = {"service.name": service, "service.instance.id": instance, "service.version": version}
        self._provider = TracerProvider(
            sampler=TraceIdRatioBased(settings.ratio),
            resource=Resource.create(names),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(self._batches)
        self._tracer = self._provider.get_tracer("medai", version)

    def send(self, spans: Iterable[Span]) -> None:
        """Into the queue; the oldest that wait fall out of one that is full."""
        with self._lock:
            for span in spans:
                self._emit(span)

    def _emit(self, span: Span) -> None:
        self._ids.trace_id, self._ids.span_id = span.trace_id, span.span_id
        started = self._tracer.start_span(
            span.name,
            context=_under(span),
            kind=SpanKind.CLIENT if span.outward else SpanKind.INTERNAL,
            attributes=dict(span.attributes),
            start_time=_ns(span.start),
        )
        if span.failed:
            started.set_status(Status(StatusCode.ERROR))
        started.end(_ns(span.end))

    def counts(self) -> Mapping[str, int]:
        """Sent and lost."""
        return {"sent": self._exporter.sent, "lost": self._exporter.lost}

    def close(self) -> None:
        """Send what waits, for FLUSH_S at most."""
        flush = threading.Thread(target=self._batches.force_flush, name="traces", daemon=True)
        flush.start()
        flush.join(FLUSH_S)
        self._exporter.shutdown()  # ends the wait for another try, too
        self._provider.shutdown()


class Verified(HTTPAdapter):
    """https as [tracing] says alone: requests would let REQUESTS_CA_BUNDLE of the environment decide whom to trust."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *sizes: Any, **options: Any) -> None:
        """Every connection is made by our context."""
        super().init_poolmanager(*sizes, ssl_context=self._context, **options)

    def build_connection_pool_key_attributes(self, *request: Any, **options: Any) -> Any:
        """Where to; nothing of requests' own on whom to trust and what to show."""
        where, _ = super().build_connection_pool_key_attributes(*request, **options)
        return where, {}

    def cert_verify(self, *connection: Any, **options: Any) -> None:
        """The context does."""


class GivenIds(IdGenerator):
    """The ids of the next span, as they derive from the ledger."""

    trace_id = 1
    span_id = 1

    def generate_trace_id(self) -> int:
        """Asked for a root only."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """Asked for every span."""
        return self.span_id


def _under(span: Span) -> Context:
    """A context whose current span is the parent; an empty one for the root."""
    if span.parent_id is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED)  # the sampler looks at the trace's id alone
    parent = SpanContext(trace_id=span.trace_id, span_id=span.parent_id, is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _ns(at: float) -> int:
    return int(at * 1_000_000) * 1000


class Watched(SpanExporter):
    """An exporter that counts, and tells once that the collector is away and once that it is back."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._away = False
        self._closed = False
        self.sent = 0
        self.lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """One batch."""
        try:
            result = SpanExportResult.FAILURE if self._closed else self._inner.export(spans)
        except Exception:  # noqa: BLE001 - the SDK's thread must live, whatever a proxy or a certificate does
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self.sent += len(spans)
            if self._away:
                log.info("collector_is_back", lost=self.lost)
            self._away = False
            return result
        self.lost += len(spans)
        if not self._away:
            log.warning("collector_away", reason="traces are not taken: look at [tracing] endpoint; readings go on")
        self._away = True
        return result

    def shutdown(self) -> None:
        """Once."""
        if not self._closed:
            self._closed = True
            self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing waits here."""
        return True
