"""The ledger: the truth about every study, job and delivery. All writes go through here.

Orthanc's change log, Redis and every callback are doorbells; what must not be lost is committed here first. Two
rules make doing things twice harmless: a job's id derives from what it reads, and every change of a job's state is
one UPDATE that names the state (and lease) it expects. Tables: schema.py. Reading for people: reports.py.
"""

from __future__ import annotations

import json
import secrets
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, Select, and_, create_engine, event, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError

from router import schema as t
from router.contract import (
    FINAL_STATES,
    Decision,
    Job,
    JobId,
    JobState,
    Order,
    OrthancId,
    Predecessor,
    Priority,
    StampName,
    StudyUID,
    Verdict,
    make_job_id,
)
from router.errors import LeaseLost, TemporaryError

log = structlog.get_logger(__name__)
FORGET_WORKER_S = 3600.0
FINAL = tuple(state.value for state in FINAL_STATES)


@dataclass(frozen=True, kw_only=True)
class SeriesSeen:
    """What the router read of one series in Orthanc: its count without our own results."""

    orthanc_id: str
    series_uid: str
    instances: int
    expected: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class StudySeen:
    """What the router read of one study in Orthanc."""

    study_uid: str
    orthanc_id: str
    accession: str
    modality: str
    expected: Mapping[str, int]
    series: tuple[SeriesSeen, ...]
    archive_update: str
    acquired_at: float | None = None


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


