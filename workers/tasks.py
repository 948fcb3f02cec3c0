"""One job, from the doorbell to its end: claim, read, deliver, or give back with a reason.

``JobRunner.read`` is what the Celery task calls. It knows no Celery: a message that comes twice, late or for a job that
is long done claims nothing and does nothing. Next: pipeline.py (the work itself), lease.py (holding the job).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

import structlog
from pydicom.dataset import Dataset

from models.errors import ModelRefused
from models.inference import Segmenter
from models.volume import Check, Stack
from router.contract import Job, JobState, StampName
from router.errors import LeaseLost, PermanentError, TemporaryError
from router.ledger import Claim, Ledger
from router.log import describe
from router.orthanc import Orthanc
from router.settings import Settings
from workers import deliver, guard, pipeline
from workers.fetch import fetch
from workers.lease import Lease
from workers.results import Results

log = structlog.get_logger(__name__)


class Models(guard.Models, Protocol):
    """Where a model comes from (models.registry.Registry)."""

    def load(self, name: str) -> Segmenter:
        """The model, ready to read; raises ModelUnavailable."""
        ...


class ServerPorts:
    """The pipeline's ports on the real Orthanc and the ledger, for one claimed job."""

    def __init__(self, runner: JobRunner, claim: Claim, lease: Lease) -> None:
        self.settings = runner.settings
        self._runner = runner
        self._claim = claim
        self._lease = lease

    def fetch(self, job: Job) -> Sequence[Dataset]:
        """The job's images from Orthanc."""
        return fetch(job, self._runner.orthanc, threads=self.settings.worker.fetch_threads)

    def look(self, job: Job, stack: Stack) -> Check | None:
        """By the model's guard."""
        return self._runner.watch.look(job.model, stack.volume, stack.datasets[0])

    def model(self, name: str) -> Segmenter:
        """From the registry; it stays loaded for the next job."""
        return self._runner.models.load(name)

    def stamp(self, job: Job, name: StampName) -> None:
        """Record the stage, unless the job was lost meanwhile."""
        self._lease.check()
        self._runner.ledger.stamp(job.job_id, name, self._runner.clock())

    def store(self, job: Job, results: Results) -> None:
        """Into the archive, and what is owed into the ledger."""
        runner = self._runner
        deliver.store(
            self._claim,
            results,
            orthanc=runner.orthanc,
            ledger=runner.ledger,
            settings=self.settings,
            clock=runner.clock,
        )


class JobRunner:
    """A worker's whole knowledge; one job at a time."""

    def __init__(
        self,
        settings: Settings,
        *,
        orthanc: Orthanc,
        ledger: Ledger,
        models: Models,
        worker: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.orthanc = orthanc
        self.ledger = ledger
        self.models = models
        self.watch = guard.Watch(models, settings.worker.guard)
        self.worker = worker
        self.clock = clock
        self.current: str | None = None

    def read(self, job_id: str) -> JobState | None:
        """Do what is left of a job; None when there was nothing to claim."""
        claim = self.ledger.claim(job_id, worker=self.worker, lease_s=self.settings.worker.lease_s, now=self.clock())
        if claim is None:
            log.info("nothing_to_claim", job=job_id)
            return None
        self.current = job_id
        log.info("claimed", job=job_id, route=claim.job.route, model=claim.job.model, attempt=claim.job.attempt)
        try:
            with Lease(
                self.ledger, job_id, claim.token, lease_s=self.settings.worker.lease_s, clock=self.clock
            ) as lease:
                return self._guarded(claim, lease)
        finally:
            self.current = None

    def _guarded(self, claim: Claim, lease: Lease) -> JobState | None:
        job_id = claim.job.job_id
        try:
            self._work(claim, lease)
        except LeaseLost as error:
            log.warning("lease_lost", job=job_id, reason=str(error))
            return None
        except TemporaryError as error:
            return self._later(claim, error)
        except PermanentError as error:
            log.warning("job_failed", job=job_id, reason=str(error))
            refused = isinstance(error.__cause__, ModelRefused)
            self.ledger.finish(job_id, claim.token, JobState.FAILED, str(error), self.clock(), refused=refused)
            return JobState.FAILED
        except Exception as error:  # noqa: BLE001 - a fault of ours or of a library must cost a retry, not the job
            return self._crashed(claim, error)
        self.ledger.finish(job_id, claim.token, JobState.DONE, "", self.clock())
        log.info("job_done", job=job_id)
        return JobState.DONE

    def _work(self, claim: Claim, lease: Lease) -> None:
        if not claim.stored:
            created = datetime.fromtimestamp(claim.created_at, tz=UTC).astimezone()  # results carry local time
            pipeline.run(claim.job, ServerPorts(self, claim, lease), created_at=created)
            owed = self.ledger.pending_deliveries(claim.job.job_id)
            claim = replace(claim, stored=True, pending_deliveries=owed)
        lease.check()
        deliver.deliver(claim, orthanc=self.orthanc, ledger=self.ledger, settings=self.settings, clock=self.clock)

    def _later(self, claim: Claim, error: TemporaryError) -> JobState:
        now = self.clock()
        policy = self.settings.worker
        if now - claim.created_at > policy.give_up_h * 3600:
            reason = f"given up after {policy.give_up_h:g} hours: {error}"
            self.ledger.finish(claim.job.job_id, claim.token, JobState.FAILED, reason, now)
            return JobState.FAILED
        wait_s = error.retry_after_s or min(policy.retry_max_s, policy.retry_s * 2 ** min(claim.job.attempt - 1, 16))
        log.warning("job_retries", job=claim.job.job_id, reason=str(error), after_s=wait_s)
        self.ledger.release(
            claim.job.job_id, claim.token, reason=str(error), not_before=now + wait_s, crashed=False, now=now
        )
        return JobState.PENDING

    def _crashed(self, claim: Claim, error: Exception) -> JobState:
        now = self.clock()
        job_id = claim.job.job_id
        log.error("unexpected_error", job=job_id, exc_info=error)
        reason = f"an unexpected error stopped the reading ({describe(error)})"
        if self.ledger.crashes(job_id) + 1 >= self.settings.worker.max_attempts:
            self.ledger.finish(job_id, claim.token, JobState.FAILED, reason, now)
            return JobState.FAILED
        self.ledger.release(
            job_id, claim.token, reason=reason, not_before=now + self.settings.worker.retry_s, crashed=True, now=now
        )
        return JobState.PENDING
