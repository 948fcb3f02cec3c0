"""``ledger.jobs``: readings as the router wants them, sends them, takes them back and ends them.

Two rules make doing things twice harmless: a job's id derives from what it reads, and every change of a job's state is
one UPDATE that names the state (and lease) it expects. Next: claims.py (a job in a worker's hands).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Float, Integer, Select, and_, bindparam, insert, or_, select, update

from medai.router.contract import (
    Decision,
    DeliveryState,
    Failure,
    JobId,
    JobState,
    Priority,
    StampName,
    Verdict,
    make_job_id,
    twin_uid,
)
from medai.router.ledger import schema as t
from medai.router.ledger import transitions
from medai.router.ledger.database import LONGEST_S, NOW, Part, due_by
from medai.router.ledger.history import ROUTER, decide, end_attempt, noted, stamp
from medai.router.ledger.rows import JobRow, StudyRow, first, rows
from medai.router.ledger.studies import twin_of
from medai.router.ledger.transitions import GONE, UNREAD
from medai.router.words import counted

REFUSED = "refused"
"""Verdict of a reading whose model gave no result; the others come from the worker ("plausible", "check")."""


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
    ordered_at: float | None = None
    content_hash: str = ""
    """Hash over the images' bytes, where the router had to ask for it: what was sent again may hold other content."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """A job that a worker holds: ``beat`` grows with each renewal, ``process`` tells whose it is."""

    job_id: str
    token: str
    beat: int
    process: str


@dataclass(frozen=True, kw_only=True)
class UnsentJob:
    """A job whose message is to be sent."""

    id: str
    queue: str
    priority: int


