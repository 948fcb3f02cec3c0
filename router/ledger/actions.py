"""``ledger.actions``: what a person may do to a reading. Raise it, cancel it, read it anew, take it back.

Each is one transaction that says what it expects, writes the decision with its reason, and who asked for it.
Next: removals.py (a study that is gone), deadletters.py (what could not go on), console/api.py (who asks).
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, and_, or_, select, update

from medai.router.contract import (
    ARCHIVE,
    Decision,
    DeliveryState,
    Failure,
    JobId,
    JobState,
    Priority,
    StampName,
    Verdict,
    control_id,
)
from medai.router.errors import MedaiError
from medai.router.ledger import rows, transitions
from medai.router.ledger import schema as t
from medai.router.ledger.database import Database, Part
from medai.router.ledger.history import decide, end_attempt, noted
from medai.router.ledger.jobs import Jobs, NewJob
from medai.router.ledger.removals import Withdrawn, owe_withdrawal
from medai.router.ledger.rows import JobRow
from medai.router.ledger.transitions import GONE

PENDING, DONE, PARKED = (s.value for s in (DeliveryState.PENDING, DeliveryState.DONE, DeliveryState.PARKED))


class ActionRefused(MedaiError):
    """What was asked for can't be done now; the text says why."""


class Actions(Part):
    """What people ask of readings."""

    def __init__(self, database: Database, jobs: Jobs) -> None:
        super().__init__(database)
        self._jobs = jobs

    def hurry(self, job_id: str, now: float, *, by: str) -> None:
        """Raise a reading that waits to STAT. Raises ActionRefused where it does not wait, or is STAT already."""
        with self._database.begin() as db:
            row = _reading(db, job_id)
            waits = and_(
                t.jobs.c.id == job_id,
                t.jobs.c.state == JobState.PENDING.value,
                t.jobs.c.priority > int(Priority.STAT),
            )
            values = {"priority": int(Priority.STAT), "sent_at": None}  # its message goes again, to the front
            if db.execute(update(t.jobs).where(waits).values(**values)).rowcount != 1:
                raise ActionRefused(f"only a waiting reading can be raised to STAT: this one is {_stands(row)}")
            _record(db, row, Verdict.ROUTE, "raised to STAT by a person", now, by=by, action="stat")

    def cancel(self, job_id: str, reason: str, now: float, *, by: str) -> None:
        """Take a reading out of the queue, or out of a worker's hands. Raises ActionRefused once it has a result."""
        with self._database.begin() as db:
            row = _reading(db, job_id)
            text = f"cancelled by a person: {reason}"
            if not transitions.cancel(db, job_id, text, now):
                raise ActionRefused(f"only a reading without a result can be cancelled: this one is {_stands(row)}")
            end_attempt(db, job_id, now, "cancelled", "cancelled by a person")
            _record(db, row, Verdict.SKIP, text, now, by=by, action="cancel", detail=reason)

    def read_again(self, job_id: str, model: str, version: str, now: float, *, by: str) -> JobId:
        """Read the same images by another model, as a result of its own beside the first.

        Raises ActionRefused where that model has read, or reads, exactly these images.
        """
        with self._database.begin(reads_only=True) as db:
            row = _reading(db, job_id)
            study = rows.study(db, row.study_id)
            ordered = and_(t.stamps.c.job_id == row.id, t.stamps.c.name == StampName.ORDERED.value)
            ordered_at = db.execute(select(t.stamps.c.at).where(ordered)).scalar()
        if study.deleted_at is not None:
            raise ActionRefused("the study was deleted from the archive: there is nothing to read")
        if (model, version) == (row.model, row.model_version):
            raise ActionRefused("this model has read these images already: it would say the same again")
        same = ("study_id", "route", "modality", "sources_hash", "sources_count", "queue", "quiet_s")
        new = NewJob(
            **{name: getattr(row, name) for name in same},
            series=tuple(row.series),
            destinations=tuple(row.destinations),
            priority=Priority(row.priority),
            model=model,
            model_version=version,
            slot=_slot(row.slot, model),
            study_uid=study.study_uid,
            ordered_at=ordered_at,
        )

        def also(db: Connection, made: JobId) -> None:
            noted(db, by, "read_again", now, study_id=row.study_id, job_id=made, detail=f"by {model} {version}")

        reason = f"a person asked for a reading by {model}"
        made, decision = self._jobs.create(new, study=study, reason=reason, now=now, also=also)
        if decision.verdict is Verdict.SKIP:
            raise ActionRefused(decision.reason)
        return made

    def withdraw(
        self, job_id: str, reason: str, now: float, *, withdrawn: Mapping[str, Withdrawn], by: str
    ) -> list[str]:
        """Take a result back: its objects leave the archive, and whoever was told of it is told so.

        Returns the destinations that hear of it. Raises ActionRefused where there is no result, or no longer.
        """
        with self._database.begin() as db:
            row = _reading(db, job_id)
            if row.storing_at is None or row.failure in GONE or row.state == JobState.RUNNING.value:
                raise ActionRefused(f"there is no result to withdraw: the reading is {_stands(row)}")
            self._require_newest(db, row)
            told = [name for name in (ARCHIVE, *withdrawn) if self._owe_withdrawal(db, job_id, name, withdrawn, now)]
            text = f"withdrawn by a person: {reason}"
            d = t.deliveries.c
            unsent = or_(d.state == PARKED, and_(d.state == PENDING, d.destination.not_in(told)))
            results = and_(d.job_id == job_id, d.kind == "result", unsent)
            transitions.call_off(db, results, "the result was withdrawn")
            transitions.settle(db, job_id, now)
            transitions.withdraw(db, job_id, text)
            _record(db, row, Verdict.SKIP, text, now, by=by, action="withdraw", detail=reason)
        return told

    @staticmethod
    def _require_newest(db: Connection, row: JobRow) -> None:
        later = select(t.jobs.c.id).where(t.jobs.c.predecessor == row.id, t.jobs.c.storing_at.is_not(None))
        if db.execute(later.limit(1)).first() is not None:
            raise ActionRefused("a later revision has superseded this result: withdraw that one")

    def _owe_withdrawal(
        self, db: Connection, job_id: str, name: str, withdrawn: Mapping[str, Withdrawn], now: float
    ) -> bool:
        """Owe a destination the word, where it has the result or may have it."""
        d = t.deliveries
        mine = and_(d.c.job_id == job_id, d.c.destination == name, d.c.kind == "result")
        row = db.execute(select(d.c.state, d.c.attempts, d.c.payload).where(mine)).first()
        if row is None or not (row.state == DONE or (row.state == PENDING and row.attempts > 0)):
            return False
        if name != ARCHIVE:  # a delivery of a version that kept no payload has no word that takes it back
            payload = bytes(row.payload or b"")
            return bool(payload) and owe_withdrawal(db, job_id, name, payload, withdrawn[name], now)
        values = {
            "job_id": job_id, "destination": name, "kind": "withdrawal", "control_id":
            control_id(job_id, f"{name}-withdrawn"), "payload": None, "created_at": now,
        }  # fmt: skip
        transitions.owe(db, values)
        return True


def _slot(slot: str, model: str) -> str:
    """A person's reading has a place of its own beside the route's, so that neither supersedes the other."""
    return f"{slot.partition('~')[0]}~{model}"[:64]


def _reading(db: Connection, job_id: str) -> JobRow:
    row = rows.job(db, job_id)
    if row is None:
        raise ActionRefused("there is no such reading")
    return row


def _stands(row: JobRow) -> str:
    """Where a reading stands, in words."""
    state = row.state
    if row.failure in GONE:
        return "withdrawn" if row.failure == Failure.WITHDRAWN.value else "gone with its study"
    return f"{state} ({Priority(row.priority).name})" if state == JobState.PENDING.value else state


def _record(
    db: Connection, row: JobRow, verdict: Verdict, reason: str, now: float, *, by: str, action: str,
    detail: str = "",
) -> None:  # fmt: skip
    decision = Decision(verdict=verdict, reason=reason, route=row.route)
    decide(db, row.study_id, decision, now, job_id=row.id)
    noted(db, by, action, now, study_id=row.study_id, job_id=row.id, detail=detail)
