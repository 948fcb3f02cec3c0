"""``ledger.workitems``: what a worklist (UPS-RS) asks for, from the first sight of a workitem to its end.

A row goes waiting -> claiming -> claimed -> ending -> completed or canceled. ``claiming`` is written before the
worklist is asked, so that a claim whose answer was lost is taken up, and made once. While a row is claimed (or was
completed) its route reads its study whatever the rules say.
Next: workitems/performer.py (who moves it), daemon/decider.py (who reads).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, or_, select, update

from medai.router.contract import FINAL_STATES, JobState, StampName, Verdict
from medai.router.ledger import schema as t
from medai.router.ledger.database import Part, due_by, upsert
from medai.router.ledger.rows import JobRow, StudyRow, first, rows
from medai.router.ledger.transitions import GONE
from medai.router.routing.rules import ASKED_FOR


class State(StrEnum):
    """Where a workitem stands with us."""

    WAITING = "waiting"
    CLAIMING = "claiming"
    CLAIMED = "claimed"
    ENDING = "ending"
    COMPLETED = "completed"
    CANCELED = "canceled"
    LOST = "lost"
    """Somebody else ended it, or it is gone from the worklist."""


UNDER_WAY = (State.CLAIMING, State.CLAIMED, State.ENDING)
ASKED = (State.CLAIMED, State.ENDING, State.COMPLETED)
"""States in which the route of a workitem reads its study, unless it is (to be) canceled."""


@dataclass(frozen=True, kw_only=True)
class WorkitemRow:
    """A workitem. ``lock_uid``: the Transaction UID that it is, or will be, claimed with; ``codes``: the coded entries
    that it is reported on by; ``study_id``: the study that it is claimed for; ``reason``: why it is (to be) canceled.
    """

    uid: str
    lock_uid: str
    study_uid: str
    study_id: int | None
    route: str
    codes: Mapping[str, Sequence[str]]
    state: str
    job_id: str | None
    reason: str
    tries: int
    seen_at: float
    claimed_at: float | None
    ended_at: float | None
    next_try_at: float


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A workitem that is scheduled and ours to do, as its row keeps it."""

    uid: str
    lock_uid: str
    study_uid: str
    route: str
    codes: Mapping[str, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class ResultObject:
    """An object of a result in the archive."""

    kind: str
    series_uid: str
    sop_uid: str


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far the reading of a claimed workitem is."""

    ended: bool
    reason: str = ""
    """Why there is no result, or not all of it; empty where there is."""
    job_id: str | None = None
    began: float | None = None
    until: float | None = None
    objects: tuple[ResultObject, ...] = ()


class Workitems(Part):
    """Workitems that are ours to do."""

    def see(self, new: Seen, now: float) -> WorkitemRow:
        """Note a workitem that is scheduled; one that waits follows what is said of it now."""
        c = t.workitems.c
        mine = select(t.workitems).where(c.uid == new.uid)
        said = {**asdict(new), "codes": {name: list(code) for name, code in new.codes.items()}}
        with self._database.begin(reads_only=True) as db:
            known = first(db, mine, WorkitemRow)
        if known is not None and (known.state != State.WAITING or said.items() <= asdict(known).items()):
            return known
        with self._database.begin() as db:
            fresh = upsert(db, t.workitems).values(**said, state=State.WAITING.value, seen_at=now)
            changed = fresh.on_conflict_do_update(
                index_elements=["uid"], set_=said, where=c.state == State.WAITING.value
            )
            db.execute(changed)
            (row,) = rows(db, mine, WorkitemRow)
        return row

    def studies_waited_for(self) -> frozenset[str]:
        """Study Instance UIDs of workitems that wait, for their study or for their claim."""
        query = select(t.workitems.c.study_uid).where(t.workitems.c.state == State.WAITING.value)
        with self._database.begin(reads_only=True) as db:
            return frozenset(str(uid) for uid in db.execute(query).scalars())

    def studies_here(self, study_uid: str) -> list[int]:
        """The studies of the archive with this UID, by their numbers: two patients may share one."""
        c = t.studies.c
        query = select(c.id).where(c.study_uid == study_uid, c.deleted_at.is_(None)).order_by(c.id)
        with self._database.begin(reads_only=True) as db:
            return [int(number) for number in db.execute(query).scalars()]

    def under_way(self, now: float, *, longest_s: float) -> list[WorkitemRow]:
        """Those that something is to be done about, oldest first."""
        c = t.workitems.c
        query = select(t.workitems).where(c.state.in_(UNDER_WAY), due_by(c.next_try_at, now, longest_s))
        with self._database.begin(reads_only=True) as db:
            return rows(db, query.order_by(c.seen_at, c.uid), WorkitemRow)

    def begin_claim(
        self, row: WorkitemRow, *, study_id: int | None = None, reason: str = ""
    ) -> WorkitemRow | None:  # fmt: skip
        """The worklist is about to be asked, to have a study read, or (``reason``) to cancel. Asked again, it is as it
        was the first time. None where somebody else moved it.
        """
        told: dict[str, Any] = {"tries": row.tries + 1}
        if row.state == State.WAITING:
            told |= {"study_id": study_id, "reason": reason}
        return self._move(row, State.CLAIMING, since=(State.WAITING, State.CLAIMING), **told)

    def let_go(self, row: WorkitemRow, next_try_at: float) -> None:
        """The worklist did not give it to us."""
        self._move(row, State.WAITING, since=(State.CLAIMING,), tries=0, next_try_at=next_try_at)

    def claimed(self, row: WorkitemRow, now: float) -> None:
        """It is ours: its study is looked at again, unless it is claimed to be canceled."""
        state = State.ENDING if row.reason else State.CLAIMED
        with self._database.begin() as db:
            values = {"claimed_at": now, "tries": 0, "next_try_at": 0.0}
            if self._moved(db, row, state, (State.CLAIMING,), values) and not row.reason:
                here = and_(t.studies.c.id == row.study_id, t.studies.c.deleted_at.is_(None))
                db.execute(update(t.studies).where(here).values(due_at=now))

    def ending(self, row: WorkitemRow, standing: Standing) -> WorkitemRow | None:
        """Its reading has ended, and the worklist is to be told."""
        told = {"reason": standing.reason, "job_id": standing.job_id, "tries": 0, "next_try_at": 0.0}
        return self._move(row, State.ENDING, since=(State.CLAIMED,), **told)

    def ended(self, row: WorkitemRow, state: State, now: float) -> None:
        """The worklist knows."""
        self._move(row, state, since=UNDER_WAY, ended_at=now)

    def put_off(self, uid: str, next_try_at: float) -> None:
        """Something stood in the way of what is under way."""
        c = t.workitems.c
        mine = and_(c.uid == uid, c.state.in_([state.value for state in UNDER_WAY]))
        with self._database.begin() as db:
            db.execute(update(t.workitems).where(mine).values(tries=c.tries + 1, next_try_at=next_try_at))

    def forget(self, before: float) -> None:
        """Drop what ended, or was seen and never came to be ours, before a moment."""
        c = t.workitems.c
        old = or_(c.ended_at < before, and_(c.state == State.WAITING.value, c.seen_at < before))
        with self._database.begin() as db:
            db.execute(t.workitems.delete().where(old))

    def routes_asked(self, study_id: int) -> frozenset[str]:
        """The routes by which workitems want a study read."""
        c = t.workitems.c
        query = select(c.route).where(c.study_id == study_id, c.state.in_(ASKED), c.reason == "")
        with self._database.begin(reads_only=True) as db:
            return frozenset(str(name) for name in db.execute(query).scalars())

    def standing(self, row: WorkitemRow) -> Standing:
        """How far the reading of a workitem is, by its study and the jobs that there are."""
        with self._database.begin(reads_only=True) as db:
            here = and_(t.studies.c.id == row.study_id, t.studies.c.deleted_at.is_(None))
            study = first(db, select(t.studies).where(here), StudyRow)
            if study is None:
                return Standing(ended=True, reason="the study was deleted from the archive")
            newest = _newest_jobs(db, study.id, row.route)
            if not newest:
                return _unread(db, row, study)
            if study.complete_at is None:  # images came since the last job was made
                return Standing(ended=False, job_id=newest[0].id)
            return _read(db, newest, looked_at=study.due_at is None)

    def _move(
        self, row: WorkitemRow, state: State, *, since: Sequence[State], **values: Any
    ) -> WorkitemRow | None:  # fmt: skip
        with self._database.begin() as db:
            if not self._moved(db, row, state, since, values):
                return None
            (after,) = rows(db, select(t.workitems).where(t.workitems.c.uid == row.uid), WorkitemRow)
        return after

    @staticmethod
    def _moved(
        db: Connection, row: WorkitemRow, state: State, since: Sequence[State], values: Mapping[str, Any]
    ) -> bool:
        mine = and_(t.workitems.c.uid == row.uid, t.workitems.c.state.in_([each.value for each in since]))
        return db.execute(update(t.workitems).where(mine).values(**values, state=state.value)).rowcount == 1


def _newest_jobs(db: Connection, study_id: int, route: str) -> list[JobRow]:
    """The last job of each series that the route reads, without those that a person asked another model for."""
    c = t.jobs.c
    query = select(t.jobs).where(c.study_id == study_id, c.route == route, c.slot.not_like("%~%"))
    newest = {job.slot: job for job in rows(db, query.order_by(c.revision, c.created_at), JobRow)}
    return list(newest.values())


def _unread(db: Connection, row: WorkitemRow, study: StudyRow) -> Standing:
    """No job: the study is still waited for, or the route, being asked for, found nothing in it to read."""
    c = t.decisions.c
    query = select(c.verdict, c.reason).where(c.study_id == study.id, c.route == row.route)
    last = db.execute(query.order_by(c.id.desc()).limit(1)).first()
    asked = last is not None and last.verdict == Verdict.SKIP.value and last.reason.startswith(ASKED_FOR)
    if last is not None and asked and study.complete_at is not None:
        return Standing(ended=True, reason="nothing to read: " + last.reason.removeprefix(f"{ASKED_FOR}; "))
    return Standing(ended=True, reason="nothing to read") if study.due_at is None else Standing(ended=False)


def _read(db: Connection, newest: Sequence[JobRow], *, looked_at: bool) -> Standing:
    """Jobs: ended where each has its result in the archive, or will never have one."""
    undone = [job for job in newest if job.stored_at is None or job.failure in GONE]
    # Superseded without a successor: other images are about to be read instead, as long as the study is looked at.
    open_jobs = [job for job in undone if job.state not in FINAL_STATES or _set_aside(job, looked_at)]
    if open_jobs:
        return Standing(ended=False, job_id=open_jobs[0].id)
    done = [job for job in newest if job not in undone]
    reason = (undone[0].reason or f"the reading was {undone[0].state}") if undone else ""
    ids = [job.id for job in done]
    s, o = t.stamps.c, t.result_objects.c
    started = and_(s.job_id.in_([job.id for job in newest]), s.name == StampName.STARTED.value)
    objects = select(o.kind, o.series_uid, o.sop_uid).where(o.job_id.in_(ids)).order_by(o.job_id, o.kind, o.sop_uid)
    return Standing(
        ended=True,
        reason=reason,
        job_id=newest[0].id,
        began=min(map(float, db.execute(select(s.at).where(started)).scalars()), default=None),
        until=max((job.stored_at or job.finished_at or 0.0 for job in newest), default=0.0) or None,
        objects=tuple(rows(db, objects, ResultObject)),
    )


def _set_aside(job: JobRow, looked_at: bool) -> bool:
    return job.state == JobState.SUPERSEDED.value and not looked_at
