"""``ledger.removals``: a study is gone from the archive, or lies under another patient there.

What was read of a study that is gone is taken back.
Readings that have not begun or not ended are cancelled; a result that the RIS acknowledged lately is withdrawn there
with a message of its own. Studies deleted long after their result are housekeeping: the result stands.
Next: hl7/oru_edit.py (the words), delivery/courier.py (who sends them).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, or_, select, update

from medai.router.contract import Decision, DeliveryState, Failure, JobState, Verdict, control_id
from medai.router.contract import orthanc_id as orthanc_id_of
from medai.router.ledger import schema as t
from medai.router.ledger import transitions
from medai.router.ledger.database import Part
from medai.router.ledger.history import decide, end_attempt
from medai.router.ledger.rows import StudyRow, first
from medai.router.words import counted

PENDING, DONE = DeliveryState.PENDING.value, DeliveryState.DONE.value
RESTORED = "restored_at"
"""In meta while no look at the archive has followed a restore."""
Withdrawn = Callable[[bytes, str], bytes | None]
"""Makes the withdrawing message from a kept payload and the new control id; None where this result has none."""


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What came of it: how many readings were cancelled and results withdrawn."""

    cancelled: int
    withdrawn: int


class Removals(Part):
    """Studies that were deleted from the archive."""

    def living_studies(self) -> dict[str, str]:
        """Orthanc id -> Study Instance UID of every study that is not known to be deleted."""
        query = select(t.studies.c.orthanc_id, t.studies.c.study_uid).where(t.studies.c.deleted_at.is_(None))
        with self._database.begin(reads_only=True) as db:
            return {str(row[0]): str(row[1]) for row in db.execute(query)}

    def other_ids(self, orthanc_id: str, study_uid: str) -> list[str]:
        """Under which other Orthanc ids this study is known; none where it is known under this one."""
        with self._database.begin(reads_only=True) as db:
            if db.execute(select(t.studies.c.id).where(t.studies.c.orthanc_id == orthanc_id)).first():
                return []
            living = and_(t.studies.c.study_uid == study_uid, t.studies.c.deleted_at.is_(None))
            return [str(row[0]) for row in db.execute(select(t.studies.c.orthanc_id).where(living))]

    def study_moved(self, old: str, new: str, patient_id: str) -> bool:
        """The archive gave a study another patient: the same images and results under other Orthanc ids."""
        with self._database.begin() as db:
            row = first(db, select(t.studies).where(t.studies.c.orthanc_id == old), StudyRow)
            if row is None:
                return False
            uid = row.study_uid
            db.execute(update(t.studies).where(t.studies.c.id == row.id).values(orthanc_id=new, archive_update=""))
            renamed = {}
            for item in db.execute(select(t.series).where(t.series.c.study_id == row.id)).mappings().all():
                name = orthanc_id_of(patient_id, uid, str(item["series_uid"]))
                renamed[str(item["orthanc_id"])] = name
                mine = t.series.c.orthanc_id == item["orthanc_id"]
                db.execute(update(t.series).where(mine).values(orthanc_id=name))
            _rename_results(db, row.id, uid, patient_id, renamed)
            reason = "the archive gave the study another patient; its results stay"
            decide(db, row.id, Decision(verdict=Verdict.SKIP, reason=reason), row.last_instance_at)
        return True

    def study_removed(
        self, orthanc_id: str, now: float, *, within_s: float, withdrawn: Mapping[str, Withdrawn]
    ) -> Removed | None:
        """Take back what was read of a deleted study; None when that was done before.

        ``withdrawn``: destination -> how its message is made; others are told nothing.
        """
        with self._database.begin() as db:
            mine = and_(t.studies.c.orthanc_id == orthanc_id, t.studies.c.deleted_at.is_(None))
            row = first(db, select(t.studies).where(mine), StudyRow)
            if row is None:
                return None
            gone = {"deleted_at": now, "due_at": None, "outcome_hash": ""}
            db.execute(update(t.studies).where(mine).values(**gone))
            cancelled = _cancel_open(db, row.id, now, told=set(withdrawn))
            told = sum(self._withdraw(db, row.id, n, make, now - within_s, now) for n, make in withdrawn.items())
            mark = and_(t.jobs.c.study_id == row.id, t.jobs.c.failure == "")
            db.execute(update(t.jobs).where(mark).values(failure=Failure.DELETED.value))
            words = [f"{counted(cancelled, 'reading')} cancelled"] if cancelled else []
            words += [f"{counted(told, 'result')} withdrawn"] if told else []
            reason = "the study was deleted from Orthanc" + (": " + ", ".join(words) if words else "")
            decide(db, row.id, Decision(verdict=Verdict.SKIP, reason=reason), now)
        return Removed(cancelled=cancelled, withdrawn=told)

    def _withdraw(
        self, db: Connection, study_id: int, destination: str, make: Withdrawn, since: float, now: float
    ) -> int:
        """One message for each filler number whose newest result the destination has, or may have."""
        d, j = t.deliveries, t.jobs
        has_it = or_(and_(d.c.state == DONE, d.c.done_at >= since), and_(d.c.state == PENDING, d.c.attempts > 0))
        columns = (d.c.job_id, d.c.payload, j.c.route, j.c.slot)
        query = select(*columns).join(j, j.c.id == d.c.job_id).where(
            j.c.study_id == study_id, d.c.destination == destination, d.c.kind == "result", has_it,
            d.c.payload.is_not(None),
        )  # fmt: skip
        newest: dict[str, Any] = {}
        for row in db.execute(query.order_by(j.c.revision, d.c.id)):
            newest[f"{row.route}/{row.slot}"] = row
        told = 0
        for row in newest.values():
            told += owe_withdrawal(db, str(row.job_id), destination, bytes(row.payload), make, now)
        return told

    def after_restore(self, missing: Sequence[str], now: float) -> int | None:
        """The ledger came from a backup: studies that the archive lacks since are set aside, and nobody is told.

        Once, by the first look at the archive; None where there was no restore. A result of theirs stands, and a study
        that comes back is known: nothing of it was taken back.
        """
        c = t.studies.c
        with self._database.begin(reads_only=True) as db:
            if db.execute(select(t.meta.c.key).where(t.meta.c.key == RESTORED)).first() is None:
                return None
        with self._database.begin() as db:
            for name in missing:
                row = first(db, select(t.studies).where(c.orthanc_id == name, c.deleted_at.is_(None)), StudyRow)
                if row is None:
                    continue
                aside = {"deleted_at": now, "due_at": None, "outcome_hash": "", "archive_update": ""}
                db.execute(update(t.studies).where(c.id == row.id).values(**aside))
                unread = select(t.jobs.c.id).where(
                    t.jobs.c.study_id == row.id, t.jobs.c.state.in_([s.value for s in transitions.UNREAD])
                )
                for (job_id,) in db.execute(unread).all():
                    transitions.cancel_deleted(db, str(job_id), now)
                reason = "the archive lacks the study since the ledger was restored: nothing was withdrawn"
                decide(db, row.id, Decision(verdict=Verdict.SKIP, reason=reason), now)
            db.execute(delete(t.meta).where(t.meta.c.key == RESTORED))
        return len(missing)

    def unwanted_results(self, orthanc_ids: set[str]) -> list[str]:
        """Which of these objects of ours belong to a study that is gone: a worker stored them a moment too late."""
        gone = and_(t.jobs.c.failure == Failure.DELETED.value, t.result_objects.c.orthanc_id.in_(orthanc_ids))
        query = select(t.result_objects.c.orthanc_id).join(t.jobs, t.jobs.c.id == t.result_objects.c.job_id)
        with self._database.begin(reads_only=True) as db:
            return [str(row[0]) for row in db.execute(query.where(gone))]


