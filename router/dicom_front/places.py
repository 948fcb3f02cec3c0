"""The associations that the archive has at a time, as many as it has threads (docs/orthanc.md), and who waits for one.

Whoever has few associations goes before who has many, and who came first before who came later. While somebody waits,
an association in which nothing moves is ended. Next: relay.py (who asks).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

AT_WORK = 6
"""Where the archive has not answered yet to what moved last, the patience with an association is so many times as long:
a large object takes it a while to store."""
LOOK_S = 0.5
"""How often who waits looks for an association in which nothing moves."""


@dataclass(eq=False, kw_only=True)
class Holder:
    """Who has a place, or waits for one."""

    peer: str
    end: Callable[[str], None]
    """Ends its association, for a reason."""
    moved_at: float
    """When something last moved in it that is worth a place."""
    answered_at: float = 0.0
    """When the archive last said something in it."""


class Places:
    """``total`` associations, ``of_peer`` for one address."""

    def __init__(self, *, total: int, of_peer: int, silent_s: float, clock: Callable[[], float]) -> None:
        self._total = total
        self._of_peer = min(of_peer, total)
        self._silent_s = silent_s
        self._clock = clock
        self._taken: list[Holder] = []
        self._waiting: list[Holder] = []
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._taken)

    async def take(self, holder: Holder, wait_s: float) -> bool:
        """Wait for a place; False where none became free in time."""
        until = self._clock() + wait_s
        self._waiting.append(holder)
        try:
            while not self._is_next(holder):
                left_s = until - self._clock()
                if left_s <= 0:
                    return False
                if not self._make_room(holder):
                    await self._change(min(left_s, LOOK_S))
            holder.moved_at = holder.answered_at = self._clock()
            self._taken.append(holder)
            return True
        finally:
            self._waiting.remove(holder)
            self._tell()  # who is next may be another now

    def give_back(self, holder: Holder) -> None:
        """Its association is over; harmless where it has no place."""
        if holder in self._taken:
            self._taken.remove(holder)
            self._tell()

    def _is_next(self, holder: Holder) -> bool:
        if len(self._taken) >= self._total:
            return False
        counts = Counter(each.peer for each in self._taken)
        may = [each for each in self._waiting if counts[each.peer] < self._of_peer]
        return bool(may) and min(may, key=lambda each: counts[each.peer]) is holder

    def _make_room(self, holder: Holder) -> bool:
        """End the one in which nothing has moved for longest, of those that keep this one waiting."""
        mine = [each for each in self._taken if each.peer == holder.peer]
        in_the_way = mine if len(mine) >= self._of_peer else self._taken if len(self._taken) >= self._total else []
        silent = [each for each in in_the_way if self._is_silent(each)]
        if not silent:
            return False
        ended = min(silent, key=lambda each: each.moved_at)
        self._taken.remove(ended)
        ended.end("silent")
        self._tell()
        return True

    def _is_silent(self, holder: Holder) -> bool:
        patience_s = self._silent_s * (1 if holder.answered_at >= holder.moved_at else AT_WORK)
        return self._clock() - holder.moved_at >= patience_s

    async def _change(self, within_s: float) -> None:
        changed = self._changed
        try:
            async with asyncio.timeout(within_s):
                await changed.wait()
        except TimeoutError:
            pass

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
