"""The ledger: the truth about every study, job and delivery. All writes go through here.

Orthanc's change log, Redis and every callback are doorbells; what must not be lost is committed here first. Two
rules make doing things twice harmless: a job's id derives from what it reads, and every change of a job's state is
one UPDATE that names the state (and lease) it expects. Tables: schema.py. Studies and orders: studies.py. Reading for
people: reports.py.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from sqlalchemy import Connection, Select, and_, func, insert, or_, select, update

from router import schema as t
from router.contract import (
    FINAL_STATES,
    Decision,
    Job,
    JobId,
    JobState,
    OrthancId,
    Predecessor,
    Priority,
    StampName,
    StudyUID,
    Verdict,
    make_job_id,
)
from router.database import decide
from router.errors import LeaseLost, TemporaryError
from router.studies import Studies, find_order

log = structlog.get_logger(__name__)
FORGET_WORKER_S = 3600.0
REFUSED = "refused"
"""Verdict of a reading whose model gave no result; the others come from the worker ("plausible", "check")."""
FINAL = tuple(state.value for state in FINAL_STATES)


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A reading that the router wants: which series, by which model, for which route."""

    study_id: int
    study_uid: str
    route: str
    slot: str
    model: str
    model_version: str
    modality: str
    series: tuple[str, ...]
    sources_hash: str
    sources_count: int
    queue: str
    priority: Priority
    destinations: tuple[str, ...]
    quiet_s: float


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A job that this worker holds until ``lease_until``, and what is already done of it."""

    job: Job
    token: str
    stored: bool
    created_at: float
    pending_deliveries: tuple[Pending, ...]


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A delivery that is still owed."""

    destination: str
    control_id: str
    payload: bytes | None
    attempts: int
    first_try_at: float | None