class Ledger:
    """One database; safe to share between threads. ``now`` is given by the caller: time is data here."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = make_engine(url)
        self._reader = self.engine.execution_options(reads_only=True)
        self._insert = postgresql.insert if self.engine.dialect.name == "postgresql" else sqlite.insert

    # -- set-up

    def migrate(self) -> None:
        """Bring the schema to the newest revision (Alembic); harmless when it is there already."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["engine"] = self.engine
        try:
            command.upgrade(config, "head")
        except OperationalError as error:
            raise TemporaryError(f"the ledger does not answer ({type(error.orig).__name__})") from error

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    @contextmanager
    def begin(self, *, reads_only: bool = False) -> Iterator[Connection]:
        """One transaction; a database that is away or locked is a TemporaryError."""
        try:
            with (self._reader if reads_only else self.engine).begin() as connection:
                yield connection
        except OperationalError as error:
            raise TemporaryError(f"the ledger does not answer ({type(error.orig).__name__})") from error

    def setting(self, key: str, default: str) -> str:
        """A value that is made once and kept (the log key, the first start); the first writer wins."""
        with self.begin() as db:
            db.execute(self._insert(t.meta).values(key=key, value=default).on_conflict_do_nothing())
            return str(db.execute(select(t.meta.c.value).where(t.meta.c.key == key)).scalar_one())

    def log_key(self) -> str:
        """The key of the pseudonyms in the logs, made with the ledger."""
        return self.setting("log_key", secrets.token_hex(16))

    # -- the cursor in Orthanc's change log

    def read_cursor(self, name: str) -> int | None:
        """The last change that was taken in; None at the very first start."""
        with self.begin(reads_only=True) as db:
            value = db.execute(select(t.cursor.c.value).where(t.cursor.c.name == name)).scalar()
        return None if value is None else int(value)

    def write_cursor(self, name: str, value: int, now: float, db: Connection | None = None) -> None:
        """Move the cursor; with ``db``, in the transaction that records what was seen up to it."""
        if db is None:
            with self.begin() as own:
                return self.write_cursor(name, value, now, own)
        values = {"value": value, "at": now}
        statement = self._insert(t.cursor).values(name=name, **values)
        db.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))
        return None

    # -- orders

    def upsert_order(self, order: Order, *, status: str, control_id: str, now: float) -> bool:
        """Record an order (placer is its key) and raise the waiting jobs it names; False when it was known."""
        content = {**asdict(order), "priority": int(order.priority)}
        values = {
            "accession": order.accession,
            "study_uid": order.study_uid,
            "status": status,
            "priority": int(order.priority),
            "ordered_at": order.ordered_at,
            "received_at": now,
            "control_id": control_id,
            "content": content,
        }
        with self.begin() as db:
            known = db.execute(select(t.orders.c.control_id).where(t.orders.c.placer == order.placer)).scalar()
            if known == control_id:
                return False
            statement = self._insert(t.orders).values(placer=order.placer, **values)
            db.execute(statement.on_conflict_do_update(index_elements=["placer"], set_=values))
            self._raise_priority(db, order)
        return known is None

    def _raise_priority(self, db: Connection, order: Order) -> None:
        """An order that comes after its study still hurries the jobs that wait (a doorbell rings again)."""
        mine = self._order_match(order.accession, order.study_uid)
        waiting = and_(
            t.jobs.c.state == JobState.PENDING.value,
            t.jobs.c.priority > int(order.priority),
            t.jobs.c.study_id.in_(select(t.studies.c.id).where(mine)),
        )
        db.execute(update(t.jobs).where(waiting).values(priority=int(order.priority), sent_at=None))

    @staticmethod
    def _order_match(accession: str, study_uid: str) -> Any:
        terms = []
        if accession:
            terms.append(t.studies.c.accession == accession)
        if study_uid:
            terms.append(t.studies.c.study_uid == study_uid)
        return or_(*terms) if terms else t.studies.c.id < 0

    def order_for(self, *, study_uid: str, accession: str) -> Order | None:
        """The newest order that is not cancelled and names this study or its accession number."""
        with self.begin(reads_only=True) as db:
            return _order_for(db, study_uid=study_uid, accession=accession)

    # -- studies

    def see_study(self, seen: StudySeen, *, at: float, due_at: float | None, db: Connection) -> int:
        """Record a study as Orthanc has it now; returns its row id.

        Its clock (``last_instance_at``) moves only for series that grew or shrank, so our own results and repeated
        events leave it alone.
        """
        row = db.execute(select(t.studies).where(t.studies.c.orthanc_id == seen.orthanc_id)).mappings().first()
        common: dict[str, Any] = {
            "study_uid": seen.study_uid,
            "accession": seen.accession,
            "archive_update": seen.archive_update,
            "deleted_at": None,
        }
        if seen.modality or row is None:  # a lone report or presentation state says nothing of the images
            common |= {"modality": seen.modality, "expected": dict(seen.expected), "acquired_at": seen.acquired_at}
        if row is None:
            fresh = {**common, "orthanc_id": seen.orthanc_id, "instances": 0, "first_instance_at": at}
            made = db.execute(insert(t.studies).values(**fresh, last_instance_at=at, due_at=due_at))
            assert made.inserted_primary_key is not None
            study_id = int(made.inserted_primary_key[0])
        else:
            study_id = int(row["id"])
            db.execute(update(t.studies).where(t.studies.c.id == study_id).values(**common))
        if self._see_series(db, study_id, seen.series, at) or row is None or row["deleted_at"] is not None:
            self._restart_clock(db, study_id, at, due_at)
        return study_id

    def _see_series(self, db: Connection, study_id: int, seen: Sequence[SeriesSeen], at: float) -> bool:
        rows = db.execute(select(t.series.c.orthanc_id, t.series.c.instances).where(t.series.c.study_id == study_id))
        known = {str(row.orthanc_id): int(row.instances) for row in rows}
        changed = False
        for item in seen:
            if known.get(item.orthanc_id) == item.instances:
                continue
            changed = True
            values = {"instances": item.instances, "expected": dict(item.expected), "last_instance_at": at}
            keys = {"orthanc_id": item.orthanc_id, "study_id": study_id, "series_uid": item.series_uid}
            statement = self._insert(t.series).values(**keys, **values)
            db.execute(statement.on_conflict_do_update(index_elements=["orthanc_id"], set_=values))
        return changed

    def _restart_clock(self, db: Connection, study_id: int, at: float, due_at: float | None) -> None:
        total = select(func.coalesce(func.sum(t.series.c.instances), 0)).where(t.series.c.study_id == study_id)
        values = {"instances": total.scalar_subquery(), "last_instance_at": at, "due_at": due_at, "complete_at": None}
        db.execute(update(t.studies).where(t.studies.c.id == study_id).values(**values))

    def forget_series(self, study_id: int, keep: Iterable[str], db: Connection) -> None:
        """Drop the rows of series that are no longer in Orthanc."""
        gone = and_(t.series.c.study_id == study_id, t.series.c.orthanc_id.not_in(list(keep)))
        db.execute(t.series.delete().where(gone))

    def due_studies(self, now: float, *, limit: int = 200) -> list[dict[str, Any]]:
        """Studies whose completeness is to be decided now, longest due first."""
        query = select(t.studies).where(t.studies.c.due_at <= now).order_by(t.studies.c.due_at).limit(limit)
        with self.begin(reads_only=True) as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def next_due(self) -> float | None:
        """When the next study is to be looked at."""
        with self.begin(reads_only=True) as db:
            value = db.execute(select(func.min(t.studies.c.due_at))).scalar()
        return None if value is None else float(value)

    def set_due(self, study_id: int, due_at: float | None, *, if_seen_at: float | None = None) -> None:
        """Plan the next look; with ``if_seen_at``, only when no newer image restarted the clock meanwhile."""
        where = t.studies.c.id == study_id
        if if_seen_at is not None:
            where = and_(where, t.studies.c.last_instance_at == if_seen_at)
        with self.begin() as db:
            db.execute(update(t.studies).where(where).values(due_at=due_at))

    def study_row(self, orthanc_id: str) -> dict[str, Any] | None:
        """A study's row with ``series``, by Orthanc id."""
        with self.begin(reads_only=True) as db:
            row = db.execute(select(t.studies).where(t.studies.c.orthanc_id == orthanc_id)).mappings().first()
            if row is None:
                return None
            query = select(t.series).where(t.series.c.study_id == row["id"])
            return {**row, "series": [dict(item) for item in db.execute(query).mappings()]}

    def archive_updates(self, orthanc_ids: Sequence[str]) -> dict[str, str]:
        """LastUpdate as it was when each of these studies was last looked at; unknown ones are left out."""
        query = select(t.studies.c.orthanc_id, t.studies.c.archive_update).where(
            t.studies.c.orthanc_id.in_(orthanc_ids)
        )
        with self.begin(reads_only=True) as db:
            return {str(row[0]): str(row[1]) for row in db.execute(query)}

    def mark_deleted(self, orthanc_id: str, now: float) -> None:
        """The study is gone from Orthanc: nothing more is due for it."""
        row = self.study_row(orthanc_id)
        if row is None or row["deleted_at"] is not None:
            return
        with self.begin() as db:
            values = {"deleted_at": now, "due_at": None}
            db.execute(update(t.studies).where(t.studies.c.id == row["id"]).values(**values))
            reason = "the study was deleted from Orthanc"
            _decide(db, row["id"], Decision(verdict=Verdict.SKIP, reason=reason), now)

    def record(self, study_id: int, decisions: Sequence[Decision], now: float, *, outcome: str) -> bool:
        """Keep decisions, once: the same ``outcome`` as last time writes nothing and returns False."""
        with self.begin() as db:
            same = db.execute(select(t.studies.c.outcome_hash).where(t.studies.c.id == study_id)).scalar() == outcome
            if same:
                return False
            for decision in decisions:
                _decide(db, study_id, decision, now)
            values = {"outcome_hash": outcome}
            db.execute(update(t.studies).where(t.studies.c.id == study_id).values(**values))
        return True

    def set_complete(self, study_id: int, now: float) -> float:
        """Stamp the study complete (once per arrival of images) and return that moment."""
        with self.begin() as db:
            empty = and_(t.studies.c.id == study_id, t.studies.c.complete_at.is_(None))
            db.execute(update(t.studies).where(empty).values(complete_at=now))
            value = db.execute(select(t.studies.c.complete_at).where(t.studies.c.id == study_id)).scalar_one()
        return float(value)

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
            _decide(db, new.study_id, decision, now, job_id=job_id)
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
        order = _order_for(db, study_uid=new.study_uid, accession=str(study["accession"]))
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
    ) -> None:
        """All objects are in the archive: keep the measurements and what is owed to the other destinations."""
        values = {
            "stored_at": now,
            "results": dict(results),
            "measurements": list(measurements),
            "warnings": list(warnings),
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

    def finish(self, job_id: str, token: str, state: JobState, reason: str, now: float) -> None:
        """End a job for good."""
        values = {
            "state": state.value,
            "reason": reason,
            "finished_at": now,
            "lease_token": None,
            "lease_until": None,
        }
        with self.begin() as db:
            self._while_held(job_id, token, values, db)
            _end_attempt(db, job_id, now, state.value, reason if state is not JobState.DONE else "")
            if state is JobState.FAILED:
                row = db.execute(select(t.jobs.c.study_id, t.jobs.c.route).where(t.jobs.c.id == job_id)).one()
                decision = Decision(verdict=Verdict.FAIL, reason=reason, route=row.route)
                _decide(db, row.study_id, decision, now, job_id=job_id)

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


def make_engine(url: str) -> Engine:
    """An engine whose SQLite is durable (WAL, synchronous FULL) and whose write transactions never dead-lock."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, json_serializer=_json)
    engine = create_engine(url, json_serializer=_json, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself: _begin does
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer that takes its lock late can dead-lock with another; readers need none.
        reads = connection.get_execution_options().get("reads_only", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


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


def _decide(db: Connection, study_id: int, decision: Decision, now: float, *, job_id: str | None = None) -> None:
    db.execute(
        insert(t.decisions).values(
            study_id=study_id,
            job_id=job_id,
            at=now,
            verdict=decision.verdict.value,
            route=decision.route,
            reason=decision.reason,
        )
    )


def _end_attempt(db: Connection, job_id: str, now: float, outcome: str, error: str) -> None:
    running = and_(t.attempts.c.job_id == job_id, t.attempts.c.ended_at.is_(None))
    db.execute(update(t.attempts).where(running).values(ended_at=now, outcome=outcome, error=error))


def _order_for(db: Connection, *, study_uid: str, accession: str) -> Order | None:
    terms = [t.orders.c.study_uid == study_uid]
    if accession:
        terms.append(t.orders.c.accession == accession)
    valid = and_(or_(*terms), t.orders.c.status != "cancelled")
    query = select(t.orders.c.content).where(valid).order_by(t.orders.c.received_at.desc()).limit(1)
    content = db.execute(query).scalar()
    if content is None:
        return None
    order = Order(**{**content, "procedure": tuple(content["procedure"])})
    return replace(order, priority=Priority(order.priority))


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
        order=_order_for(db, study_uid=study["study_uid"], accession=study["accession"]),
        predecessor=predecessor,
    )
