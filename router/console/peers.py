"""Whether the parts that the system needs answer, asked at most every few seconds however many look. Next: pages.py."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from medai.router.errors import MedaiError

FRESH_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One part, and why it is away."""

    name: str
    up: bool
    reason: str = ""


class Peers:
    """``probes``: name -> what raises a MedaiError while that part is away."""

    def __init__(self, probes: Mapping[str, Callable[[], object]], clock: Callable[[], float]) -> None:
        self._probes = probes
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: list[Peer] = []
        self._at = float("-inf")

    def look(self, status: Mapping[str, Any]) -> list[Peer]:
        """Every part; the destinations as the courier found them (``status``: reports.status).

        One caller asks; the others are shown what was seen before, as a part that hangs may take half a minute.
        """
        if self._lock.acquire(blocking=not self._seen):
            try:
                if not 0 <= self._clock() - self._at < FRESH_S:
                    self._seen = [_asked(name, probe) for name, probe in self._probes.items()]
                    self._at = self._clock()
            finally:
                self._lock.release()
        seen = list(self._seen)
        where = status["destinations"]
        return [*seen, *(Peer(name=f"to {d['name']}", up=not d["away"], reason=d["reason"]) for d in where)]


def _asked(name: str, probe: Callable[[], object]) -> Peer:
    try:
        probe()
    except MedaiError as error:
        return Peer(name=name, up=False, reason=str(error))
    return Peer(name=name, up=True)