class Jobs(Part):
    """Jobs: made by the router, held by a worker, ended once."""

    # -- made by the router

    def create(
        self, new: NewJob, *, study: StudyRow, reason: str, now: float,
        also: Callable[[Connection, JobId], None] | None = None,
    ) -> tuple[JobId, Decision]:  # fmt: skip
        """Make the job of a reading, or find that it exists; returns its id and the decision that was recorded.

        A reading of other images than the last one supersedes it: what had not begun to store is dropped, what had
        becomes the predecessor of a new revision. ``also`` is written in the same transaction.
        """
        with self._database.begin() as db:
            last = _last_of_slot(db, new)
            salt = _salt(last, new)
            if last is not None and salt is None:
                why = f"{counted(new.sources_count, 'image')}, read before ({last.state}): nothing to do"
                return JobId(last.id), Decision(verdict=Verdict.SKIP, reason=why, route=new.route)
            job_id = _id_of(new, salt or "", twin_of(db, study))
            columns = (t.jobs.c.state, t.jobs.c.failure, t.jobs.c.storing_at)
            known = db.execute(select(*columns).where(t.jobs.c.id == job_id)).first()
            if known is not None and not _may_be_taken_up(known):
                why = f"an earlier reading of exactly these images exists ({known.state})"
                return job_id, Decision(verdict=Verdict.SKIP, reason=why, route=new.route)
            revision, predecessor, verdict, note = self._supersede(db, last, now)
            created_at = _after(last, now)
            if known is not None:  # its model's version, or just these images, were away and are back
                transitions.revive(db, job_id, revision=revision, predecessor=predecessor, created_at=created_at)
            else:
                row = {
                    **{name: value for name, value in asdict(new).items() if name not in _NOT_COLUMNS},
                    "id": job_id,
                    "salt": salt or "",
                    "priority": int(new.priority),
                    "revision": revision,
                    "predecessor": predecessor,
                    "created_at": created_at,
                }
                transitions.add_job(db, row)
                self._first_stamps(db, job_id, study, new, now)
            decision = Decision(verdict=verdict, reason=reason + note, route=new.route)
            decide(db, new.study_id, decision, now, job_id=job_id)
            by = f"{new.model} {new.model_version}"
            noted(db, ROUTER, "reading", now, study_id=new.study_id, job_id=job_id, detail=by)
            if also:
                also(db, job_id)
        return job_id, decision

    def hurry(self, study_id: int, route: str, priority: Priority) -> int:
        """Raise what waits of a study by a route to this urgency (its message goes again, to the front); how many."""
        waits = and_(
            t.jobs.c.study_id == study_id,
            t.jobs.c.route == route,
            t.jobs.c.state == JobState.PENDING.value,
            t.jobs.c.priority > int(priority),
        )
        values = {"priority": int(priority), "sent_at": None}
        with self._database.begin(reads_only=True) as db:
            if db.execute(select(t.jobs.c.id).where(waits).limit(1)).first() is None:
                return 0
        with self._database.begin() as db:
            return int(db.execute(update(t.jobs).where(waits).values(**values)).rowcount)

    def _supersede(self, db: Connection, last: JobRow | None, now: float) -> tuple[int, str | None, Verdict, str]:
        if last is None:
            return 1, None, Verdict.ROUTE, ""
        if last.failure in GONE:  # its objects are gone: nothing to point at
            revision = last.revision + (last.storing_at is not None)
            return revision, None, Verdict.ROUTE, f"; {GONE[last.failure]}"
        begun = last.storing_at is not None
        if last.state in UNREAD and not begun:
            if transitions.supersede(db, last.id, now):
                end_attempt(db, last.id, now, "superseded", "")
                note = "; replaces a reading that had stored nothing yet"
                return last.revision, last.predecessor, Verdict.SUPERSEDE, note
            begun = True
        if not begun:
            transitions.supersede_failed(db, last.id)
            return last.revision, last.predecessor, Verdict.ROUTE, ""
        revision = last.revision + 1
        note = f"; revision {revision} supersedes the result from {counted(last.sources_count, 'image')}"
        return revision, last.id, Verdict.SUPERSEDE, note

    def _first_stamps(self, db: Connection, job_id: str, study: StudyRow, new: NewJob, now: float) -> None:
        moments = {
            StampName.ORDERED: new.ordered_at,
            StampName.ACQUIRED: study.acquired_at,
            StampName.FIRST_INSTANCE: study.first_instance_at,
            StampName.LAST_INSTANCE: study.last_instance_at,
            StampName.STUDY_COMPLETE: study.complete_at or now,
        }
        rows = [{"job_id": job_id, "name": n.value, "at": at} for n, at in moments.items() if at is not None]
        db.execute(insert(t.stamps), rows)

    def unsent(
        self, now: float, *, resend_before: float, longest_s: float = 3600.0, limit: int = 500
    ) -> list[UnsentJob]:
        """Pending jobs that may run and whose message never went or went before ``resend_before``, in their order.

        A moment that lies further ahead than ``longest_s`` (the longest back-off) was written by a clock that has
        been put back since: it counts as past.
        """
        values = {"now": now, "longest_s": longest_s, "resend_before": resend_before, "many": limit}
        with self._database.begin(reads_only=True) as db:
            return rows(db, _UNSENT, UnsentJob, values)

    def mark_sent(self, sent: Mapping[str, float]) -> None:
        """The messages of these jobs are with the broker since these moments."""
        with self._database.begin() as db:
            for job_id, at in sent.items():
                db.execute(update(t.jobs).where(t.jobs.c.id == job_id).values(sent_at=at))
                stamp(db, job_id, StampName.ENQUEUED, at, keep_first=True)

    def held(self) -> list[Held]:
        """The jobs that workers hold now."""
        with self._database.begin(reads_only=True) as db:
            return [
                Held(job_id=str(r.id), token=str(r.lease_token), beat=int(r.lease_beat), process=str(r.lease_process))
                for r in db.execute(_HELD)
            ]

    def reclaim(self, held: Held, reason: str, *, max_crashes: int, now: float) -> JobState | None:
        """Take a job from a worker that is silent or dead; None when it was renewed or ended meanwhile.

        What was kept already goes on to its destinations; what kills its workers again and again fails.
        """
        mine = and_(transitions.in_hand(held.job_id, held.token), t.jobs.c.lease_beat == held.beat)
        with self._database.begin() as db:
            row = first(db, select(t.jobs).where(mine), JobRow)
            if row is None:
                return None
            state, values = _taken_back(row, reason, max_crashes, now)
            if not transitions.give_back(db, mine, to=state, **values):
                return None
            end_attempt(db, held.job_id, now, "lost", reason)
            if state is JobState.FAILED:
                decision = Decision(verdict=Verdict.FAIL, reason=values["reason"], route=row.route)
                decide(db, row.study_id, decision, now, job_id=held.job_id)
            return state

    def settle_idle(self, now: float) -> list[str]:
        """End jobs that wait for deliveries and have none that waits: a safety net, which should find nothing."""
        waits = and_(t.deliveries.c.job_id == t.jobs.c.id, t.deliveries.c.state == DeliveryState.PENDING.value)
        idle = and_(t.jobs.c.state == JobState.DELIVERING.value, ~select(t.deliveries.c.id).where(waits).exists())
        with self._database.begin() as db:
            return [
                str(row.id)
                for row in db.execute(select(t.jobs.c.id).where(idle)).all()
                if transitions.settle(db, row.id, now)
            ]

    # -- what outlives its reason

    def replace_outdated(self, held: Mapping[str, set[str]], now: float) -> list[str]:
        """Set aside jobs for a model version that no worker holds any more, and look at their studies again.

        ``held``: model -> the versions that living workers hold. A model that nobody holds is waited for.
        """
        waits = and_(t.jobs.c.state == JobState.PENDING.value, t.jobs.c.storing_at.is_(None))
        out = []
        with self._database.begin() as db:
            columns = (t.jobs.c.id, t.jobs.c.study_id, t.jobs.c.model, t.jobs.c.model_version)
            for row in db.execute(select(*columns).where(waits)).all():
                versions = held.get(row.model, set())
                if not versions or row.model_version in versions:
                    continue
                if transitions.outdate(db, row.id, now):
                    db.execute(update(t.studies).where(t.studies.c.id == row.study_id).values(due_at=now))
                    out.append(str(row.id))
        return out


