"""Whether what a model is shown, and what it makes of it, still looks like its training set: pure, on lists of numbers.

Two measures for each quantity. The population stability index over the reference's bins, sum of (p - q) ln(p / q),
with the usual reading: below 0.1 no change to speak of, from 0.25 a large one (Siddiqi N. Credit Risk Scorecards.
Wiley, 2006); and the two-sample Kolmogorov-Smirnov distance, the largest gap between the two cumulative curves.
Readings of one day of one scanner are not independent draws, so no p-value is given. Next: models.py.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from medai.router.reports.report import Report

MODERATE, LARGE = 0.1, 0.25
FEWEST = 20
"""With fewer readings chance alone makes large indices over ten bins."""
HALF = 0.5
"""Added to the count of every bin: an empty one would make the index infinite."""
Level = Literal["steady", "moderate", "large", "too few"]
Figures = Mapping[str, float | str]
"""Quantity -> what one reading came to."""


class _Known(BaseModel):
    """A part of a reference; what later ones say beyond this is not needed here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class KnownQuantity(_Known):
    """How a number is distributed in the training set."""

    title: str
    unit: str
    n: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    quantiles: tuple[float, ...]


class KnownKind(_Known):
    """How a word is distributed in the training set."""

    title: str
    n: int
    counts: dict[str, int]


class Reference(_Known):
    """What a bundle says of its training set (docs/reference.json)."""

    dataset: str = ""
    cases: int = 0
    notes: tuple[str, ...] = ()
    quantities: dict[str, KnownQuantity] = {}
    kinds: dict[str, KnownKind] = {}


class Drift(Report):
    """One quantity of recent readings beside the training set."""

    quantity: str
    title: str
    unit: str
    n: int = Field(description="Recent readings that have it.")
    trained_on: int
    psi: float | None = Field(description="Population stability index; below 0.1 steady, from 0.25 large.")
    ks: float | None = Field(description="Largest gap between the cumulative distributions.")
    level: Level
    bins: tuple[tuple[str, float, float], ...] = Field(description="Bin, share of the training set, share of readings.")
    median: float | None
    trained_median: float | None


def drifts(reference: Reference, rows: Sequence[Figures]) -> list[Drift]:
    """Every quantity of a reference, the most changed first; ``rows``: of recent readings."""
    numbers = [
        _number(name, known, [float(row[name]) for row in rows if _is_number(row.get(name))])
        for name, known in reference.quantities.items()
    ]
    kinds = [
        _kind(name, known, [str(row[name]) for row in rows if row.get(name)]) for name, known in reference.kinds.items()
    ]
    return sorted([*numbers, *kinds], key=lambda drift: (-(drift.psi or 0.0), drift.quantity))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def psi(reference: Sequence[int], recent: Sequence[int]) -> float:
    """Population stability index of two histograms over the same bins; half a case is added to each bin."""
    p, q = _shares(reference), _shares(recent)
    return math.fsum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) + HALF * len(counts)
    return [(count + HALF) / total for count in counts]


def ks_distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Largest gap between two empirical distributions (both sorted)."""
    gaps = (abs(bisect_right(one, x) / len(one) - bisect_right(other, x) / len(other)) for x in {*one, *other})
    return max(gaps)


def _level(value: float, n: int) -> Level:
    if n < FEWEST:
        return "too few"
    return "large" if value >= LARGE else "moderate" if value >= MODERATE else "steady"


def _number(name: str, known: KnownQuantity, values: list[float]) -> Drift:
    counts = [0] * (len(known.edges) + 1)
    for value in values:
        counts[bisect_right(known.edges, value)] += 1
    found = psi(known.counts, counts) if values else None
    values, quantiles = sorted(values), sorted(known.quantiles)
    return Drift(
        quantity=name, title=known.title, unit=known.unit, n=len(values), trained_on=known.n,
        psi=found, ks=ks_distance(quantiles, values) if values and quantiles else None,
        level=_level(found or 0.0, len(values)), bins=_bins(_names(known.edges), known.counts, counts),
        median=median(values) if values else None,
        trained_median=median(quantiles) if quantiles else None,
    )  # fmt: skip


def _kind(name: str, known: KnownKind, values: list[str]) -> Drift:
    """Of words (manufacturer, device): each is a bin, and whatever the training set has not seen is one more."""
    seen = known.counts
    found = Counter(value if value in seen else "" for value in values)
    names = [*seen, ""]
    trained, counts = [seen.get(each, 0) for each in names], [found[each] for each in names]
    index = psi(trained, counts) if values else None
    shown = [each or "not in the training set" for each in names]
    return Drift(
        quantity=name, title=known.title, unit="", n=len(values), trained_on=known.n, psi=index,
        ks=None, level=_level(index or 0.0, len(values)), bins=_bins(shown, trained, counts), median=None,
        trained_median=None,
    )  # fmt: skip


def _bins(names: Sequence[str], trained: Sequence[int], recent: Sequence[int]) -> tuple[tuple[str, float, float], ...]:
    of, to = sum(trained) or 1, sum(recent) or 1
    return tuple((name, a / of, b / to) for name, a, b in zip(names, trained, recent, strict=True))


def _names(edges: Sequence[float]) -> list[str]:
    if not edges:
        return ["all"]
    between = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return [f"below {edges[0]:g}", *between, f"from {edges[-1]:g}"]