class Ledger(Studies):
    """Jobs, deliveries, workers and models, on top of what was seen and ordered."""

    # -- jobs: made by the router

    def create_job(self, new: NewJob, *, study: Mapping[str, Any], reason: str, now: float) -> tuple[JobId, Decision]:
        """Make the job of a reading, or find that it exists; returns its id and the decision that was recorded.

        A reading of other images than the last one supersedes it: what had not begun to store is dropped, what had
        becomes the predecessor of a new revision.
        """
        job_id = make_job_id(
            study_uid=new.study_uid,
            sources=new.sources_hash,
            route=new.route + new.slot,
            model=new.model,
            version=new.model_version,
        )
        with self.begin() as db:
            slot = and_(t.jobs.c.study_id == new.study_id, t.jobs.c.route == new.route, t.jobs.c.slot == new.slot)
            order = (t.jobs.c.revision.desc(), t.jobs.c.created_at.desc())
            found = db.execute(select(t.jobs).where(slot).order_by(*order).limit(1)).mappings().first()
            last = dict(found) if found else None
            known = db.execute(select(t.jobs.c.state).where(t.jobs.c.id == job_id)).scalar()
            if last and last["sources_hash"] == new.sources_hash and last["model"] == new.model:
                why = f"these {new.sources_count} images were read before (job {last['state']}); nothing to do"
                return JobId(last["id"]), Decision(verdict=Verdict.SKIP, reason=why, route=new.route)
            if known is not None:
                why = f"an earlier reading of exactly these {new.sources_count} images exists (job {known})"
                return job_id, Decision(verdict=Verdict.SKIP, reason=why, route=new.route)
            revision, predecessor, verdict, note = self._supersede(db, last, now)
            values = asdict(new)
            for name in ("study_uid", "priority"):
                values.pop(name)
            row = {
                "id": job_id,
                "priority": int(new.priority),
                "revision": revision,
                "predecessor": predecessor,
                "state": JobState.PENDING.value,
                "created_at": now,
            }
            db.execute(insert(t.jobs).values(**values, **row))
            self._first_stamps(db, job_id, study, new, now)
            decision = Decision(verdict=verdict, reason=reason + note, route=new.route)
            decide(db, new.study_id, decision, now, job_id=job_id)
        return job_id, decision

    def _supersede(
        self, db: Connection, last: Mapping[str, Any] | None, now: float
    ) -> tuple[int, str | None, Verdict, str]:
        if last is None:
            return 1, None, Verdict.ROUTE, ""
        begun = last["storing_at"] is not None
        if last["state"] not in FINAL and not begun:
            still = and_(t.jobs.c.id == last["id"], t.jobs.c.storing_at.is_(None), t.jobs.c.state.not_in(FINAL))
            values = {
                "state": JobState.SUPERSEDED.value,
                "finished_at": now,
                "lease_token": None,
                "lease_until": None,
                "reason": "other images of the study arrived before anything was stored",
            }
            if db.execute(update(t.jobs).where(still).values(**values)).rowcount == 1:
                note = "; replaces a job that had stored nothing yet"
                return int(last["revision"]), last["predecessor"], Verdict.SUPERSEDE, note
            begun = True
        if not begun:
            return int(last["revision"]), last["predecessor"], Verdict.ROUTE, ""
        revision = int(last["revision"]) + 1
        note = f"; revision {revision} supersedes the result that was stored from {last['sources_count']} images"
        return revision, str(last["id"]), Verdict.SUPERSEDE, note

    def _first_stamps(self, db: Connection, job_id: str, study: Mapping[str, Any], new: NewJob, now: float) -> None:
        order = find_order(db, study_uid=new.study_uid, accession=str(study["accession"]))
        moments = {
            StampName.ORDERED: order.ordered_at if order else None,
            StampName.ACQUIRED: study["acquired_at"],
            StampName.FIRST_INSTANCE: study["first_instance_at"],
            StampName.LAST_INSTANCE: study["last_instance_at"],
            StampName.STUDY_COMPLETE: study["complete_at"] or now,
        }
        rows = [{"job_id": job_id, "name": n.value, "at": at} for n, at in moments.items() if at is not None]
        db.execute(insert(t.stamps), rows)

    def unsent_jobs(self, now: float, *, resend_before: float, limit: int = 500) -> list[dict[str, Any]]:
        """Pending jobs that may run and whose message never went or went before ``resend_before``."""
        columns = (t.jobs.c.id, t.jobs.c.queue, t.jobs.c.priority, t.jobs.c.sent_at)
        ripe = and_(
            t.jobs.c.state == JobState.PENDING.value,
            t.jobs.c.not_before <= now,
            or_(t.jobs.c.sent_at.is_(None), t.jobs.c.sent_at < resend_before),
            _predecessor_done(),
        )
        query = select(*columns).where(ripe).order_by(t.jobs.c.priority, t.jobs.c.created_at).limit(limit)
        with self.begin(reads_only=True) as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def mark_sent(self, sent: Mapping[str, float]) -> None:
        """The messages of these jobs are with the broker since these moments."""
        with self.begin() as db:
            for job_id, at in sent.items():
                db.execute(update(t.jobs).where(t.jobs.c.id == job_id).values(sent_at=at))
                stamp(db, job_id, StampName.ENQUEUED, at, keep_first=True, insert_=self._insert)

    def pending_sent(self, queue: str) -> int:
        """How many pending jobs of a queue should have a message with the broker."""
        waits = and_(t.jobs.c.state == JobState.PENDING.value, t.jobs.c.queue == queue, t.jobs.c.sent_at.is_not(None))
        with self.begin(reads_only=True) as db:
            return int(db.execute(select(func.count()).select_from(t.jobs).where(waits)).scalar_one())

    def running_jobs(self) -> int:
        """How many jobs are held by workers."""
        held = t.jobs.c.state == JobState.RUNNING.value
        with self.begin(reads_only=True) as db:
            return int(db.execute(select(func.count()).select_from(t.jobs).where(held)).scalar_one())

    def reclaim(self, now: float, *, max_crashes: int) -> list[tuple[str, JobState]]:
        """Take back jobs whose lease ran out; one that killed its worker too often is failed. Returns both kinds."""
        late = and_(t.jobs.c.state == JobState.RUNNING.value, t.jobs.c.lease_until < now)
        out: list[tuple[str, JobState]] = []
        with self.begin() as db:
            rows = db.execute(select(t.jobs.c.id, t.jobs.c.lease_token, t.jobs.c.crashes).where(late)).all()
            for job_id, token, crashes in rows:
                dead = crashes + 1 >= max_crashes
                state = JobState.FAILED if dead else JobState.PENDING
                values: dict[str, Any] = {
                    "state": state.value,
                    "crashes": crashes + 1,
                    "lease_token": None,
                    "lease_until": None,
                    "sent_at": None,
                    "reason": f"the worker stopped answering ({crashes + 1} times) while it read this",
                }
                if dead:
                    values["finished_at"] = now
                held = and_(t.jobs.c.id == job_id, t.jobs.c.lease_token == token)
                if db.execute(update(t.jobs).where(held).values(**values)).rowcount != 1:
                    continue
                _end_attempt(db, job_id, now, "lost", "the lease ran out")
                out.append((str(job_id), state))
        return out

    # -- jobs: held by a worker

    def claim(self, job_id: str, *, worker: str, lease_s: float, now: float) -> Claim | None:
        """Take a pending job with a lease: one UPDATE decides who has it. None when it is not to be had."""
        token = str(uuid.uuid4())
        free = and_(
            t.jobs.c.id == job_id,
            t.jobs.c.state == JobState.PENDING.value,
            t.jobs.c.not_before <= now,
            _predecessor_done(),
        )
        values = {
            "state": JobState.RUNNING.value,
            "lease_owner": worker,
            "lease_token": token,
            "lease_until": now + lease_s,
            "attempts": t.jobs.c.attempts + 1,
        }
        with self.begin() as db:
            if db.execute(update(t.jobs).where(free).values(**values)).rowcount != 1:
                return None
            row = db.execute(select(t.jobs).where(t.jobs.c.id == job_id)).mappings().one()
            study = db.execute(select(t.studies).where(t.studies.c.id == row["study_id"])).mappings().one()
            db.execute(
                insert(t.attempts).values(
                    job_id=job_id, number=row["attempts"], worker=worker, started_at=now, outcome="running"
                )
            )
            if row["stored_at"] is None:
                stamp(db, job_id, StampName.STARTED, now, keep_first=False, insert_=self._insert)
            return Claim(
                job=_job(db, dict(row), dict(study)),
                token=token,
                stored=row["stored_at"] is not None,
                created_at=float(row["created_at"]),
                pending_deliveries=_pending(db, job_id),
            )

    def renew(self, job_id: str, token: str, *, lease_s: float, now: float) -> None:
        """Hold the job longer; raises LeaseLost when another has it or it was superseded."""
        self._while_held(job_id, token, {"lease_until": now + lease_s})

    def _while_held(self, job_id: str, token: str, values: Mapping[str, Any], db: Connection | None = None) -> None:
        if db is None:
            with self.begin() as own:
                return self._while_held(job_id, token, values, own)
        held = and_(t.jobs.c.id == job_id, t.jobs.c.lease_token == token, t.jobs.c.state == JobState.RUNNING.value)
        if db.execute(update(t.jobs).where(held).values(**values)).rowcount != 1:
            raise LeaseLost("the job was taken back or superseded while this worker had it")
        return None

    def stamp(self, job_id: str, name: StampName, at: float) -> None:
        """Record a moment; a later attempt overwrites it."""
        with self.begin() as db:
            stamp(db, job_id, name, at, keep_first=False, insert_=self._insert)

    def begin_storing(self, job_id: str, token: str, objects: Sequence[Mapping[str, str]], now: float) -> None:
        """Announce the result objects before the first of them is sent, so that the router knows them as ours."""
        with self.begin() as db:
            self._while_held(job_id, token, {"storing_at": now}, db)
            for item in objects:
                db.execute(self._insert(t.result_objects).values(job_id=job_id, **item).on_conflict_do_nothing())

    def end_storing(
        self,
        job_id: str,
        token: str,
        *,
        results: Mapping[str, Any],
        measurements: Sequence[Mapping[str, Any]],
        warnings: Sequence[str],
        deliveries: Sequence[Mapping[str, Any]],
        now: float,
        plausibility: Mapping[str, Any] | None = None,
    ) -> None:
        """All objects are in the archive: keep the measurements and what is owed to the other destinations.

        ``plausibility`` is what the checks of the result came to; its ``verdict`` is kept beside it, to be counted.
        """
        values = {
            "stored_at": now,
            "results": dict(results),
            "measurements": list(measurements),
            "warnings": list(warnings),
            "verdict": plausibility["verdict"] if plausibility else None,
            "plausibility": dict(plausibility) if plausibility else None,
        }
        with self.begin() as db:
            self._while_held(job_id, token, values, db)
            stamp(db, job_id, StampName.STORED, now, keep_first=True, insert_=self._insert)
            for item in deliveries:
                row = {"job_id": job_id, "state": "pending", **item}
                db.execute(self._insert(t.deliveries).values(**row).on_conflict_do_nothing())

    def result_ids(self, job_id: str) -> list[str]:
        """Orthanc ids of a job's objects."""
        with self.begin(reads_only=True) as db:
            query = select(t.result_objects.c.orthanc_id).where(t.result_objects.c.job_id == job_id)
            return [str(row[0]) for row in db.execute(query)]

    def pending_deliveries(self, job_id: str) -> tuple[Pending, ...]:
        """What a job still owes to its destinations."""
        with self.begin(reads_only=True) as db:
            return _pending(db, job_id)

    def delivery_tried(self, job_id: str, destination: str, now: float) -> None:
        """An attempt at a delivery begins."""
        mine = and_(t.deliveries.c.job_id == job_id, t.deliveries.c.destination == destination)
        values = {
            "attempts": t.deliveries.c.attempts + 1,
            "first_try_at": func.coalesce(t.deliveries.c.first_try_at, now),
        }
        with self.begin() as db:
            db.execute(update(t.deliveries).where(mine).values(**values))

    def delivery_ended(self, job_id: str, destination: str, *, ok: bool, text: str, now: float) -> None:
        """A delivery is received (``text`` is the receipt) or refused for good (``text`` is the reason)."""
        mine = and_(t.deliveries.c.job_id == job_id, t.deliveries.c.destination == destination)
        values = {"state": "done" if ok else "failed", "done_at": now, "receipt" if ok else "error": text}
        with self.begin() as db:
            db.execute(update(t.deliveries).where(mine).values(**values))
            if ok and destination == "ris":
                stamp(db, job_id, StampName.ORU_ACKNOWLEDGED, now, keep_first=True, insert_=self._insert)

    def finish(
        self, job_id: str, token: str, state: JobState, reason: str, now: float, *, refused: bool = False
    ) -> None:
        """End a job for good; ``refused``: by its model, which would not read the series or found nothing plausible."""
        values: dict[str, Any] = {
            "state": state.value,
            "reason": reason,
            "finished_at": now,
            "lease_token": None,
            "lease_until": None,
        }
        if refused:
            values["verdict"] = REFUSED
        with self.begin() as db:
            self._while_held(job_id, token, values, db)
            _end_attempt(db, job_id, now, state.value, reason if state is not JobState.DONE else "")
            if state is JobState.FAILED:
                row = db.execute(select(t.jobs.c.study_id, t.jobs.c.route).where(t.jobs.c.id == job_id)).one()
                decision = Decision(verdict=Verdict.FAIL, reason=reason, route=row.route)
                decide(db, row.study_id, decision, now, job_id=job_id)

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
        with self.begin() as db:
            self._while_held(job_id, token, values, db)
            _end_attempt(db, job_id, now, "retry", reason)

    def crashes(self, job_id: str) -> int:
        """How often this job ended in an unexpected way."""
        with self.begin(reads_only=True) as db:
            return int(db.execute(select(t.jobs.c.crashes).where(t.jobs.c.id == job_id)).scalar() or 0)

    def cancel(self, job_id: str, reason: str, now: float) -> bool:
        """Cancel a job that no worker holds and that has stored nothing."""
        free = and_(t.jobs.c.id == job_id, t.jobs.c.state == JobState.PENDING.value, t.jobs.c.storing_at.is_(None))
        values = {"state": JobState.CANCELLED.value, "reason": reason, "finished_at": now}
        with self.begin() as db:
            return db.execute(update(t.jobs).where(free).values(**values)).rowcount == 1

    # -- workers and models

    def worker_seen(
        self, name: str, *, queues: Sequence[str], device: str, started_at: float, job_id: str | None, now: float
    ) -> None:
        """A worker says that it lives, and what it does."""
        values = {
            "queues": list(queues),
            "device": device,
            "started_at": started_at,
            "seen_at": now,
            "job_id": job_id,
        }
        statement = self._insert(t.workers).values(name=name, **values)
        with self.begin() as db:
            db.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))
            db.execute(t.workers.delete().where(t.workers.c.seen_at < now - FORGET_WORKER_S))  # the killed ones

    def worker_gone(self, name: str) -> None:
        """A worker stops in good order."""
        with self.begin() as db:
            db.execute(t.workers.delete().where(t.workers.c.name == name))

    def announce_models(self, cards: Sequence[Mapping[str, Any]], now: float) -> None:
        """A worker says which models it holds; the router takes their versions from here."""
        with self.begin() as db:
            for card in cards:
                values = {"seen_at": now, **{k: card[k] for k in ("version", "available", "reason")}}
                statement = self._insert(t.models).values(name=card["name"], **values)
                db.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))

    def model(self, name: str) -> dict[str, Any] | None:
        """What the workers said of a model."""
        with self.begin(reads_only=True) as db:
            row = db.execute(select(t.models).where(t.models.c.name == name)).mappings().first()
        return dict(row) if row else None

    def known_results(self, orthanc_ids: Sequence[str]) -> set[str]:
        """Which of these instances are results of ours."""
        out: set[str] = set()
        with self.begin(reads_only=True) as db:
            for start in range(0, len(orthanc_ids), 500):
                part = list(orthanc_ids[start : start + 500])
                query = select(t.result_objects.c.orthanc_id).where(t.result_objects.c.orthanc_id.in_(part))
                out.update(str(row[0]) for row in db.execute(query))
        return out


