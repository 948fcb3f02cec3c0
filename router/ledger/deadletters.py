"""``ledger.dead``: dead letters. A job or delivery that can't go on is parked here with its whole history.

Nothing is ever deleted: a person tries it again (``retry``) or says that it is settled (``drop``), and the ledger keeps
who it was, why, and when. A dead letter blocks nothing. Next: cli/readings.py (``medai dead``, ``retry``, ``drop``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, collate, func, or_, select, update

from medai.router.contract import Decision, DeliveryState, Failure, JobState, Verdict
from medai.router.ledger import schema as t
from medai.router.ledger import transitions
from medai.router.ledger.database import Part
from medai.router.ledger.history import decide, noted

PARKED = DeliveryState.PARKED.value
ID_LENGTH = 36
"""Of a job's id."""
MARK = re.compile(r"^([0-9]{1,12}(?:\.[0-9]{1,12})?):([0-9a-f-]{36}(?:/[^/\x00]{1,40}){0,2})$")
"""Where a page ends: the last letter's moment and id."""
HOPELESS = (Failure.IMAGES.value, Failure.DROPPED.value)
"""Failures that the same images would only repeat: tried again where a person names them, not by --all."""


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """One thing that can't go on.

    ``id`` is the job's for a reading, JOB/DESTINATION for its result's delivery, JOB/DESTINATION/withdrawal for that of
    its withdrawal.
    """

    id: str
    job_id: str
    destination: str
    """Empty for a reading."""
    kind: str
    route: str
    model: str
    failure: str
    reason: str
    parked_at: float
    attempts: int
    study_uid: str
    revision: int

    @property
    def names(self) -> tuple[str, str]:
        """What may follow the job in its id: a result's and its withdrawal's share the destination."""
        return self.destination, self.id.partition("/")[2]

    @property
    def retry_helps(self) -> bool:
        """Whether trying the same again may end differently."""
        return self.failure not in HOPELESS


def mark_of(text: str) -> tuple[float, str]:
    """The moment and the id that a page's ``next`` says. Raises ValueError for anything else."""
    mark = MARK.match(text)
    if mark is None:
        raise ValueError(f"a mark is MOMENT:ID, not {text!r}")
    return float(mark[1]), mark[2]


class DeadLetters(Part):
    """What is parked, and the two ways out."""

    def letters(
        self, *, prefix: str = "", limit: int = 1000, behind: tuple[float, str] | None = None
    ) -> list[DeadLetter]:
        """Parked readings and deliveries, newest first.

        ``prefix``: only those whose id begins so. ``behind``: only those that follow the letter that was parked at this
        moment and has this id.
        """
        job_id, _, rest = prefix.partition("/")
        queries = [(_deliveries, _delivery)] if rest else [(_readings, _reading), (_deliveries, _delivery)]
        found: list[DeadLetter] = []
        with self._database.begin(reads_only=True) as db:
            for query, letter in queries:
                part = _part(query(job_id), self._bytewise, limit=None if rest else limit, behind=behind)
                found += [letter(row) for row in db.execute(part)]
        if rest:
            found = [letter for letter in found if rest in letter.names]
        return sorted(found, key=lambda letter: (letter.parked_at, letter.id), reverse=True)[:limit]

    @property
    def _bytewise(self) -> str:
        """The collation that orders ids as Python does."""
        return "C" if self._database.engine.dialect.name == "postgresql" else "BINARY"

    def retry(self, letter: DeadLetter, now: float, *, by: str = "shell") -> bool:
        """Another try from the start of its patience; False when it is no longer a dead letter."""
        with self._database.begin() as db:
            done = self._retry_delivery(db, letter) if letter.destination else self._retry_job(db, letter, now)
            if done:
                db.execute(update(t.jobs).where(t.jobs.c.id == letter.job_id).values(retried_at=now))
                study_id = _study_of(db, letter)
                noted(db, by, "retry", now, study_id=study_id, job_id=letter.job_id, detail=letter.destination)
        return done

    @staticmethod
    def _retry_job(db: Connection, letter: DeadLetter, now: float) -> bool:
        if not transitions.retry(db, letter.job_id):
            return False
        decision = Decision(verdict=Verdict.ROUTE, reason="a person asked for another try", route=letter.route)
        decide(db, _study_of(db, letter), decision, now, job_id=letter.job_id)
        return True

    @staticmethod
    def _retry_delivery(db: Connection, letter: DeadLetter) -> bool:
        if not transitions.unpark(db, _this(letter)):
            return False
        if letter.kind == "result":
            transitions.deliver_again(db, letter.job_id)
        return True

    def drop(self, letter: DeadLetter, reason: str, now: float, *, by: str = "shell") -> bool:
        """Settled by a person, for a reason; False when it is no longer a dead letter."""
        text = f"dropped: {reason}"
        with self._database.begin() as db:
            done = (
                self._drop_delivery(db, letter, text, now)
                if letter.destination
                else transitions.drop(db, letter.job_id, text)
            )
            if done:
                decision = Decision(verdict=Verdict.SKIP, reason=text, route=letter.route)
                study_id = _study_of(db, letter)
                decide(db, study_id, decision, now, job_id=letter.job_id)
                noted(db, by, "drop", now, study_id=study_id, job_id=letter.job_id, detail=reason)
        return done

    @staticmethod
    def _drop_delivery(db: Connection, letter: DeadLetter, text: str, now: float) -> bool:
        if not transitions.drop_delivery(db, _this(letter), text):
            return False
        if letter.kind == "result" and transitions.deliver_again(db, letter.job_id, text):
            _give_up_rest(db, letter, now)
        return True


