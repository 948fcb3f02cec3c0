"""The stages of a reading's journey, and how long each took: pure arithmetic on stamps.

The headline is last instance -> ORU acknowledged. Next: waterfall.py (drawn on one axis), reports/turnaround.py (over
many readings).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medai.router.contract import StampName

STAGES: Mapping[str, tuple[StampName, StampName]] = {
    "order_to_acquisition": (StampName.ORDERED, StampName.ACQUIRED),
    "acquisition_to_received": (StampName.ACQUIRED, StampName.FIRST_INSTANCE),
    "receiving": (StampName.FIRST_INSTANCE, StampName.LAST_INSTANCE),
    "completeness_wait": (StampName.LAST_INSTANCE, StampName.STUDY_COMPLETE),
    "routing": (StampName.STUDY_COMPLETE, StampName.ENQUEUED),
    "queue_wait": (StampName.ENQUEUED, StampName.STARTED),
    "fetch": (StampName.STARTED, StampName.FETCHED),
    "prepare": (StampName.FETCHED, StampName.PREPARED),
    "infer": (StampName.PREPARED, StampName.INFERRED),
    "encode": (StampName.INFERRED, StampName.ENCODED),
    "store": (StampName.ENCODED, StampName.STORED),
    "deliver": (StampName.STORED, StampName.ORU_ACKNOWLEDGED),
}
"""Stage -> the two stamps it lies between, in the order of the journey."""
CLOCK_S = 1.0
"""Clocks of two machines may differ by this much before a stage counts as senseless."""
HEADLINE = (StampName.LAST_INSTANCE, StampName.ORU_ACKNOWLEDGED)


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Of some readings, in seconds; None of none."""

    n: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


def stages_of(stamps: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each stage whose two stamps exist and follow each other.

    An order that was written after its images (old images sent again) says nothing of the way between them.
    """
    lengths = {
        name: round(stamps[end] - stamps[start], 4)
        for name, (start, end) in STAGES.items()
        if start in stamps and end in stamps
    }
    return {name: length for name, length in lengths.items() if length > -CLOCK_S}


def turnaround_of(stamps: Mapping[str, float]) -> float | None:
    """Seconds from the last instance to the ORU's acknowledgement (to STORED where no RIS is configured)."""
    start = stamps.get(HEADLINE[0])
    end = stamps.get(HEADLINE[1], stamps.get(StampName.STORED))
    return None if start is None or end is None else round(end - start, 4)


def percentiles(lengths_s: Sequence[float]) -> Percentiles:
    """How many, and p50, p95 and p99."""
    ordered = sorted(lengths_s)
    p50, p95, p99 = (round(quantile(ordered, share), 4) if ordered else None for share in (0.50, 0.95, 0.99))
    return Percentiles(n=len(ordered), p50_s=p50, p95_s=p95, p99_s=p99)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of sorted values, by linear interpolation between order statistics (Hyndman and Fan's type 7)."""
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