def owe_withdrawal(db: Connection, job_id: str, destination: str, payload: bytes, make: Withdrawn, now: float) -> bool:
    """Owe a destination the word that a result is taken back; False where there is none for this result."""
    number = control_id(job_id, f"{destination}-withdrawn")
    message = make(payload, number)
    if message is None:
        return False
    values = {
        "job_id": job_id, "destination": destination, "kind": "withdrawal", "control_id": number, "payload": message,
        "created_at": now,
    }  # fmt: skip
    transitions.owe(db, values)
    return True


def _rename_results(db: Connection, study_id: int, uid: str, patient_id: str, series: Mapping[str, str]) -> None:
    for job in db.execute(select(t.jobs.c.id, t.jobs.c.series).where(t.jobs.c.study_id == study_id)).all():
        names = [series.get(name, name) for name in job.series]
        db.execute(update(t.jobs).where(t.jobs.c.id == job.id).values(series=names))
        objects = select(t.result_objects).where(t.result_objects.c.job_id == job.id)
        for item in db.execute(objects).mappings().all():
            name = orthanc_id_of(patient_id, uid, str(item["series_uid"]), str(item["sop_uid"]))
            mine = t.result_objects.c.orthanc_id == item["orthanc_id"]
            db.execute(update(t.result_objects).where(mine).values(orthanc_id=name))


def _cancel_open(db: Connection, study_id: int, now: float, *, told: set[str]) -> int:
    """Cancel what has not ended, except for what one of ``told`` may have received: it is sent, then withdrawn."""
    open_, dead = (
        select(t.jobs.c.id).where(t.jobs.c.study_id == study_id, t.jobs.c.state.in_([state.value for state in states]))
        for states in (transitions.OPEN, (JobState.FAILED,))
    )
    d = t.deliveries.c
    cancelled = 0
    for (job_id,) in [*db.execute(open_), *db.execute(dead)]:
        kept = and_(d.job_id == job_id, d.destination.in_(told), d.payload.is_not(None))  # else there is no word for it
        tried = and_(kept, d.state == PENDING, d.attempts > 0)
        keeps = db.execute(select(d.id).where(tried)).scalars().all()
        rest = and_(d.job_id == job_id, d.id.not_in(keeps)) if keeps else d.job_id == job_id
        transitions.call_off(db, rest, "the study was deleted")
        if keeps or not transitions.cancel_deleted(db, str(job_id), now):
            continue
        db.execute(update(t.result_objects).where(t.result_objects.c.job_id == job_id).values(content=None))
        end_attempt(db, str(job_id), now, "cancelled", "the study was deleted")
        cancelled += 1
    return cancelled
