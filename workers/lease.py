"""Hold a job while it is worked on: renew its lease in the background, stop when it is lost.

A worker that dies stops renewing, and the sweeper gives the job to another. Next: tasks.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

import structlog

from medai.router.errors import LeaseLost, TemporaryError
from medai.router.ledger.claims import Claims

log = structlog.get_logger(__name__)


class Lease:
    """Context manager around the work on one job."""

    def __init__(
        self, claims: Claims, job_id: str, token: str, *, lease_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._claims = claims
        self._job_id = job_id
        self._token = token
        self._lease_s = lease_s
        self._clock = clock
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._stop.wait(self._lease_s / 4):
            try:
                self._claims.renew(self._job_id, self._token, lease_s=self._lease_s, now=self._clock())
            except LeaseLost:
                self._lost.set()
                return
            except TemporaryError as error:
                log.warning("lease_not_renewed", job=self._job_id, reason=str(error))

    def check(self) -> None:
        """Raise LeaseLost when the job is no longer ours; called between stages, before anything is written."""
        if self._lost.is_set():
            raise LeaseLost("the reading was taken back or superseded while this worker had it")
