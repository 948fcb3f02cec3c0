"""What is to be done when: actions with their hospital times, done in threads when their time has come.

An action that fails because its part is away is tried again, as a clerk would, until the trial ends: an order that the
RIS could not take is placed when it is back. Next: arm.py.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from medai.trials.box import BoxError
from medai.trials.clock import Clock

AGAIN_S = 1.0
"""Real seconds between two tries."""
Action = Callable[[], None]


@dataclass
class Agenda:
    """Hand out what is due by ``tick``; ``close`` waits for what is under way."""

    clock: Clock
    threads: int = 8
    _heap: list[tuple[float, int, Action]] = field(default_factory=list)
    _running: list[Future[None]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=self.threads, thread_name_prefix="agenda")

    def at(self, hospital_s: float, action: Action) -> None:
        """Do this at that time, or at once where the time is past."""
        heapq.heappush(self._heap, (hospital_s, next(self._numbers), action))

    def tick(self) -> None:
        """Begin what is due; raises what an action raised (but BoxError, which is tried again)."""
        while self._heap and self._heap[0][0] <= self.clock.hospital_s():
            self._running.append(self._pool.submit(self._persist, heapq.heappop(self._heap)[2]))
        ended = [future for future in self._running if future.done()]
        self._running = [future for future in self._running if not future.done()]
        for future in ended:
            future.result()

    @property
    def idle(self) -> bool:
        """Nothing planned, nothing under way."""
        return not self._heap and not self._running

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _persist(self, action: Action) -> None:
        while not self.clock.stopped.is_set():
            try:
                action()
            except BoxError:
                self.clock.stopped.wait(AGAIN_S)
            else:
                return
