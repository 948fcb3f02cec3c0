"""``ledger.claims``: a job in a worker's hands, from its claim to its result.

One UPDATE decides who has a job; each later one names the token of that claim. A worker that has read its images keeps
the objects here (``keep``) before the first of them is sent: whatever dies after that, no model runs a second time.
Next: deliveries.py (where results go), deadletters.py (what could not go on).
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, and_, insert, or_, select, update

from medai.router.contract import (
    ARCHIVE,
    RIS,
    Decision,
    Failure,
    Job,
    JobId,
    JobState,
    Measurement,
    OrthancId,
    Predecessor,
    Priority,
    StampName,
    StudyUID,
    Verdict,
)
from medai.router.errors import LeaseLost
from medai.router.ledger import rows, transitions
from medai.router.ledger import schema as t
from medai.router.ledger.database import Part, due_by, upsert
from medai.router.ledger.history import decide, end_attempt, stamp
from medai.router.ledger.identities import under_surviving
from medai.router.ledger.jobs import CONTENT, REFUSED, predecessor_read
from medai.router.ledger.orders import orders_of
from medai.router.ledger.rows import JobRow, StudyRow
from medai.router.ledger.studies import twin_of


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A job that this worker holds for as long as it renews the lease."""

    job: Job
    token: str
    created_at: float
    give_up_from: float
    """When the patience with its peers began: its creation, or the moment a person asked for another try."""


@dataclass(frozen=True, kw_only=True)
class ResultObject:
    """One object of a result: its identifiers, the id that Orthanc gives it, and the DICOM file."""

    kind: str
    sop_uid: str
    series_uid: str
    orthanc_id: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Owed:
    """What a destination is to get: the archive the objects, every other one a message of its own."""

    destination: str
    control_id: str = ""
    payload: bytes | None = None


