"""What makes lost messages and dead workers harmless: jobs are sent, and sent again, from the ledger.

Each tick: take back the jobs of workers that are dead or silent; send pending jobs that never went; and send again what
should wait in Redis and does not. Claims are compare-and-set, so one message too many does nothing. The comparisons of
what readers made of our results (ledger/edits.py) are asked for alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from medai.router import processes
from medai.router.contract import JobState
from medai.router.errors import BrokerUnreachable
from medai.router.ledger import Held, Ledger
from medai.router.ledger.jobs import UnsentJob
from medai.router.queue.dispatch import Dispatcher, edit_message
from medai.router.tracing.tracer import NoTracer, Tracer

QUEUES = ("cpu", "gpu")
MANY = 10_000
"""Messages that are looked after at once; the others have their turn when these are done."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What one tick did."""

    sent: int = 0
    resent: int = 0
    reclaimed: int = 0
    failed: int = 0


class LeaseWatch:
    """Which jobs' workers are silent: those whose lease was not renewed for ``lease_s`` on this watch's own clock.

    After a start, or a pause of the watch itself (a frozen router), every lease is watched anew.
    """

    def __init__(self, lease_s: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lease_s = lease_s
        self._monotonic = monotonic
        self._since: dict[Held, float] = {}
        self._looked_at = monotonic()

    def silent(self, held: list[Held]) -> list[tuple[Held, str]]:
        """Those to take back, each with the reason."""
        now = self._monotonic()
        if now - self._looked_at > self._lease_s / 2:
            self._since.clear()  # it was this watch that was silent
        self._looked_at = now
        self._since = {item: self._since.get(item, now) for item in held}
        return [(item, why) for item in held if (why := self._why(item, now))]

    def _why(self, item: Held, now: float) -> str:
        if item.process and processes.is_dead(item.process):
            return "the worker died while reading this"
        if now - self._since[item] >= self._lease_s:
            return "the worker stopped answering while reading this"
        return ""


class Sweeper:
    """Keeps the broker in line with the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        dispatcher: Dispatcher,
        *,
        clock: Callable[[], float],
        max_crashes: int,
        watch: LeaseWatch,
        longest_s: float = 3600.0,
        resend_after_s: float = 5.0,
        tracer: Tracer | None = None,
    ) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._clock = clock
        self._max_crashes = max_crashes
        self._watch = watch
        self._longest_s = longest_s
        self._resend_after_s = resend_after_s
        self._tracer = tracer or NoTracer()
        self._broker_up = True
        self.at_work = False
        """Whether the last tick did something, or found jobs with workers or a broker that is away."""

    def tick(self, *, check_lost: bool = True) -> Swept:
        """One round; a broker that is away is logged once and tried again at the next tick."""
        held = self._ledger.jobs.held()
        self.at_work = bool(held)
        taken = self._reclaim(held)
        failed = sum(state is JobState.FAILED for state in taken)
        try:
            sent = self._send()
            resent = self._resend() if check_lost else 0
            self._send_edits(check_lost=check_lost)
        except BrokerUnreachable as error:
            if self._broker_up:
                log.warning("broker_unreachable", reason=str(error))
            self._broker_up = False
            self.at_work = True
            return Swept(reclaimed=len(taken) - failed, failed=failed)
        if not self._broker_up:
            log.info("broker_is_back")
        self._broker_up = True
        self.at_work = self.at_work or sent + resent > 0
        return Swept(sent=sent, resent=resent, reclaimed=len(taken) - failed, failed=failed)

    def _reclaim(self, held: list[Held]) -> list[JobState]:
        taken = []
        for job, reason in self._watch.silent(held):
            state = self._ledger.jobs.reclaim(job, reason, max_crashes=self._max_crashes, now=self._clock())
            if state is not None:
                log.warning("job_taken_back", job=job.job_id, now=state.value, reason=reason)
                self._tracer.attempted(job.job_id)
                taken.append(state)
        return taken

    def _send(self) -> int:
        jobs = self._ledger.jobs.unsent(self._clock(), resend_before=0.0, longest_s=self._longest_s)
        return self._hand(jobs)

    def _hand(self, jobs: Sequence[UnsentJob]) -> int:
        sent: dict[str, float] = {}
        try:
            for job in jobs:
                at = self._clock()  # before: a worker may have started before send() returns
                self._dispatcher.send(job.id, queue=job.queue, priority=job.priority)
                sent[job.id] = at
        finally:
            if sent:
                self._ledger.jobs.mark_sent(sent)
        return len(sent)

    def _resend(self) -> int:
        """Send again what should be queued and is not; what a worker has just taken is too young to be missed."""
        old = self._ledger.jobs.unsent(
            self._clock(),
            resend_before=self._clock() - self._resend_after_s,
            longest_s=self._longest_s,
            limit=MANY,
        )
        if not old:
            return 0
        queued = {queue: self._dispatcher.queued(queue) for queue in QUEUES}
        missing = [job for job in old if job.id not in queued[job.queue]]
        self._hand(missing)
        if missing:
            log.warning("messages_lost", resent=len(missing))
        return len(missing)

    def _send_edits(self, *, check_lost: bool) -> None:
        """Ask for the comparisons that wait, and again for those whose message is gone."""
        old = self._clock() - self._resend_after_s if check_lost else 0.0
        waiting = self._ledger.edits.unsent(self._clock(), resend_before=old)
        if not waiting:
            return
        queued = {queue: self._dispatcher.queued(queue) for queue in {edit.queue for edit in waiting}}
        sent: dict[int, float] = {}
        try:
            for edit in waiting:
                at = self._clock()
                if edit_message(edit.id) not in queued[edit.queue]:
                    self._dispatcher.send_edit(edit.id, queue=edit.queue)
                sent[edit.id] = at
        finally:
            if sent:
                self._ledger.edits.mark_sent(sent)
