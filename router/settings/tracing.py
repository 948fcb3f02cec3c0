"""The table [tracing] of medai.toml. Next: tracing/tracer.py."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field

from medai.router.settings.section import Positive
from medai.router.settings.tls import ClientTls


class TracingSettings(ClientTls):
    """Traces by OpenTelemetry (OTLP over HTTP), one for each study; needs the extra ``tracing``. Off by default."""

    enabled: bool = False
    """Whether router and workers send traces."""
    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$")] = "http://127.0.0.1:4318/v1/traces"
    """Where the collector takes OTLP over HTTP; /v1/traces follows where no path is given. A header with a token is
    given as OTEL_EXPORTER_OTLP_HEADERS."""
    ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the studies that are traced; router and workers choose the same ones."""
    service_name: Annotated[str, Field(min_length=1, max_length=80)] = "medai"
    """service.name is this with -router or -worker after it."""
    timeout_s: Positive = 5.0
    """Longest time for one batch; what the collector has not taken by then is lost, and counted."""

    @property
    def url(self) -> str:
        """``endpoint`` with its path."""
        return self.endpoint if urlsplit(self.endpoint).path.strip("/") else f"{self.endpoint.rstrip('/')}/v1/traces"
