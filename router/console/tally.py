"""Counts over the whole ledger, made at most every few seconds however many look. Next: reports/readings.py (tally)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from medai.router.ledger import Ledger
from medai.router.reports import readings as reports

FRESH_S = 5.0


class Tally:
    """What ``reports.tally`` said some moments ago."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: Mapping[str, Any] = {}
        self._at = float("-inf")

    def look(self) -> Mapping[str, Any]:
        """The counts, five seconds old at most; one caller counts, the others wait for it."""
        with self._lock:
            if not 0 <= self._clock() - self._at < FRESH_S:
                self._seen = reports.tally(self._ledger)
                self._at = self._clock()
            return self._seen
