"""The ledger's third part: a job in a worker's hands, from its claim to its result.

One UPDATE decides who has a job; each later one names the token of that claim. A worker that has read its images keeps
the objects here (``keep``) before the first of them is sent: whatever dies after that, no model runs a second time.
Next: deliveries.py (where results go), deadletters.py (what could not go on).
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, insert, or_, select, update

from medai.router.contract import (
    ARCHIVE,
    RIS,
    Decision,
    DeliveryState,
    Failure,
    Job,
    JobId,
    JobState,
    OrthancId,
    Predecessor,
    Priority,
    StampName,
    StudyUID,
    Verdict,
)
from medai.router.errors import LeaseLost
from medai.router.ledger import schema as t
from medai.router.ledger.database import Database, decide, due_by
from medai.router.ledger.identities import under_surviving
from medai.router.ledger.jobs import CONTENT, REFUSED, archived_now, end_attempt, predecessor_read, settle, stamp
from medai.router.ledger.studies import find_order


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A job that this worker holds for as long as it renews the lease."""

    job: Job
    token: str
    created_at: float
    give_up_from: float
    """When the patience with its peers began: its creation, or the moment a person asked for another try."""


class Claims(Database):
    """Jobs that workers hold."""

    def claim(
        self,
        job_id: str,
        *,
        worker: str,
        lease_s: float,
        now: float,
        process: str = "",
        versions: Mapping[str, str] | None = None,
        longest_s: float = 3600.0,
    ) -> Claim | None:
        """Take a pending job with a lease: one UPDATE decides who has it. None when it is not to be had.

        ``versions`` are the models that this worker holds: a job for another version is left for another worker.
        """
        token = str(uuid.uuid4())
        free = and_(
            t.jobs.c.id == job_id,
            t.jobs.c.state == JobState.PENDING.value,
            due_by(t.jobs.c.not_before, now, longest_s),
            predecessor_read(),
        )
        if versions is not None:
            held = [and_(t.jobs.c.model == name, t.jobs.c.model_version == text) for name, text in versions.items()]
            free = and_(free, or_(*held) if held else t.jobs.c.id.is_(None))
        values = {
            "state": JobState.RUNNING.value,
            "lease_owner": worker,
            "lease_process": process,
            "lease_token": token,
            "lease_until": now + lease_s,
            "lease_beat": 0,
            "attempts": t.jobs.c.attempts + 1,
        }
        with self.begin() as db:
            if db.execute(update(t.jobs).where(free).values(**values)).rowcount != 1:
                return None
            row = db.execute(select(t.jobs).where(t.jobs.c.id == job_id)).mappings().one()
            study = db.execute(select(t.studies).where(t.studies.c.id == row["study_id"])).mappings().one()
            attempt = {"job_id": job_id, "number": row["attempts"], "worker": worker, "started_at": now}
            db.execute(insert(t.attempts).values(**attempt, outcome="running"))
            stamp(db, job_id, StampName.STARTED, now, keep_first=False, insert_=self._insert)
            return Claim(
                job=_job(db, dict(row), dict(study)),
                token=token,
                created_at=float(row["created_at"]),
                give_up_from=float(row["retried_at"] or row["created_at"]),
            )

    def renew(self, job_id: str, token: str, *, lease_s: float, now: float) -> None:
        """Hold the job longer; raises LeaseLost when another has it or it was superseded."""
        self._while_held(job_id, token, {"lease_until": now + lease_s, "lease_beat": t.jobs.c.lease_beat + 1})

    def _while_held(self, job_id: str, token: str, values: Mapping[str, Any], db: Connection | None = None) -> None:
        if db is None:
            with self.begin() as own:
                return self._while_held(job_id, token, values, own)
        held = and_(t.jobs.c.id == job_id, t.jobs.c.lease_token == token, t.jobs.c.state == JobState.RUNNING.value)
        if db.execute(update(t.jobs).where(held).values(**values)).rowcount != 1:
            raise LeaseLost("the reading was taken back or superseded while this worker had it")
        return None

    def stamp(self, job_id: str, name: StampName, at: float) -> None:
        """Record a moment; a later attempt overwrites it."""
        with self.begin() as db:
            stamp(db, job_id, name, at, keep_first=False, insert_=self._insert)

    def read_content(self, job_id: str, digest: str) -> None:
        """Record what was read (a hash over the images' bytes), to tell other content under the same UIDs."""
        with self.begin() as db:
            db.execute(update(t.jobs).where(t.jobs.c.id == job_id).values(content_digest=digest))

    def keep(
        self,
        job_id: str,
        token: str,
        *,
        objects: Sequence[Mapping[str, Any]],
        measurements: Sequence[Mapping[str, Any]],
        warnings: Sequence[str],
        deliveries: Sequence[Mapping[str, Any]],
        now: float,
        plausibility: Mapping[str, Any] | None = None,
        figures: Mapping[str, float | str] | None = None,
    ) -> None:
        """Keep a reading's result and what is owed to every destination, before anything leaves the worker.

        Each of ``objects`` has kind, sop_uid, series_uid, orthanc_id and ``content`` (a DICOM file), which stays until
        the archive has it. From here on the router knows the objects as ours. ``plausibility`` is what the checks of
        the result came to; its ``verdict`` is kept beside it, to be counted. ``figures`` of image and mask are compared
        with the model's training set (reports/drift.py).
        """
        names = [{k: item[k] for k in ("kind", "sop_uid", "series_uid", "orthanc_id")} for item in objects]
        values = {
            "storing_at": now,
            "results": {item["kind"]: item for item in names},
            "measurements": list(measurements),
            "warnings": list(warnings),
            "verdict": plausibility["verdict"] if plausibility else None,
            "plausibility": dict(plausibility) if plausibility else None,
            "figures": dict(figures) if figures else None,
        }
        with self.begin() as db:
            self._while_held(job_id, token, values, db)
            for name, item in zip(names, objects, strict=True):
                row = {"job_id": job_id, **name, "content": zlib.compress(item["content"], 1)}
                statement = self._insert(t.result_objects).values(**row)
                same = {"content": row["content"], "job_id": job_id}
                db.execute(statement.on_conflict_do_update(index_elements=["orthanc_id"], set_=same))
            for item in deliveries:
                row = {"job_id": job_id, "state": DeliveryState.PENDING.value, "created_at": now, **item}
                if item["destination"] == RIS:
                    row["payload"] = under_surviving(db, item["payload"])
                db.execute(self._insert(t.deliveries).values(**row).on_conflict_do_nothing())

    def hand_over(self, job_id: str, token: str, now: float, *, archived: bool = False) -> JobState:
        """The worker is done: what is still owed is the courier's. Returns DELIVERING, or DONE where nothing is.

        ``archived``: the archive has the objects, by the worker's own hand.
        """
        values = {"state": JobState.DELIVERING.value, "lease_token": None, "lease_until": None, "reason": ""}
        with self.begin() as db:
            self._while_held(job_id, token, values, db)
            end_attempt(db, job_id, now, "read", "")
            if archived:
                mine = and_(t.deliveries.c.job_id == job_id, t.deliveries.c.destination == ARCHIVE)
                done = {"state": DeliveryState.DONE.value, "done_at": now, "receipt": "stored", "attempts": 1}
                db.execute(update(t.deliveries).where(mine).values(**done))
                archived_now(db, job_id, now, insert_=self._insert)
            return settle(db, job_id, now)

    def fail(
        self, job_id: str, token: str, failure: Failure, reason: str, now: float, *, refused: bool = False
    ) -> JobState:
        """End a job as a dead letter; ``refused``: its model would not read the series or found nothing plausible.

        What was kept already is read: it goes on to its destinations (DELIVERING), whatever went wrong after that.
        """
        values: dict[str, Any] = {
            "state": JobState.FAILED.value,
            "failure": failure.value,
            "reason": reason,
            "finished_at": now,
            "lease_token": None,
            "lease_until": None,
        }
        if refused:
            values["verdict"] = REFUSED
        with self.begin() as db:
            kept = and_(t.jobs.c.id == job_id, t.jobs.c.storing_at.is_not(None))
            if db.execute(select(t.jobs.c.id).where(kept)).first() is not None:
                going_on = {"state": JobState.DELIVERING.value, "lease_token": None, "lease_until": None, "reason": ""}
                self._while_held(job_id, token, going_on, db)
                end_attempt(db, job_id, now, "read", reason)
                return JobState.DELIVERING
            self._while_held(job_id, token, values, db)
            end_attempt(db, job_id, now, JobState.FAILED.value, reason)
            row = db.execute(select(t.jobs.c.study_id, t.jobs.c.route).where(t.jobs.c.id == job_id)).one()
            decision = Decision(verdict=Verdict.FAIL, reason=reason, route=row.route)
            decide(db, row.study_id, decision, now, job_id=job_id)
        return JobState.FAILED

    def release(self, job_id: str, token: str, *, reason: str, not_before: float, crashed: bool, now: float) -> None:
        """Give a job back for another try at ``not_before``; the sweeper sends it then."""
        values: dict[str, Any] = {
            "state": JobState.PENDING.value,
            "reason": reason,
            "not_before": not_before,
            "sent_at": None,
            "lease_token": None,
            "lease_until": None,
        }
        if crashed:
            values["crashes"] = t.jobs.c.crashes + 1
        kept = and_(t.jobs.c.id == job_id, t.jobs.c.storing_at.is_not(None), t.jobs.c.state == JobState.PENDING.value)
        with self.begin() as db:
            self._while_held(job_id, token, values, db)
            end_attempt(db, job_id, now, "retry", reason)
            db.execute(update(t.jobs).where(kept).values(state=JobState.DELIVERING.value))  # read already

    def crashes(self, job_id: str) -> int:
        """How often this job ended in an unexpected way."""
        with self.begin(reads_only=True) as db:
            return int(db.execute(select(t.jobs.c.crashes).where(t.jobs.c.id == job_id)).scalar() or 0)


