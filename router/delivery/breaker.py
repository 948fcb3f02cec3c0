"""A circuit breaker for one destination: pure, with the time given.

Closed, everything goes. After ``THRESHOLD`` failures in a row without a success it opens: one probe at a time, at
growing distances, until something gets through. Refusals of a single message do not count: the destination answered.
Next: courier.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

THRESHOLD = 3
FIRST_S = 1.0
LONGEST_S = 15.0
"""Longest time between two probes: what a destination that is back costs at most."""


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """How a destination fared; ``next_try_at`` matters while it is open."""

    failures: int = 0
    since: float = 0.0
    next_try_at: float = 0.0
    reason: str = ""

    @property
    def open(self) -> bool:
        """Whether deliveries wait for a probe."""
        return self.failures >= THRESHOLD

    def may_try(self, now: float) -> bool:
        """Whether something may be sent now; a probe that lies too far ahead was planned by another clock."""
        return not self.open or now >= self.next_try_at or self.next_try_at > now + LONGEST_S + 1.0

    def failed(self, now: float, reason: str) -> Breaker:
        """After a delivery that the destination did not answer."""
        failures = self.failures + 1
        wait_s = min(LONGEST_S, FIRST_S * 2 ** max(0, min(failures - THRESHOLD, 16)))
        since = self.since if self.failures else now
        return replace(self, failures=failures, since=since, next_try_at=now + wait_s, reason=reason)

    def worked(self, now: float) -> Breaker:
        """After a delivery that was answered, whatever the answer was."""
        return self if not self.failures else Breaker(since=now)