def migrated(ledger: Ledger, stop: threading.Event) -> Ledger:
    """Bring a ledger to its newest schema, waiting for a database that is not up yet, until told to stop."""
    while not stop.is_set():
        try:
            ledger.migrate()
            ledger.log_key()
        except TemporaryError as error:
            log.warning("ledger_unreachable", reason=str(error))
            stop.wait(2.0)
            continue
        break
    return ledger


def stamp(db: Connection, job_id: str, name: StampName, at: float, *, keep_first: bool, insert_: Any) -> None:
    """Write one stamp in an open transaction; the first or the newest moment stays."""
    statement = insert_(t.stamps).values(job_id=job_id, name=name.value, at=at)
    if keep_first:
        db.execute(statement.on_conflict_do_nothing())
    else:
        db.execute(statement.on_conflict_do_update(index_elements=["job_id", "name"], set_={"at": at}))


def _predecessor_done() -> Any:
    before = t.jobs.alias("before")
    open_before: Select[Any] = select(before.c.id).where(
        and_(before.c.id == t.jobs.c.predecessor, before.c.state.not_in(FINAL))
    )
    return ~open_before.exists()


def _end_attempt(db: Connection, job_id: str, now: float, outcome: str, error: str) -> None:
    running = and_(t.attempts.c.job_id == job_id, t.attempts.c.ended_at.is_(None))
    db.execute(update(t.attempts).where(running).values(ended_at=now, outcome=outcome, error=error))


def _pending(db: Connection, job_id: str) -> tuple[Pending, ...]:
    owed = and_(t.deliveries.c.job_id == job_id, t.deliveries.c.state == "pending")
    columns = ("destination", "control_id", "payload", "attempts", "first_try_at")
    rows = db.execute(select(*(t.deliveries.c[name] for name in columns)).where(owed).order_by(t.deliveries.c.id))
    return tuple(Pending(**row) for row in rows.mappings())


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
        route=row["route"],
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