def _job(db: Connection, row: Mapping[str, Any], study: Mapping[str, Any]) -> Job:
    predecessor = None
    if row["predecessor"]:
        results = db.execute(select(t.jobs.c.results).where(t.jobs.c.id == row["predecessor"])).scalar()
        if results:
            predecessor = Predecessor(
                job_id=JobId(row["predecessor"]),
                sr_series_uid=results["sr"]["series_uid"],
                sr_sop_uid=results["sr"]["sop_uid"],
            )
    return Job(
        job_id=JobId(row["id"]),
        study_uid=StudyUID(study["study_uid"]),
        study_orthanc_id=OrthancId(study["orthanc_id"]),
        series_orthanc_ids=tuple(OrthancId(item) for item in row["series"]),
        sources_hash=row["sources_hash"],
        sources_count=row["sources_count"],
        content_hash=row["salt"].removeprefix(CONTENT) if row["salt"].startswith(CONTENT) else "",
        route=row["route"],
        slot=row["slot"],
        model=row["model"],
        model_version=row["model_version"],
        priority=Priority(row["priority"]),
        queue=row["queue"],
        revision=row["revision"],
        attempt=row["attempts"],
        destinations=tuple(row["destinations"]),
        order=find_order(db, study_uid=study["study_uid"], accession=study["accession"]),
        predecessor=predecessor,
    )
