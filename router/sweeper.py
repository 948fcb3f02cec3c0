"""What makes lost messages and dead workers harmless: jobs are sent, and sent again, from the ledger.

Each tick: take back leases that ran out; send pending jobs that never went; and where Redis holds fewer messages than
the ledger knows of, send again what is old enough. Claims are compare-and-set, so one message too many does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from router.contract import JobState
from router.dispatch import Dispatcher
from router.errors import BrokerUnreachable
from router.ledger import Ledger

QUEUES = ("cpu", "gpu")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What one tick did."""

    sent: int = 0
    resent: int = 0
    reclaimed: int = 0
    failed: int = 0


class Sweeper:
    """Keeps the broker in line with the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        dispatcher: Dispatcher,
        *,
        clock: Callable[[], float],
        max_crashes: int,
        resend_after_s: float = 5.0,
    ) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._clock = clock
        self._max_crashes = max_crashes
        self._resend_after_s = resend_after_s
        self._broker_up = True

    def tick(self, *, check_lost: bool = True) -> Swept:
        """One round; a broker that is away is logged once and tried again at the next tick."""
        taken = self._ledger.reclaim(self._clock(), max_crashes=self._max_crashes)
        for job_id, state in taken:
            log.warning("lease_expired", job=job_id, now=state.value)
        failed = sum(state is JobState.FAILED for _, state in taken)
        try:
            sent = self._send(resend_before=0.0)
            resent = self._resend() if check_lost else 0
        except BrokerUnreachable as error:
            if self._broker_up:
                log.warning("broker_unreachable", reason=str(error))
            self._broker_up = False
            return Swept(reclaimed=len(taken) - failed, failed=failed)
        if not self._broker_up:
            log.info("broker_is_back")
        self._broker_up = True
        return Swept(sent=sent, resent=resent, reclaimed=len(taken) - failed, failed=failed)

    def _send(self, *, resend_before: float) -> int:
        jobs = self._ledger.unsent_jobs(self._clock(), resend_before=resend_before)
        sent: dict[str, float] = {}
        try:
            for job in jobs:
                at = self._clock()  # before: a worker may have started before send() returns
                self._dispatcher.send(job["id"], queue=job["queue"], priority=job["priority"])
                sent[job["id"]] = at
        finally:
            if sent:
                self._ledger.mark_sent(sent)
        return len(sent)

    def _resend(self) -> int:
        """Send again when messages are missing: pending in the ledger, neither queued nor taken in Redis."""
        pending = sum(self._ledger.pending_sent(queue) for queue in QUEUES)
        if pending == 0:
            return 0
        taken = max(0, self._dispatcher.unacknowledged() - self._ledger.running_jobs())
        missing = pending - sum(self._dispatcher.waiting(queue) for queue in QUEUES) - taken
        if missing <= 0:
            return 0
        count = self._send(resend_before=self._clock() - self._resend_after_s)
        if count:
            log.warning("messages_lost", missing=missing, resent=count)
        return count