class Claims(Part):
    """Jobs that workers hold."""

    def take(
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
            due_by(t.jobs.c.not_before, now, longest_s),
            predecessor_read(),
        )
        if versions is not None:
            held = [and_(t.jobs.c.model == name, t.jobs.c.model_version == text) for name, text in versions.items()]
            free = and_(free, or_(*held) if held else t.jobs.c.id.is_(None))
        lease = {
            "lease_owner": worker,
            "lease_process": process,
            "lease_token": token,
            "lease_until": now + lease_s,
            "lease_beat": 0,
        }
        with self._database.begin() as db:
            if not transitions.take(db, free, lease):
                return None
            row = rows.job(db, job_id)
            assert row is not None  # it was just taken
            attempt = {"job_id": job_id, "number": row.attempts, "worker": worker, "started_at": now}
            db.execute(insert(t.attempts).values(**attempt, outcome="running"))
            stamp(db, job_id, StampName.STARTED, now, keep_first=False)
            return Claim(
                job=_job(db, row, rows.study(db, row.study_id)),
                token=token,
                created_at=row.created_at,
                give_up_from=row.retried_at or row.created_at,
            )

    def renew(self, job_id: str, token: str, *, lease_s: float, now: float) -> None:
        """Hold the job longer; raises LeaseLost when another has it or it was superseded."""
        mine = transitions.in_hand(job_id, token)
        values = {"lease_until": now + lease_s, "lease_beat": t.jobs.c.lease_beat + 1}
        with self._database.begin() as db:
            _require(db.execute(update(t.jobs).where(mine).values(**values)).rowcount == 1)

    def stamp(self, job_id: str, name: StampName, at: float) -> None:
        """Record a moment; a later attempt overwrites it."""
        with self._database.begin() as db:
            stamp(db, job_id, name, at, keep_first=False)

    def read_content(self, job_id: str, digest: str) -> None:
        """Record what was read (a hash over the images' bytes), to tell other content under the same UIDs."""
        with self._database.begin() as db:
            db.execute(update(t.jobs).where(t.jobs.c.id == job_id).values(content_digest=digest))

    def keep(
        self,
        job_id: str,
        token: str,
        *,
        objects: Sequence[ResultObject],
        measurements: Sequence[Measurement],
        warnings: Sequence[str],
        deliveries: Sequence[Owed],
        now: float,
        plausibility: Mapping[str, Any] | None = None,
        figures: Mapping[str, float | str] | None = None,
    ) -> None:
        """Keep a reading's result and what is owed to every destination, before anything leaves the worker.

        The objects' files stay until the archive has them; from here on the router knows the objects as ours.
        ``plausibility`` is what the checks of the result came to; its ``verdict`` is kept beside it, to be counted.
        ``figures`` of image and mask are compared with the model's training set (reports/drift.py).
        """
        names = [{k: v for k, v in asdict(item).items() if k != "content"} for item in objects]
        values = {
            "storing_at": now,
            "results": {item["kind"]: item for item in names},
            "measurements": [asdict(item) for item in measurements],
            "warnings": list(warnings),
            "verdict": plausibility["verdict"] if plausibility else None,
            "plausibility": dict(plausibility) if plausibility else None,
            "figures": dict(figures) if figures else None,
        }
        with self._database.begin() as db:
            mine = transitions.in_hand(job_id, token)
            _require(db.execute(update(t.jobs).where(mine).values(**values)).rowcount == 1)
            for name, item in zip(names, objects, strict=True):
                row = {"job_id": job_id, **name, "content": zlib.compress(item.content, 1)}
                statement = upsert(db, t.result_objects).values(**row)
                same = {"content": row["content"], "job_id": job_id}
                db.execute(statement.on_conflict_do_update(index_elements=["orthanc_id"], set_=same))
            for owed in deliveries:
                payload = owed.payload
                if owed.destination == RIS and payload is not None:
                    payload = under_surviving(db, payload, now)
                transitions.owe(db, {"job_id": job_id, "created_at": now, **asdict(owed), "payload": payload})

    def hand_over(self, job_id: str, token: str, now: float, *, archived: bool = False) -> JobState:
        """The worker is done: what is still owed is the courier's. Returns DELIVERING, or DONE where nothing is.

        ``archived``: the archive has the objects, by the worker's own hand.
        """
        with self._database.begin() as db:
            _require(transitions.hand_over(db, transitions.in_hand(job_id, token)))
            end_attempt(db, job_id, now, "read", "")
            if archived:
                mine = and_(t.deliveries.c.job_id == job_id, t.deliveries.c.destination == ARCHIVE)
                transitions.delivered(db, mine, now, "stored", attempts=1)
                transitions.archived_now(db, job_id, now)
            return transitions.settle(db, job_id, now)

    def fail(
        self, job_id: str, token: str, failure: Failure, reason: str, now: float, *, refused: bool = False
    ) -> JobState:
        """End a job as a dead letter; ``refused``: its model would not read the series or found nothing plausible.

        What was kept already is read: it goes on to its destinations (DELIVERING), whatever went wrong after that.
        """
        mine = transitions.in_hand(job_id, token)
        with self._database.begin() as db:
            if _is_kept(db, job_id):
                _require(transitions.hand_over(db, mine))
                end_attempt(db, job_id, now, "read", reason)
                return JobState.DELIVERING
            more = {"verdict": REFUSED} if refused else {}
            _require(transitions.fail(db, mine, failure, reason, now, **more))
            end_attempt(db, job_id, now, JobState.FAILED.value, reason)
            row = db.execute(select(t.jobs.c.study_id, t.jobs.c.route).where(t.jobs.c.id == job_id)).one()
            decision = Decision(verdict=Verdict.FAIL, reason=reason, route=row.route)
            decide(db, row.study_id, decision, now, job_id=job_id)
        return JobState.FAILED

    def release(self, job_id: str, token: str, *, reason: str, not_before: float, crashed: bool, now: float) -> None:
        """Give a job back for another try at ``not_before``; the sweeper sends it then."""
        values: dict[str, Any] = {"reason": reason, "not_before": not_before}
        if crashed:
            values["crashes"] = t.jobs.c.crashes + 1
        with self._database.begin() as db:
            to = JobState.DELIVERING if _is_kept(db, job_id) else JobState.PENDING
            _require(transitions.give_back(db, transitions.in_hand(job_id, token), to=to, **values))
            end_attempt(db, job_id, now, "retry", reason)

    def crashes(self, job_id: str) -> int:
        """How often this job ended in an unexpected way."""
        with self._database.begin(reads_only=True) as db:
            return int(db.execute(select(t.jobs.c.crashes).where(t.jobs.c.id == job_id)).scalar() or 0)


def _is_kept(db: Connection, job_id: str) -> bool:
    """Whether a job is read, and its result in the ledger."""
    kept = and_(t.jobs.c.id == job_id, t.jobs.c.storing_at.is_not(None))
    return db.execute(select(t.jobs.c.id).where(kept)).first() is not None


def _require(held: bool) -> None:
    if not held:
        raise LeaseLost("the reading was taken back or superseded while this worker had it")


def _job(db: Connection, row: JobRow, study: StudyRow) -> Job:
    predecessor = None
    if row.predecessor:
        results = db.execute(select(t.jobs.c.results).where(t.jobs.c.id == row.predecessor)).scalar()
        if results:
            predecessor = Predecessor(
                job_id=JobId(row.predecessor),
                sr_series_uid=results["sr"]["series_uid"],
                sr_sop_uid=results["sr"]["sop_uid"],
            )
    orders = orders_of(db, study_uid=study.study_uid, accession=study.accession)
    return Job(
        job_id=JobId(row.id),
        study_uid=StudyUID(study.study_uid),
        twin=twin_of(db, study),
        study_orthanc_id=OrthancId(study.orthanc_id),
        series_orthanc_ids=tuple(OrthancId(item) for item in row.series),
        sources_hash=row.sources_hash,
        sources_count=row.sources_count,
        content_hash=row.salt.removeprefix(CONTENT) if row.salt.startswith(CONTENT) else "",
        route=row.route,
        slot=row.slot,
        model=row.model,
        model_version=row.model_version,
        priority=Priority(row.priority),
        queue=row.queue,
        revision=row.revision,
        attempt=row.attempts,
        destinations=tuple(row.destinations),
        order=next(iter(orders), None),
        other_orders=orders[1:],
        predecessor=predecessor,
    )
