"""Notice that the system's clock was stepped, so that the waits in the ledger can move with it.

Planned moments (a study's quiet period, a retry) are wall-clock times, because they outlive the process. Where the wall
clock and the monotonic clock disagree about how much time has passed, the wall clock was set. Next: loop.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable

NOTICEABLE_S = 2.0
"""Smaller steps cost at most that much; a clock that is slewed by NTP moves less between two looks."""


class StepWatch:
    """Compares the two clocks at every look."""

    def __init__(self, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._offset = clock() - monotonic()

    def step_s(self) -> float:
        """How far the clock was put forward (positive) or back since ``settled``; 0 where it was not."""
        step = self._clock() - self._monotonic() - self._offset
        if abs(step) >= NOTICEABLE_S:
            return step
        self._offset += step  # a slewed clock is followed
        return 0.0

    def settled(self, step_s: float) -> None:
        """The waits have been moved by this much."""
        self._offset += step_s
