"""Whether the parts that the system needs answer, asked at most every few seconds however many look. Next: pages.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cachetools import TTLCache

from medai.router.errors import MedaiError
from medai.router.reports.status import DestinationEntry

FRESH_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One part that the system needs, and why it is away."""

    name: str
    up: bool
    reason: str = ""


class Peers:
    """``probes``: name -> what raises a MedaiError while that part is away."""

    def __init__(self, probes: Mapping[str, Callable[[], object]], timer: Callable[[], float] = time.monotonic) -> None:
        self._probes = probes
        self._lock = threading.Lock()
        self._fresh: TTLCache[str, bool] = TTLCache(1, FRESH_S, timer)
        self._seen: tuple[Peer, ...] = ()

    def look(self, destinations: Sequence[DestinationEntry]) -> tuple[Peer, ...]:
        """Every part; the destinations as the courier found them.

        One caller asks; the others are shown what was seen before, as a part that hangs may take half a minute.
        """
        if self._lock.acquire(blocking=not self._seen):
            try:
                if "seen" not in self._fresh:
                    self._seen = tuple(_asked(name, probe) for name, probe in self._probes.items())
                    self._fresh["seen"] = True
            finally:
                self._lock.release()
        return (*self._seen, *(Peer(name=f"to {d.name}", up=not d.away, reason=d.reason) for d in destinations))


def _asked(name: str, probe: Callable[[], object]) -> Peer:
    try:
        probe()
    except MedaiError as error:
        return Peer(name=name, up=False, reason=str(error))
    return Peer(name=name, up=True)
