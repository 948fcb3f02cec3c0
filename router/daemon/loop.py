"""The router's loop on one page: hear of studies, decide, make jobs, ring the workers.

``Router.tick`` is one round. Nothing here holds state that the ledger does not: a router that dies at any point starts
again and finds its work there. Next: intake/changes.py (hearing), decider.py (deciding), queue/sweeper.py (ringing),
pruner.py (what is old).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from medai.router.daemon.clock import StepWatch
from medai.router.daemon.decider import LOOK_AGAIN_S, Decider
from medai.router.daemon.pruner import Pruner
from medai.router.delivery.withdrawals import withdrawals
from medai.router.errors import OrthancRefused, TemporaryError
from medai.router.intake.changes import Subscription
from medai.router.intake.facts import FactsReader
from medai.router.ledger import Ledger
from medai.router.log import Pseudonyms, describe
from medai.router.orthanc.client import Orthanc
from medai.router.queue.sweeper import Sweeper
from medai.router.settings.tables import Settings
from medai.router.tracing.tracer import NoTracer, Tracer

LOST_CHECK_S = 1.0
AWAKE_S = 5.0
"""So long after the last arrival or work each round looks at everything."""
IDLE_ROUND_S = 1.0
"""Between two whole rounds of an idle router, which only listens meanwhile; what others write waits for the next."""
log = structlog.get_logger(__name__)


class Opens(Protocol):
    """A port of this process that could not be opened yet, perhaps."""

    def open(self) -> bool:
        """Try (again); whether it is open."""
        ...


class Router:
    """One router: owns the loop, not the parts."""

    def __init__(
        self,
        settings: Settings,
        *,
        orthanc: Orthanc,
        ledger: Ledger,
        sweeper: Sweeper,
        names: Pseudonyms,
        leads: Callable[[], bool] = lambda: True,
        doors: Sequence[Opens] = (),
        follow_merges: Callable[[], None] = lambda: None,
        tracer: Tracer | None = None,
        pruned: Counter[str] | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._sweeper = sweeper
        self._clock = clock
        reader = FactsReader(
            orthanc,
            ledger.orders,
            ledger.identities,
            ledger.deliveries,
            released=lambda uid, doubt: ledger.held.released(uid, doubt, clock()),
        )
        self._subscription = Subscription(
            orthanc,
            ledger,
            reader,
            backlog_h=settings.orthanc.backlog_h,
            withdraw_within_s=settings.ris.withdraw_within_h * 3600.0,
            withdrawn=withdrawals(settings, clock),
            results=settings.results,
            names=names,
            clock=clock,
        )
        self._decider = Decider(
            settings,
            archive=orthanc,
            ledger=ledger,
            reader=reader,
            farewell=self._subscription,
            names=names,
            tracer=tracer or NoTracer(),
            clock=clock,
        )
        counts = Counter() if pruned is None else pruned
        self._pruner = Pruner(
            ledger.retention,
            settings.retention,
            counts,
            receivers=settings.audit.receivers,
            clock=clock,
            monotonic=monotonic,
        )
        self._leads = leads
        self._stopping = threading.Event()
        self._doors = doors
        self._follow_merges = follow_merges
        self._monotonic = monotonic
        self._steps = StepWatch(clock, monotonic)
        policies = [route.completeness for route in settings.routes]
        waits = [max(policy.quiet_s, policy.max_wait_s, policy.max_step_s) for policy in policies]
        self._longest_wait_s = max([LOOK_AGAIN_S, *waits])
        self._next_sweep = 0.0
        self._next_lost_check = 0.0
        self._next_version_check = 0.0
        self._awake_until = 0.0
        self._next_round = 0.0
        self.orthanc_up = False
        self._never_reached = True
        self.heartbeat = clock()

    # -- the loop

    def run(self, stop: threading.Event) -> None:
        """Go round until told to stop or another router leads; what is away is waited for."""
        self._stopping = stop
        while not stop.is_set() and self._leads():
            began = self._clock()
            idle = self._idle()
            busy = self._doze() if idle else self.tick()
            self.heartbeat = self._clock()
            if not busy:
                stop.wait(self._poll_s() if idle else self._pause(began))

    def _idle(self) -> bool:
        """Nothing arrived or was at work for a while, and the last whole round is young."""
        now = self._monotonic()
        return self._awake_until <= now < self._next_round

    def _doze(self) -> bool:
        """Listen, and no more: ten looks a second at a ledger in which nothing changes cost a processor for nothing."""
        return self._guarded(self._hear)

    def _wake(self) -> None:
        self._awake_until = self._monotonic() + AWAKE_S

    def _pause(self, began: float) -> float:
        now, poll = self._clock(), self._poll_s()
        due = self._ledger_next_due()
        if due is not None:
            self._wake()
        until = began + poll if due is None else min(began + poll, max(due, now + 0.005))
        return min(poll, max(0.005, until - now))

    def _poll_s(self) -> float:
        return self._settings.orthanc.poll_s if self.orthanc_up else max(0.5, self._settings.orthanc.poll_s)

    def _ledger_next_due(self) -> float | None:
        try:
            return self._ledger.studies.next_due()
        except TemporaryError:
            return None

    def tick(self) -> bool:
        """One whole round; True when more changes wait already."""
        self._next_round = self._monotonic() + IDLE_ROUND_S
        return self._guarded(self._round)

    def _round(self) -> bool:
        more = self._hear()
        for due in self._ledger.studies.due(self._clock(), longest_s=self._longest_wait_s):
            if self._stopping.is_set() or not self._leads():
                return False  # the rest is due at the next start, or for the router that leads now
            self._decider.consider(due)
        self._send()
        self._pruner.tick()
        return more

    def _guarded(self, turn: Callable[[], bool]) -> bool:
        try:
            return turn()
        except TemporaryError as error:
            log.warning("waiting", reason=describe(error))
        except Exception as error:  # a fault of ours must not end the router, nor make it spin
            log.error("unexpected_error", exc_info=error)
            self._stopping.wait(LOOK_AGAIN_S)
        return False

    def _hear(self) -> bool:
        self._follow_clock()
        return self._listen()

    def _follow_clock(self) -> None:
        step_s = self._steps.step_s()
        if step_s:
            self._ledger.studies.shift_waits(step_s)
            self._steps.settled(step_s)
            log.warning("clock_stepped", by_s=round(step_s, 1), reason="every waiting period was moved along with it")

    def _listen(self) -> bool:
        try:
            poll = self._subscription.poll()
            if self._monotonic() >= self._next_sweep:
                self._subscription.sweep()
                self._next_sweep = self._monotonic() + self._settings.orthanc.sweep_s
        except (TemporaryError, OrthancRefused) as error:
            if self.orthanc_up or self._never_reached:
                log.warning("orthanc_unreachable", reason=describe(error))
            self._never_reached = False
            self.orthanc_up = False
            self._next_sweep = 0.0  # events may be lost meanwhile: look at everything once it is back
            return False
        if not self.orthanc_up:
            log.info("orthanc_reached")
        self.orthanc_up = True
        if poll.changes:
            self._wake()
        return poll.more

    def _send(self) -> None:
        now = self._monotonic()
        check = now >= self._next_lost_check
        if check:
            self._next_lost_check = now + LOST_CHECK_S
            for door in self._doors:
                door.open()
        if now >= self._next_version_check:
            self._next_version_check = now + LOOK_AGAIN_S
            self._replace_outdated()
            for job_id in self._ledger.jobs.settle_idle(self._clock()):
                log.warning("job_settled", job=job_id, reason="none of its deliveries was waiting any more")
        if held := self._ledger.held.note_new(self._clock()):
            log.info("orders_held", count=held)
        if held := self._ledger.held_merges.note_new(self._clock()):
            log.info("merges_held", count=held)
        self._follow_merges()
        self._sweeper.tick(check_lost=check)
        if self._sweeper.at_work:
            self._wake()

    def _replace_outdated(self) -> None:
        held = self._ledger.fleet.held_models(self._clock())
        for route in self._settings.routes:
            if route.model_version:  # asked for by name: it is waited for
                held.setdefault(route.model, set()).add(route.model_version)
        for job_id in self._ledger.jobs.replace_outdated(held, self._clock()):
            log.info("job_outdated", job=job_id)
