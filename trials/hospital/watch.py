"""Looks at a running site about once a second: queue, workers, deliveries by ``/metrics``, cores by the kernel.

A part that does not answer is a gap in the curve, not an error: in a trial parts are down on purpose.
Next: arm.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import urllib3
from prometheus_client.parser import text_string_to_metric_families

from medai.trials.box import Box


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen: numbers of readings by state, and the queue by priority."""

    waiting: Mapping[str, int]
    """Priority (stat, urgent, routine, background) -> jobs that wait for a worker."""
    oldest_s: float
    running: int
    delivering: int
    parked: int
    arriving: int
    """Studies whose completeness is not decided yet."""


@dataclass
class Watcher:
    """Asks one site."""

    box: Box
    _ticks: tuple[int, int] = field(default=(0, 0))

    def look(self) -> Look | None:
        """What the router says now; None where it does not answer."""
        try:
            answer = self.box.http.request("GET", str(self.box.facts["router"]["metrics"]), timeout=2.0, retries=False)
        except urllib3.exceptions.HTTPError:
            return None
        return parse(answer.data.decode()) if answer.status == 200 else None

    def cpu(self) -> float:
        """Share of all cores that was busy since the last call, 0 to 1."""
        now = _cpu_ticks()
        busy, total = now[0] - self._ticks[0], now[1] - self._ticks[1]
        first, self._ticks = self._ticks == (0, 0), now
        return busy / total if total and not first else 0.0


def parse(text: str) -> Look | None:
    """Prometheus text to a Look; None where the ledger did not answer the router either, or the page is cut off."""
    found: dict[tuple[str, str], float] = {}
    try:
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except ValueError:
        return None
    for sample in samples:
        told = sample.labels
        key = (sample.name, told.get("priority") or told.get("state") or told.get("kind") or "")
        if sample.name == "medai_queue_oldest_seconds":
            found[(sample.name, "")] = max(found.get((sample.name, ""), 0.0), sample.value)
        else:
            found[key] = found.get(key, 0.0) + sample.value
    if not found.get(("medai_ledger_up", "")):
        return None
    return Look(
        waiting={p: int(found.get(("medai_queue_depth", p), 0)) for p in ("stat", "urgent", "routine", "background")},
        oldest_s=found.get(("medai_queue_oldest_seconds", ""), 0.0),
        running=int(found.get(("medai_jobs", "running"), 0)),
        delivering=int(found.get(("medai_jobs", "delivering"), 0)),
        parked=int(sum(value for (name, _), value in found.items() if name == "medai_dead_letters")),
        arriving=int(found.get(("medai_studies_arriving", ""), 0)),
    )


def _cpu_ticks() -> tuple[int, int]:
    numbers = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(numbers) - numbers[3] - numbers[4], sum(numbers)


def machine() -> dict[str, str | int | float]:
    """Cores and memory."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": os.cpu_count() or 1,
        "memory_gb": round(pages * size / 2**30, 1),
        "load_at_start": os.getloadavg()[0],
    }