def _give_up_rest(db: Connection, letter: DeadLetter, now: float) -> None:
    """Without the archive's copy nothing else may go: what waited for it ends with it."""
    if letter.destination == "archive":
        rest = t.deliveries.c.job_id == letter.job_id
        transitions.call_off(
            db, rest, "its objects never reached the archive", since=(DeliveryState.PENDING,)
        )  # fmt: skip
    transitions.settle(db, letter.job_id, now)


def _study_of(db: Connection, letter: DeadLetter) -> int:
    return int(db.execute(select(t.jobs.c.study_id).where(t.jobs.c.id == letter.job_id)).scalar_one())


def _this(letter: DeadLetter) -> ColumnElement[bool]:
    d = t.deliveries.c
    return and_(d.job_id == letter.job_id, d.destination == letter.destination, d.kind == letter.kind)


Query = tuple[Select[Any], Any, Any]
"""What to ask for, and the columns with the moment and the id of a letter."""
_SHARED = ("route", "model", "revision")


def _readings(prefix: str) -> Query:
    columns = [t.jobs.c[name] for name in ("id", "failure", "reason", "finished_at", "attempts", *_SHARED)]
    dead = and_(t.jobs.c.state == JobState.FAILED.value, t.jobs.c.failure != Failure.DELIVERY.value)
    query = select(*columns, t.studies.c.study_uid).join(t.studies).where(dead, _begins(t.jobs.c.id, prefix))
    return query, t.jobs.c.finished_at, t.jobs.c.id


def _deliveries(prefix: str) -> Query:
    d = t.deliveries.c
    columns = [d[name] for name in ("job_id", "destination", "kind", "error", "done_at", "attempts")]
    query = select(*columns, *(t.jobs.c[name] for name in _SHARED), t.studies.c.study_uid)
    joined = query.join(t.jobs, t.jobs.c.id == d.job_id).join(t.studies, t.studies.c.id == t.jobs.c.study_id)
    # A letter's id is the job's, the destination's and, of all kinds but results, the kind's name
    name = d.job_id + "/" + d.destination + case((d.kind == "result", ""), else_="/" + d.kind)
    return joined.where(d.state == PARKED, _begins(d.job_id, prefix)), d.done_at, name


def _begins(column: Any, prefix: str) -> Any:
    """By the beginning; a whole id is found by its index."""
    return column == prefix if len(prefix) == ID_LENGTH else column.startswith(prefix, autoescape=True)


def _part(query: Query, bytewise: str, *, limit: int | None, behind: tuple[float, str] | None) -> Select[Any]:
    """The newest of them, or the newest behind a mark; without a moment they are the oldest."""
    wanted, moment, letter_id = query
    name = collate(letter_id, bytewise)
    at = func.coalesce(moment, 0.0)
    if behind is not None:
        wanted = wanted.where(or_(at < behind[0], and_(at == behind[0], name < behind[1])))
    return wanted.order_by(at.desc(), name.desc()).limit(limit)


def _reading(row: Any) -> DeadLetter:
    return DeadLetter(
        id=row.id, job_id=row.id, destination="", kind="reading", route=row.route, model=row.model,
        failure=row.failure, reason=row.reason, parked_at=float(row.finished_at or 0.0),
        attempts=row.attempts, study_uid=row.study_uid, revision=row.revision,
    )  # fmt: skip


def _delivery(row: Any) -> DeadLetter:
    parts = [row.job_id, row.destination] + ([] if row.kind == "result" else [row.kind])
    return DeadLetter(
        id="/".join(parts), job_id=row.job_id, destination=row.destination,
        kind=row.kind, route=row.route, model=row.model, failure=Failure.DELIVERY.value, reason=row.error,
        parked_at=float(row.done_at or 0.0), attempts=row.attempts, study_uid=row.study_uid,
        revision=row.revision,
    )  # fmt: skip
