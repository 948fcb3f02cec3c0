"""Who looked at what lately, so that a page that keeps itself fresh is one line of the audit trail in a while.

Next: api.py, pages.py, pictures.py, viewer.py (who write looks down).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cachetools import TTLCache
from fastapi import Request

from medai.router.console.auth import address_of
from medai.router.ledger import Ledger
from medai.router.ledger.accounts import Account

LOOKED_S = 900.0
"""Looking at the same again within this time is the same look."""
MOST_LOOKS = 100_000
"""So many looks are remembered; of more, the first are written down again."""


class Looks:
    """Who looked at what within ``LOOKED_S``."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._lately: TTLCache[tuple[str, str, str, int], bool] = TTLCache(MOST_LOOKS, LOOKED_S, timer)
        self._lock = threading.Lock()

    def is_new(self, account: str, address: str, action: str, study_id: int) -> bool:
        """Whether this look is to be written down."""
        look = (account, address, action, study_id)
        with self._lock:
            new = look not in self._lately
            if new:
                self._lately[look] = True
        return new


def looked(request: Request, who: Account, action: str, study_id: int | None = None, job_id: str | None = None) -> None:
    """Write down that somebody looked, unless they do so all the time; ``study_id`` None: at a list of all."""
    state = request.app.state
    if state.looks.is_new(who.name, address_of(request), action, study_id or 0):
        ledger: Ledger = state.ledger
        ledger.accounts.note_action(who.name, action, state.clock(), study_id=study_id, job_id=job_id)
