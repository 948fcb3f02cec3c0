"""Drift for Prometheus: each deployed model's recent readings beside its training set, worked out now and then.

Labels are bounded: models that workers told of, and the quantities that a model's own reference names. Of a model's
versions the one that read last counts. Next: reports/models.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import select

from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.reports import models as deployed

EVERY_S = 600.0
"""Thousands of readings' figures are read for it, which is too much for every scrape."""
EMPTY_S = 30.0
"""A model that has read nothing is asked for sooner: that costs nothing, and its first readings show."""
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

    def __init__(self, ledger: Ledger, clock: Callable[[], float], *, every_s: float = EVERY_S) -> None:
        self._ledger, self._clock, self._every_s = ledger, clock, every_s
        self._kept: dict[str, tuple[float, list[Row]]] = {}

    def rows(self) -> list[Row]:
        """Raises MedaiError where the ledger is away; the old rows stay then."""
        now = self._clock()
        if not self._kept or any(self._is_old(at, rows, now) for at, rows in self._kept.values()):
            for model in _models(self._ledger):
                if model not in self._kept or self._is_old(*self._kept[model], now):
                    self._kept[model] = (now, _of(self._ledger, model, now))
        return [row for _, rows in self._kept.values() for row in rows]

    def _is_old(self, at: float, rows: list[Row], now: float) -> bool:
        limit_s = self._every_s if any(row.readings for row in rows) else min(EMPTY_S, self._every_s)
        return not 0 <= now - at < limit_s


def _models(ledger: Ledger) -> list[str]:
    c = t.model_cards.c
    with ledger.begin(reads_only=True) as db:
        return list(db.execute(select(c.name).distinct().order_by(c.name)).scalars())


def _of(ledger: Ledger, model: str, now: float) -> list[Row]:
    read = deployed.versions(ledger, model)
    if not read:
        return []
    found = deployed.drift(ledger, model, read[0]["version"], now)
    return [
        Row(model=model, what=each["quantity"], psi=each["psi"], readings=each["n"]) for each in found["quantities"]
    ]


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
