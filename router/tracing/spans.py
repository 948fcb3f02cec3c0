"""What the ledger knows of a study, as the spans of one trace. Pure; nothing here knows OpenTelemetry.

Every id derives from the ledger's own numbers: router and workers agree on a trace without telling each other, and a
retry joins it. No DICOM UID, name or accession number goes in, neither into an id nor into an attribute. The study's
arrival is the root; all else hangs from it, and a reading's stages from their attempt. Next: tracer.py.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medai.router.contract import Decision, Priority, StampName, known_modality
from medai.router.ledger.rows import StudyRow
from medai.router.stages import STAGES

OF_ATTEMPT = ("fetch", "prepare", "infer", "encode", "store")
"""The stages that a worker goes through, in their order (stages.STAGES)."""
BAD = frozenset({"retry", "lost", "failed", "parked"})
"""Outcomes that mark a span as an error."""
Value = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Span:
    """One closed span. ``start`` and ``end`` are seconds since the epoch; ``parent_id`` is None for the root."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int | None
    start: float
    end: float
    failed: bool = False
    outward: bool = False
    """Whether it is a call to another system."""
    attributes: Mapping[str, Value] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The trace of one study: ``key`` is the ledger's (no two ledgers share a trace), ``study_id`` its number there."""

    key: str
    study_id: int

    @property
    def id(self) -> int:
        """128 bits, never zero."""
        digest = hmac.new(self.key.encode(), f"trace of study {self.study_id}".encode(), hashlib.sha256).digest()
        return int.from_bytes(digest[:16], "big") or 1

    def span_id(self, *parts: Value) -> int:
        """64 bits, never zero, the same for the same parts."""
        return int.from_bytes(hashlib.sha256(repr((self.id, *parts)).encode()).digest()[:8], "big") or 1

    @property
    def root(self) -> int:
        """The span of the study's first arrival."""
        return self.span_id("study")

    def _span(self, name: str, start: float, end: float, of: Sequence[Value], **rest: Any) -> Span:
        given = {"parent_id": self.root, **rest}
        # Two machines' clocks may differ a little; a span that ends before it begins is refused by some collectors.
        return Span(
            name=name, trace_id=self.id, span_id=self.span_id(*of), start=start, end=max(start, end), **given
        )  # fmt: skip

    def arrival(self, study: StudyRow, complete_at: float, *, first: bool) -> Span:
        """From the first image to the decision that all are there; for later images from the last of them."""
        said = {"medai.modality": known_modality(study.modality), "medai.images": study.instances}
        if first:
            start = study.first_instance_at
            return self._span("study", start, complete_at, ["study"], parent_id=None, attributes=said)
        start = study.last_instance_at
        return self._span("later images", start, complete_at, ["later images", complete_at], attributes=said)

    def decision(self, made: Decision, began: float, ended: float, *, job_id: str = "") -> Span:
        """One decision; its reason stays in the ledger."""
        said: dict[str, Value] = {"medai.verdict": made.verdict.value}
        said |= {"medai.route": made.route} if made.route else {}
        said |= {"medai.job": job_id} if job_id else {}
        of = ["decide", made.verdict.value, made.route or "", job_id, began]
        return self._span("decide", began, ended, of, attributes=said)

    def attempt(self, reading: Reading, attempt: Mapping[str, Any], waited_from: float | None) -> Iterator[Span]:
        """A worker's attempt at a reading, the wait before it, and the stages that it went through."""
        said = {**reading.attributes(), "medai.attempt": int(attempt["number"])}
        start, end = float(attempt["started_at"]), float(attempt["ended_at"])
        if waited_from is not None:
            yield self._span("queue", min(waited_from, start), start, ["queue", attempt["id"]], attributes=said)
        outcome = str(attempt["outcome"])
        told = {**said, "medai.outcome": outcome, "medai.worker": str(attempt["worker"])}
        of: list[Value] = ["attempt", int(attempt["id"])]
        yield self._span("read", start, end, of, attributes=told, failed=outcome in BAD)
        for name, begin, over in stages_within(reading.stamps, start, end):
            yield self._span(name, begin, over, [*of, name], parent_id=self.span_id(*of), attributes=said)

    def delivery(self, reading: Reading, tried: Tried) -> Span:
        """One try to deliver."""
        said: dict[str, Value] = {
            **reading.attributes(),
            "medai.destination": tried.destination,
            "medai.protocol": tried.protocol,
            "medai.kind": tried.kind,
            "medai.attempt": tried.attempt,
            "medai.outcome": tried.outcome,
        }
        of: list[Value] = ["deliver", reading.job_id, tried.destination, tried.kind, tried.attempt, tried.began]
        name, bad = f"deliver {tried.destination}", tried.outcome in BAD
        return self._span(name, tried.began, tried.ended, of, attributes=said, outward=True, failed=bad)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Which reading a span belongs to, and its stamps."""

    job_id: str
    route: str
    model: str
    model_version: str
    modality: str
    priority: int
    stamps: Mapping[str, float] = field(default_factory=dict, hash=False)

    def attributes(self) -> dict[str, Value]:
        """What every span of the reading says."""
        return {
            "medai.job": self.job_id,
            "medai.route": self.route,
            "medai.model": self.model,
            "medai.model_version": self.model_version,
            "medai.modality": known_modality(self.modality),
            "medai.priority": Priority(self.priority).name.lower(),
        }


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A try to deliver, with its outcome: done, retry, parked."""

    destination: str
    protocol: str
    kind: str
    attempt: int
    outcome: str
    began: float
    ended: float


def stages_within(stamps: Mapping[str, float], start: float, end: float) -> Iterator[tuple[str, float, float]]:
    """The worker's stages that ended within an attempt: a later attempt's stamps replace those of the one before."""
    before = start
    for name in OF_ATTEMPT:
        over = stamps.get(STAGES[name][1])
        if over is None or not before <= over <= end:
            return
        yield name, before, over
        before = over


def waiting_since(
    stamps: Mapping[str, float], attempts: Sequence[Mapping[str, Any]], number: int, retried_at: float | None
) -> float | None:
    """When the wait before an attempt began: the message went, the attempt before ended, or a person asked for it."""
    if number == 1 or not attempts:
        return stamps.get(StampName.ENQUEUED)
    known = [attempts[-1]["ended_at"], retried_at]
    return max((float(at) for at in known if at is not None), default=None)
