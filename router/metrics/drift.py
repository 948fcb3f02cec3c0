"""Drift for Prometheus: each deployed model's recent readings beside its training set, worked out now and then.

Labels are bounded: models that workers told of, and the quantities that a model's own reference names. Of a model's
versions the one that read last counts. Next: reports/models.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cachetools import TLRUCache
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import select

from medai.router.ledger import schema as t
from medai.router.reports import models
from medai.router.reports.report import Tables

EVERY_S = 600.0
"""Thousands of readings' figures are read for it, which is too much for every scrape."""
EMPTY_S = 30.0
"""A model that has read nothing is asked for sooner: that costs nothing, and its first readings show."""
MOST = 1000
"""Models that are told of."""
LABELS = ["model", "what"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One quantity of one model: its index (None without readings), and on how many readings that rests."""

    model: str
    what: str
    psi: float | None
    readings: int


class DriftFigures:
    """The rows of the last working out, at most ``every_s`` old."""

    def __init__(
        self,
        ledger: Tables,
        clock: Callable[[], float],
        *,
        every_s: float = EVERY_S,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger, self._clock, self._every_s = ledger, clock, every_s
        self._kept: TLRUCache[str, list[Row]] = TLRUCache(MOST, self._old_at, timer)
        self._models: list[str] = []

    def rows(self) -> list[Row]:
        """Raises MedaiError where the ledger is away."""
        if not self._models or any(model not in self._kept for model in self._models):
            self._models = _models(self._ledger)
        return [row for model in self._models for row in self._rows(model)]

    def _rows(self, model: str) -> list[Row]:
        rows = self._kept.get(model)
        if rows is None:
            rows = self._kept[model] = _rows(self._ledger, model, self._clock())
        return rows

    def _old_at(self, _model: str, rows: list[Row], now: float) -> float:
        """When they are to be worked out anew, by the timer."""
        return now + (self._every_s if any(row.readings for row in rows) else min(EMPTY_S, self._every_s))


def _models(ledger: Tables) -> list[str]:
    c = t.model_cards.c
    with ledger.begin(reads_only=True) as db:
        return list(db.execute(select(c.name).distinct().order_by(c.name).limit(MOST)).scalars())


def _rows(ledger: Tables, model: str, now: float) -> list[Row]:
    read = models.versions(ledger, model)
    if not read:
        return []
    found = models.drift(ledger, model, read[0].version, now)
    return [Row(model=model, what=each.quantity, psi=each.psi, readings=each.n) for each in found.quantities]


def metrics(rows: list[Row]) -> Iterator[Metric]:
    """The index of each quantity, and the number of readings that it rests on."""
    index = GaugeMetricFamily(
        "medai_drift_psi", "Population stability index of recent readings against the training set.", labels=LABELS
    )
    count = GaugeMetricFamily("medai_drift_readings", "Recent readings that the index rests on.", labels=LABELS)
    for row in rows:
        if row.psi is not None:
            index.add_metric([row.model, row.what], row.psi)
        count.add_metric([row.model, row.what], row.readings)
    yield from (index, count)
