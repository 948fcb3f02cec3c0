"""What was costly to make, kept for a while: made once, however many ask. Next: pictures.py, app.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from cachetools import LRUCache, TTLCache

T = TypeVar("T")


class Shelf(Generic[T]):
    """At most ``most`` things by name; the one that was asked for longest ago goes first."""

    def __init__(self, most: int) -> None:
        self._kept: LRUCache[str, T] = LRUCache(most)
        self._lock = threading.Lock()

    def get(self, name: str, make: Callable[[], T]) -> T:
        """That of a name; one is made at a time, as it takes memory."""
        with self._lock:
            if name not in self._kept:
                self._kept[name] = make()
            return self._kept[name]

    def __contains__(self, name: object) -> bool:
        with self._lock:
            return name in self._kept


class Fresh(Generic[T]):
    """One thing that is made again once it is older than ``fresh_s``; one caller makes it, the others wait for it."""

    def __init__(self, make: Callable[[], T], *, fresh_s: float, timer: Callable[[], float] = time.monotonic) -> None:
        self._make = make
        self._kept: TTLCache[str, T] = TTLCache(1, fresh_s, timer)
        self._lock = threading.Lock()

    def look(self) -> T:
        """The thing, so old at most."""
        with self._lock:
            kept = self._kept.get("it")
            if kept is None:
                kept = self._kept["it"] = self._make()
            return kept
