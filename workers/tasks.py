"""One job, from the doorbell to its end: claim, read, deliver, or give back with a reason.

``JobRunner.read`` is what the Celery task calls. It knows no Celery: a message that comes twice, late or for a job that
is long done claims nothing and does nothing. Next: pipeline.py (the work itself), lease.py (holding the job).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog
from pydicom.dataset import Dataset

from medai.models.errors import ModelRefused
from medai.models.segmenters.load import Segmenter
from medai.models.volume import Check, Stack
from medai.router import processes
from medai.router.contract import Failure, Job, JobState, StampName
from medai.router.errors import DiskFull, LeaseLost, MedaiError, OrthancUnreachable, PermanentError, TemporaryError
from medai.router.hl7.order_patient import Doubt
from medai.router.hl7.patients import Aliases
from medai.router.ledger import Claim, Ledger
from medai.router.ledger.claims import ResultObject
from medai.router.log import describe
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import Settings
from medai.router.tracing.tracer import NoTracer, Tracer
from medai.workers import deliver, guard, pipeline
from medai.workers.fetch import fetch
from medai.workers.lease import Lease
from medai.workers.outside.exchange import read_outside
from medai.workers.results.encode import Results
from medai.workers.scratch import is_full

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Held:
    """The job that this worker holds now."""

    job_id: str
    token: str


class Models(guard.Models, Protocol):
    """Where a model comes from (medai.models.registry.Registry)."""

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
        self._kept: list[ResultObject] = []

    def fetch(self, job: Job) -> Sequence[Dataset]:
        """The job's images from Orthanc."""
        claims = self._runner.ledger.claims
        return fetch(
            job,
            self._runner.orthanc,
            self.settings.worker,
            tell=lambda digest: claims.read_content(job.job_id, digest),
        )

    def look(self, job: Job, stack: Stack) -> Check | None:
        """By the model's guard."""
        return self._runner.watch.look(job.model, stack.volume, stack.datasets[0])

    def model(self, name: str) -> Segmenter:
        """From the registry; it stays loaded for the next job."""
        return self._runner.models.load(name)

    def aliases(self) -> Aliases:
        """As the router heard of them."""
        return self._runner.ledger.identities.aliases()

    def released(self, job: Job, doubt: Doubt) -> bool:
        """As a person decided; where nobody has yet, the question is brought up."""
        runner = self._runner
        return runner.ledger.held.released(str(job.study_uid), doubt, runner.clock())

    def stamp(self, job: Job, name: StampName) -> None:
        """Record the stage, unless the job was lost meanwhile."""
        self._lease.check()
        self._runner.ledger.claims.stamp(job.job_id, name, self._runner.clock())

    def store(self, job: Job, results: Results) -> None:
        """Into the ledger, with what is owed to every destination."""
        self._lease.check()
        runner = self._runner
        self._kept = deliver.keep(
            self._claim, results, claims=runner.ledger.claims, settings=self.settings, now=runner.clock()
        )

    def store_others(self, found: Sequence[tuple[str, Dataset]]) -> None:
        """The same for what an AI outside made."""
        self._lease.check()
        self._kept = deliver.keep_others(
            self._claim, found, claims=self._runner.ledger.claims, now=self._runner.clock()
        )

    def hand_over(self) -> JobState:
        """Into the archive, and the rest to the courier."""
        runner = self._runner
        return deliver.hand_over(
            self._claim, self._kept, orthanc=runner.orthanc, claims=runner.ledger.claims, clock=runner.clock
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
        versions: Mapping[str, str] | None = None,
        tracer: Tracer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.orthanc = orthanc
        self.ledger = ledger
        self.models = models
        self.watch = guard.Watch(models, settings.worker.guard)
        self.worker = worker
        self.versions = versions
        self.tracer = tracer or NoTracer()
        self.clock = clock
        self.current: Held | None = None
        self.stopping = threading.Event()
        self.alarm = ""
        """What a person must do before this worker goes on; empty: nothing."""
        self._process = processes.identity()
        self._archive_away = False

    def read(self, job_id: str) -> JobState | None:
        """Do a job; None when there was nothing to claim."""
        if self.stopping.is_set() or not self._may_begin():
            return None
        claim = self.ledger.claims.take(
            job_id,
            worker=self.worker,
            process=self._process,
            versions=self.versions,
            lease_s=self.settings.worker.lease_s,
            longest_s=self.settings.worker.retry_max_s,
            now=self.clock(),
        )
        if claim is None:
            log.info("nothing_to_claim", job=job_id)
            return None
        log.info("claimed", job=job_id, route=claim.job.route, model=claim.job.model, attempt=claim.job.attempt)
        lease = Lease(self.ledger.claims, job_id, claim.token, lease_s=self.settings.worker.lease_s, clock=self.clock)
        self.current = Held(job_id=job_id, token=claim.token)
        try:
            with lease:
                state = self._guarded(claim, lease)
        finally:
            self.current = None
        self.tracer.attempted(job_id, worker=self.worker)
        return state

    def _may_begin(self) -> bool:
        """Whether a job can get anywhere: a claim that must fail would only use the job's patience up.

        A message that is left is missed by the sweeper, which sends it again.
        """
        if not self.ledger.fleet.fits():
            log.error("other_version", reason="the ledger's tables are another version's: update this worker")
            return False
        if self._archive_away:
            try:
                self.orthanc.system()
            except MedaiError:
                return False
            self._archive_away = False
            log.info("archive_is_back")
        return True

    def hand_back(self, *, reason: str = "its worker was stopped", crashed: bool = False) -> None:
        """Give the running job back, because this worker must stop: another reads it."""
        current = self.current
        if current is None:
            return
        now = self.clock()
        try:
            self.ledger.claims.release(
                current.job_id, current.token, reason=reason, not_before=now, crashed=crashed, now=now
            )
            log.info("handed_back", job=current.job_id)
            self.tracer.attempted(current.job_id, worker=self.worker)
        except MedaiError as error:
            log.warning("not_handed_back", job=current.job_id, reason=describe(error))

    def _guarded(self, claim: Claim, lease: Lease) -> JobState | None:
        job_id = claim.job.job_id
        try:
            state = self._work(claim, lease)
        except LeaseLost as error:
            log.warning("lease_lost", job=job_id, reason=str(error))
            return None
        except TemporaryError as error:
            return self._later(claim, error)
        except PermanentError as error:
            if is_full(error):  # a library could not write, and its caller blamed the images
                return self._later(claim, DiskFull("the worker's disk is full: free some space"))
            log.warning("job_failed", job=job_id, reason=str(error))
            refused = isinstance(error.__cause__, ModelRefused)
            return self.ledger.claims.fail(
                job_id, claim.token, Failure.IMAGES, str(error), self.clock(), refused=refused
            )
        except Exception as error:  # noqa: BLE001 - a fault of ours or of a library must cost a retry, not the job
            if is_full(error):
                return self._later(claim, DiskFull("the worker's disk is full: free some space"))
            return self._crashed(claim, error)
        self.alarm = ""
        log.info("job_read", job=job_id, now=state.value)
        return state

    def _work(self, claim: Claim, lease: Lease) -> JobState:
        created = datetime.fromtimestamp(claim.created_at, tz=UTC).astimezone()  # results carry local time
        ports = ServerPorts(self, claim, lease)
        if claim.job.model in self.settings.outside:
            self._read_outside(claim.job, ports)
        else:
            pipeline.run(claim.job, ports, created_at=created)
        return ports.hand_over()

    def _read_outside(self, job: Job, ports: ServerPorts) -> None:
        outside = self.settings.outside[job.model]
        with pipeline.understandable():
            found = read_outside(
                job, outside, ports, self.ledger.outside, worker=self.settings.worker, clock=self.clock
            )
        ports.stamp(job, StampName.ENCODED)
        ports.store_others(found)

    def _later(self, claim: Claim, error: TemporaryError) -> JobState:
        now = self.clock()
        policy = self.settings.worker
        if isinstance(error, DiskFull):
            self.alarm = str(error)
            log.error("disk_full", job=claim.job.job_id, reason=str(error))
        self._archive_away = self._archive_away or isinstance(error, OrthancUnreachable)
        if now - claim.give_up_from > policy.give_up_h * 3600:
            reason = f"given up after {policy.give_up_h:g} h: {error}"
            return self.ledger.claims.fail(claim.job.job_id, claim.token, Failure.GAVE_UP, reason, now)
        wait_s = error.retry_after_s or policy.retry_s * 2 ** min(claim.job.attempt - 1, 16)
        wait_s = min(wait_s, policy.retry_max_s)  # a moment further ahead counts as past (jobs.unsent_jobs)
        log.warning("job_retries", job=claim.job.job_id, reason=str(error), after_s=wait_s)
        self.ledger.claims.release(
            claim.job.job_id, claim.token, reason=str(error), not_before=now + wait_s, crashed=False, now=now
        )
        return JobState.PENDING

    def _crashed(self, claim: Claim, error: Exception) -> JobState:
        now = self.clock()
        job_id = claim.job.job_id
        log.error("unexpected_error", job=job_id, exc_info=error)
        reason = f"an unexpected error stopped the reading ({describe(error)})"
        if self.ledger.claims.crashes(job_id) + 1 >= self.settings.worker.max_attempts:
            return self.ledger.claims.fail(job_id, claim.token, Failure.CRASH, reason, now)
        wait_s = min(self.settings.worker.retry_s, self.settings.worker.retry_max_s)
        self.ledger.claims.release(job_id, claim.token, reason=reason, not_before=now + wait_s, crashed=True, now=now)
        return JobState.PENDING
