"""What the ledger says, read only, in one place: when the ledger's own modules change, this page follows.

Everything here may raise TemporaryError while the ledger's disk or database is away; ``patiently`` waits it out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from reading_cases import told
from sqlalchemy import and_, func, select

from medai.router.errors import TemporaryError
from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.reports import readings
from medai.router.reports.status import status

T = TypeVar("T")
FINAL = ("done", "failed", "superseded", "cancelled")


def patiently(ask: Callable[[], T], *, within_s: float = 30.0) -> T:
    """Ask again while the ledger is away."""
    until = time.monotonic() + within_s
    while True:
        try:
            return ask()
        except TemporaryError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


class LedgerView:
    """One ledger, seen by the harness."""

    def __init__(self, url: str) -> None:
        self._ledger = Ledger(url)

    def close(self) -> None:
        """Give the connections back."""
        self._ledger.close()

    def jobs(self, study_uid: str) -> list[dict[str, Any]]:
        """Every job of a study, newest first, as ``medai jobs --json`` shows them."""
        return [told(job) for job in readings.jobs(self._ledger, study_uid=study_uid, limit=100)]

    def attempts(self, job_id: str) -> list[dict[str, Any]]:
        """Every attempt at a job, oldest first."""
        return [told(each) for each in readings.attempts(self._ledger, job_id)]

    def study(self, study_uid: str) -> dict[str, Any] | None:
        """What the ledger holds of a study."""
        found = readings.study(self._ledger, study_uid)
        return told(found) if found else None

    def decisions(self, study_uid: str) -> list[dict[str, Any]]:
        """Why, oldest first."""
        return [told(each) for each in readings.decisions(self._ledger, study_uid=study_uid)]

    def workers(self) -> list[str]:
        """Names of workers that signed on and not off, asked for many times a second."""
        with self._ledger.begin(reads_only=True) as db:
            return [str(row[0]) for row in db.execute(select(t.workers.c.name))]

    def models(self) -> dict[str, str]:
        """Model name -> version as announced."""
        return {model.name: model.version for model in status(self._ledger, time.time()).models}

    def held(self) -> list[tuple[str, str]]:
        """(job, worker) of each job that a worker holds."""
        query = select(t.jobs.c.id, t.jobs.c.lease_owner).where(t.jobs.c.state == "running")
        with self._ledger.begin(reads_only=True) as db:
            return [(str(row[0]), str(row[1])) for row in db.execute(query)]

    def inferring(self) -> list[tuple[str, str]]:
        """(job, worker) of each job that is prepared and not inferred yet."""
        prepared, inferred = t.stamps.alias("prepared"), t.stamps.alias("inferred")
        query = (
            select(t.jobs.c.id, t.jobs.c.lease_owner)
            .join(prepared, and_(prepared.c.job_id == t.jobs.c.id, prepared.c.name == "prepared"))
            .outerjoin(inferred, and_(inferred.c.job_id == t.jobs.c.id, inferred.c.name == "inferred"))
            .where(t.jobs.c.state == "running", inferred.c.job_id.is_(None))
        )
        with self._ledger.begin(reads_only=True) as db:
            return [(str(row[0]), str(row[1])) for row in db.execute(query)]

    def result_objects(self, job_id: str) -> dict[str, str]:
        """Kind -> SOP Instance UID of the objects that a job announced."""
        query = select(t.result_objects.c.kind, t.result_objects.c.sop_uid).where(t.result_objects.c.job_id == job_id)
        with self._ledger.begin(reads_only=True) as db:
            return {str(row[0]): str(row[1]) for row in db.execute(query)}

    def open_work(self, study_uid: str) -> int:
        """What is still to be done for a study: jobs that are not final, deliveries that are owed, a look at it."""
        mine = select(t.studies.c.id).where(t.studies.c.study_uid == study_uid)
        jobs = select(t.jobs.c.id).where(t.jobs.c.study_id.in_(mine))
        counts = (
            select(func.count()).select_from(t.jobs).where(t.jobs.c.id.in_(jobs), t.jobs.c.state.not_in(FINAL)),
            select(func.count()).select_from(t.deliveries).where(
                t.deliveries.c.job_id.in_(jobs), t.deliveries.c.state == "pending"
            ),
            select(func.count()).select_from(t.studies).where(t.studies.c.id.in_(mine), t.studies.c.due_at.is_not(None)),
        )  # fmt: skip
        with self._ledger.begin(reads_only=True) as db:
            return sum(int(db.execute(count).scalar_one()) for count in counts)

    def waiting(self) -> list[str]:
        """Jobs that wait for a worker."""
        with self._ledger.begin(reads_only=True) as db:
            return [str(row[0]) for row in db.execute(select(t.jobs.c.id).where(t.jobs.c.state == "pending"))]

    def parked(self, study_uid: str) -> list[str]:
        """Reasons of deliveries that were refused for good. ADAPTER: whatever state a dead letter has."""
        return [
            str(item["error"])
            for job in self.jobs(study_uid)
            for item in job["deliveries"]
            if item["state"] not in ("pending", "done")
        ]
