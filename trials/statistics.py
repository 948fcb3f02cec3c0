"""Percentiles and differences with 95 % bootstrap confidence intervals (percentile method, Efron and Tibshirani 1993).

What has not happened (NaN) is counted, never dropped in silence. Seeded: the same data give the same interval.
Next: report/page.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEAST = 8
"""Fewer values give no interval: it would pretend to know."""
RESAMPLES = 2000
AT_ONCE = 2_000_000
Values = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure; ``low`` and ``high`` are None where there are too few values."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Percentiles of times, seconds: ``n`` values, ``missing`` that never came."""

    n: int
    missing: int
    p50: Estimate
    p95: Estimate
    p99: Estimate
    mean: float


def summary(values: Iterable[float]) -> Summary | None:
    """None where nothing has happened at all."""
    given = np.array(list(values), dtype=np.float64)
    there = given[~np.isnan(given)]
    if not there.size:
        return None
    p50, p95, p99 = percentiles(there, (50.0, 95.0, 99.0))
    missing = int(given.size - there.size)
    return Summary(n=int(there.size), missing=missing, p50=p50, p95=p95, p99=p99, mean=float(there.mean()))


def percentiles(values: Sequence[float] | Values, which: Sequence[float]) -> list[Estimate]:
    """Percentiles (linear between values) with their intervals."""
    there = np.asarray(values, dtype=np.float64)
    found = np.percentile(there, which)
    if there.size < LEAST:
        return [Estimate(value=float(each)) for each in found]
    spread = np.percentile(_resampled(there), which, axis=1)
    low, high = np.percentile(spread, (2.5, 97.5), axis=1)
    return [Estimate(value=float(v), low=float(a), high=float(b)) for v, a, b in zip(found, low, high, strict=True)]


def paired_difference(before: Iterable[float], after: Iterable[float]) -> tuple[int, Estimate] | None:
    """Number of pairs and mean of ``after`` less ``before`` (negative: sooner); None without a whole pair."""
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if not (math.isnan(a) or math.isnan(b))]
    if not pairs:
        return None
    differences = np.array([b - a for a, b in pairs])
    mean = float(differences.mean())
    if differences.size < LEAST:
        return len(pairs), Estimate(value=mean)
    low, high = np.percentile(_resampled(differences).mean(axis=1), (2.5, 97.5))
    return len(pairs), Estimate(value=mean, low=float(low), high=float(high))


def _resampled(values: Values) -> Values:
    """[resamples, values]; of many values fewer resamples, so that memory stays small."""
    dice = np.random.default_rng(len(values))
    rounds = max(200, min(RESAMPLES, AT_ONCE // len(values)))
    return values[dice.integers(0, len(values), size=(rounds, len(values)))]