CLOCK_SLACK_S = 1.0
CONTENT = "content:"
_NOT_COLUMNS = ("study_uid", "priority", "content_hash", "ordered_at")


def _last_of_slot(db: Connection, new: NewJob) -> JobRow | None:
    slot = and_(t.jobs.c.study_id == new.study_id, t.jobs.c.route == new.route, t.jobs.c.slot == new.slot)
    order = (t.jobs.c.revision.desc(), t.jobs.c.created_at.desc())
    return first(db, select(t.jobs).where(slot).order_by(*order).limit(1), JobRow)


def _after(last: JobRow | None, now: float) -> float:
    """When a job counts as made: after the last one of its slot, also where the clock was put back between them.

    Whatever asks for a slot's last job goes by this moment: were it the wrong one, the job that it supersedes would
    stay open beside it.
    """
    return now if last is None else max(now, last.created_at + 0.001)


def _salt(last: JobRow | None, new: NewJob) -> str | None:
    """What sets this reading apart from the last one of the same images; None where there is nothing to read again."""
    if last is None or last.sources_hash != new.sources_hash or last.model != new.model:
        return ""
    if last.failure == Failure.DELETED.value:
        return f"again:{last.id}"
    if last.failure == Failure.VERSION.value:
        return last.salt
    if new.content_hash and last.content_digest and new.content_hash != last.content_digest:
        return CONTENT + new.content_hash
    return None


def _may_be_taken_up(known: Any) -> bool:
    """Whether a job that was set aside unread can be read after all."""
    unread = known.state == JobState.SUPERSEDED.value and known.storing_at is None
    return bool(unread or known.failure == Failure.VERSION.value)


def _id_of(new: NewJob, salt: str, twin: int) -> JobId:
    return make_job_id(
        study_uid=twin_uid(new.study_uid, twin),
        sources=new.sources_hash + salt,
        route=new.route + new.slot,
        model=new.model,
        version=new.model_version,
    )


def _taken_back(row: JobRow, reason: str, max_crashes: int, now: float) -> tuple[JobState, dict[str, Any]]:
    """Where a job goes whose worker is silent, and what is written beside it."""
    if row.storing_at is not None:
        return JobState.DELIVERING, {"reason": ""}
    crashes = row.crashes + 1
    values: dict[str, Any] = {"crashes": crashes, "reason": f"{reason} ({counted(crashes, 'time')})"}
    if crashes < max_crashes:
        return JobState.PENDING, {**values, "not_before": 0.0}
    return JobState.FAILED, {**values, "failure": Failure.CRASH.value, "finished_at": now}


def predecessor_read() -> Any:
    """What a job supersedes has been read (or has failed): its objects are known, and may be named."""
    before = t.jobs.alias("before")
    unread = and_(before.c.id == t.jobs.c.predecessor, before.c.state.in_([state.value for state in UNREAD]))
    return ~select(before.c.id).where(unread).exists()


def _unsent() -> Select[Any]:
    """See ``Jobs.unsent``."""
    c = t.jobs.c
    resend_before = bindparam("resend_before", type_=Float())
    ripe = and_(
        c.state == JobState.PENDING.value,
        due_by(c.not_before, NOW, LONGEST_S),
        or_(c.sent_at.is_(None), c.sent_at < resend_before, c.sent_at > NOW + CLOCK_SLACK_S),
        predecessor_read(),
    )
    many = bindparam("many", type_=Integer())
    return select(c.id, c.queue, c.priority).where(ripe).order_by(c.priority, c.created_at).limit(many)


_UNSENT = _unsent()
_HELD = select(t.jobs.c.id, t.jobs.c.lease_token, t.jobs.c.lease_beat, t.jobs.c.lease_process).where(
    t.jobs.c.state == JobState.RUNNING.value
)
