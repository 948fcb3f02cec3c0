"""When the ledger is pruned: by the router that leads, a page each second, a round a day.

A page that fails is left for the next round, and nothing else waits for it. Next: ledger/retention.py (what goes).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import structlog

from medai.router.errors import MedaiError
from medai.router.ledger.retention import KINDS, Limits, Mark, Retention
from medai.router.log import describe
from medai.router.settings.retention import DAY_S, RetentionSettings

FIRST_S = 60.0
"""After its start a router has other things to do."""
PAUSE_S = 1.0
log = structlog.get_logger(__name__)


class Pruner:
    """Turns one page after the other. ``counts``: what went since the process began, by what it was."""

    def __init__(
        self,
        retention: Retention,
        keep: RetentionSettings,
        counts: Counter[str],
        *,
        receivers: tuple[str, ...] = (),
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._retention = retention
        self._keep = keep
        self._counts = counts
        self._receivers = receivers
        self._clock = clock
        self._monotonic = monotonic
        self._kind = 0
        self._mark: Mark | None = None
        self._round: Counter[str] = Counter()
        self._began = self._next = monotonic() + FIRST_S

    def tick(self) -> bool:
        """One page, where it is time; whether there was one."""
        now = self._monotonic()
        if now < self._next:
            return False
        self._next = now + PAUSE_S
        kind, mark = KINDS[self._kind], self._mark
        self._kind, self._mark = (self._kind + 1) % len(KINDS), None  # whatever becomes of this page
        try:
            at = self._clock()
            page = self._retention.page(kind, mark, Limits.of(self._keep, at, self._receivers), at)
        except MedaiError as error:
            log.warning("not_pruned", what=kind, reason=describe(error))
            page = None
        if page is not None:
            self._counts.update(page.pruned)
            self._round.update(page.pruned)
            if page.end is not None:
                self._kind, self._mark = KINDS.index(kind), page.end
        if self._kind == 0 and self._mark is None:
            self._rest(now)
        return True

    def _rest(self, now: float) -> None:
        """The round is over."""
        if went := {what: count for what, count in self._round.items() if count}:
            log.info("pruned", **went)
        self._round.clear()
        self._next = max(now + PAUSE_S, self._began + DAY_S)
        self._began = self._next
