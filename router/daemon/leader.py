"""Of several routers one leads; the others stand by and take over when it falls silent.

The lease is a row of the ledger whose counter the leader moves. A router that stands by watches the counter on its own
monotonic clock: no two clocks are compared, and a stepped one changes nothing. Next: ledger/fleet.py (the row),
service.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from medai.router import processes
from medai.router.errors import TemporaryError
from medai.router.ledger.fleet import Fleet, LeaseSeen
from medai.router.log import describe

NAME = "router"
LEASE_S = 6.0
"""A leader that is silent for this long has lost the lead."""
RENEW_S = 1.5
log = structlog.get_logger(__name__)


class Leadership:
    """One router's share in the lead: ``win`` waits for it, then it is renewed until lost or let go."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        lease_s: float = LEASE_S,
        renew_s: float = RENEW_S,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
        me: str | None = None,
    ) -> None:
        self._fleet = fleet
        self._lease_s, self._renew_s = lease_s, renew_s
        self._monotonic, self._clock = monotonic, clock
        self._me = me or processes.identity()
        self._token: str | None = None
        self._renewed_at = 0.0
        self._seen: LeaseSeen | None = None
        self._seen_at = 0.0
        self._looked_at = 0.0
        self._thread: threading.Thread | None = None
        self._end = threading.Event()
        self.lost = threading.Event()
        """Set when another leads; every part that leads watches it."""

    @property
    def leads(self) -> bool:
        """Whether this router leads now; a router that was frozen asks the ledger before it says yes."""
        if self._token is None or self.lost.is_set():
            return False
        if self._monotonic() - self._renewed_at >= self._lease_s:
            self._renew()
        return not self.lost.is_set()

    def win(self, stop: threading.Event) -> bool:
        """Wait until this router leads (True) or is told to stop (False)."""
        told = False
        while not stop.is_set():
            try:
                if self.try_once():
                    self._keep()
                    return True
            except TemporaryError as error:
                log.warning("ledger_unreachable", reason=describe(error))
            if not told and self._seen is not None:
                log.info("standing_by", reason="another router leads: this one takes over when it falls silent")
                told = True
            stop.wait(min(1.0, self._renew_s))
        return False

    def try_once(self) -> bool:
        """Take the lead when nobody has it, its holder let go, is dead or has been silent for long enough."""
        if not self._fleet.fits():
            raise TemporaryError(
                "the ledger's tables are another version's: is a newer Med-AI in charge? Update this one"
            )
        seen = self._fleet.lease(NAME)
        now = self._monotonic()
        if seen != self._seen or now - self._looked_at > self._lease_s / 2:  # after a pause of its own it knows nothing
            self._seen, self._seen_at = seen, now
        self._looked_at = now
        free = seen is None or not seen.holder or processes.is_dead(seen.holder)
        if not free and now - self._seen_at < self._lease_s:
            return False
        token = self._fleet.take_lease(NAME, self._me, self._clock(), seen=seen)
        if token is None:
            return False
        self._token, self._renewed_at = token, self._monotonic()
        self.lost.clear()
        log.info("leading", after="" if seen is None or free else "the other router fell silent")
        return True

    def _keep(self) -> None:
        self._end.clear()
        self._thread = threading.Thread(target=self._renewals, name="leader", daemon=True)
        self._thread.start()

    def _renewals(self) -> None:
        while not self._end.wait(self._renew_s) and not self.lost.is_set():
            self._renew()

    def _renew(self) -> None:
        """A ledger that is away takes no lead away: nobody else can have it either."""
        token = self._token
        if token is None:
            return
        asked_at = self._monotonic()
        try:
            held = self._fleet.renew_lease(NAME, token, self._clock()) and self._fleet.fits()
        except TemporaryError as error:
            log.warning("lead_not_renewed", reason=describe(error))
            return
        if held:
            self._renewed_at = asked_at
        elif not self.lost.is_set():
            log.warning("lead_lost", reason="another router leads now, or the ledger was brought to a newer version")
            self.lost.set()

    def give(self) -> None:
        """Let go, so that the other router need not wait."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        token, self._token, self._seen = self._token, None, None
        if token is None or self.lost.is_set():
            return
        try:
            self._fleet.give_lease(NAME, token, self._clock())
        except TemporaryError as error:
            log.warning("lead_not_given", reason=describe(error))
