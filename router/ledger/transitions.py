"""Where a job or a delivery may go from where it stands: the only place that writes either's state.

``JOB_MOVES`` and ``DELIVERY_MOVES`` are the whole rule. Every move is one UPDATE that names the states it expects
(compare-and-set) and says how many rows it found so: whoever came second finds none and has changed nothing. All is
done in the caller's open transaction. A test on the syntax tree holds every other module to this.
Next: jobs.py and claims.py (jobs), deliveries.py, deadletters.py, removals.py, actions.py (who moves what, and when).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, insert, select, update

from medai.router.contract import ARCHIVE, FINAL_STATES, DeliveryState, Failure, JobState, StampName
from medai.router.files.parcel import is_parcel, note_alone
from medai.router.ledger import schema as t
from medai.router.ledger.database import upsert
from medai.router.ledger.history import stamp

JOB_MOVES: Mapping[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset({JobState.RUNNING, JobState.SUPERSEDED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset(
        {JobState.PENDING, JobState.DELIVERING, JobState.FAILED, JobState.SUPERSEDED, JobState.CANCELLED}
    ),
    JobState.DELIVERING: frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED}),
    JobState.FAILED: frozenset({JobState.PENDING, JobState.DELIVERING, JobState.SUPERSEDED, JobState.CANCELLED}),
    JobState.SUPERSEDED: frozenset({JobState.PENDING}),  # the images that were read, or the model, are back
    JobState.DONE: frozenset(),
    JobState.CANCELLED: frozenset(),
}
DELIVERY_MOVES: Mapping[DeliveryState, frozenset[DeliveryState]] = {
    DeliveryState.PENDING: frozenset({DeliveryState.DONE, DeliveryState.PARKED, DeliveryState.CANCELLED}),
    DeliveryState.PARKED: frozenset({DeliveryState.PENDING, DeliveryState.DROPPED, DeliveryState.CANCELLED}),
    DeliveryState.DONE: frozenset(),
    DeliveryState.DROPPED: frozenset(),
    DeliveryState.CANCELLED: frozenset(),
}

UNREAD = (JobState.PENDING, JobState.RUNNING)
OPEN = tuple(state for state in JobState if state not in FINAL_STATES)
WAITING = (DeliveryState.PENDING, DeliveryState.PARKED)
"""Deliveries of which something may still come."""
GONE = {
    Failure.DELETED.value: "the study had been deleted and is back",
    Failure.WITHDRAWN.value: "the previous result was withdrawn by a person",
}
"""Failures of a job whose objects are gone from the archive, and why the next reading starts afresh."""
NO_LEASE: Mapping[str, None] = {"lease_token": None, "lease_until": None}


def move_jobs(
    db: Connection, to: JobState, *, since: Sequence[JobState], where: ColumnElement[bool], values: Mapping[str, Any]
) -> int:
    """Bring the jobs that stand in one of ``since`` and fit ``where`` to another state; how many that were.

    Raises ValueError where the table forbids one of these moves: that is a fault of the program, not of the job.
    """
    forbidden = [state for state in since if to not in JOB_MOVES[state]]
    if forbidden:
        raise ValueError(f"no job goes from {forbidden[0]} to {to}")
    expected = and_(where, t.jobs.c.state.in_([state.value for state in since]))
    return int(db.execute(update(t.jobs).where(expected).values(**values, state=to.value)).rowcount)


def move_deliveries(
    db: Connection,
    to: DeliveryState,
    *,
    since: Sequence[DeliveryState],
    where: ColumnElement[bool],
    values: Mapping[str, Any],
) -> int:
    """As ``move_jobs``, for deliveries."""
    forbidden = [state for state in since if to not in DELIVERY_MOVES[state]]
    if forbidden:
        raise ValueError(f"no delivery goes from {forbidden[0]} to {to}")
    expected = and_(where, t.deliveries.c.state.in_([state.value for state in since]))
    return int(db.execute(update(t.deliveries).where(expected).values(**values, state=to.value)).rowcount)


# -- a job before it is read


def add_job(db: Connection, row: Mapping[str, Any]) -> None:
    """A new job waits for a worker."""
    db.execute(insert(t.jobs).values(**row, state=JobState.PENDING.value))


def revive(db: Connection, job_id: str, *, revision: int, predecessor: str | None, created_at: float) -> bool:
    """A job that was set aside unread is wanted after all, at a place of its own in the row of revisions."""
    values = {
        "failure": "", "reason": "", "not_before": 0.0, "finished_at": None, "sent_at": None, "created_at": created_at,
        "revision": revision, "predecessor": predecessor,
    }  # fmt: skip
    return _move_job(db, job_id, JobState.PENDING, (JobState.SUPERSEDED,), values)


def supersede(db: Connection, job_id: str, now: float) -> bool:
    """Set aside a job that has nothing stored, also out of a worker's hands: other images are read instead."""
    values = {
        **NO_LEASE, "finished_at": now, "reason": "other images of the study arrived before anything was stored",
    }  # fmt: skip
    unstored = and_(t.jobs.c.id == job_id, t.jobs.c.storing_at.is_(None))
    return move_jobs(db, JobState.SUPERSEDED, since=UNREAD, where=unstored, values=values) == 1


def supersede_failed(db: Connection, job_id: str) -> bool:
    """A dead letter whose study is read from other images is none any more."""
    return _move_job(db, job_id, JobState.SUPERSEDED, (JobState.FAILED,), {"failure": ""})


def outdate(db: Connection, job_id: str, now: float) -> bool:
    """Set aside a job that waits for a version of its model that nobody holds any more."""
    values = {
        "failure": Failure.VERSION.value,
        "reason": "no worker has this version of the model any more: read by the newer one",
        "finished_at": now,
    }
    unstored = and_(t.jobs.c.id == job_id, t.jobs.c.storing_at.is_(None))
    return move_jobs(db, JobState.SUPERSEDED, since=(JobState.PENDING,), where=unstored, values=values) == 1


def cancel(db: Connection, job_id: str, reason: str, now: float) -> bool:
    """A person wants no reading: out of the queue, or out of a worker's hands, where nothing is stored yet."""
    values = {**NO_LEASE, "failure": Failure.CANCELLED.value, "finished_at": now, "reason": reason}
    unstored = and_(t.jobs.c.id == job_id, t.jobs.c.storing_at.is_(None))
    return move_jobs(db, JobState.CANCELLED, since=UNREAD, where=unstored, values=values) == 1


def cancel_deleted(db: Connection, job_id: str, now: float) -> bool:
    """Its study is gone from the archive: whatever has not ended well ends here."""
    values = {
        **NO_LEASE, "failure": Failure.DELETED.value, "finished_at": now,
        "reason": "the study was deleted from Orthanc",
    }  # fmt: skip
    return _move_job(db, job_id, JobState.CANCELLED, (*OPEN, JobState.FAILED), values)


# -- a job in a worker's hands


def take(db: Connection, free: ColumnElement[bool], lease: Mapping[str, Any]) -> bool:
    """A worker takes a job, if it is still ``free``; ``lease``: the columns that say who has it, and for how long."""
    values = {**lease, "attempts": t.jobs.c.attempts + 1}
    return move_jobs(db, JobState.RUNNING, since=(JobState.PENDING,), where=free, values=values) == 1


def in_hand(job_id: str, token: str) -> ColumnElement[bool]:
    """Whether a job is in the hands of the worker that has this token."""
    running = t.jobs.c.state == JobState.RUNNING.value
    return and_(t.jobs.c.id == job_id, t.jobs.c.lease_token == token, running)


def hand_over(db: Connection, mine: ColumnElement[bool]) -> bool:
    """It is read, and what is still owed is the courier's."""
    values = {**NO_LEASE, "reason": ""}
    return move_jobs(db, JobState.DELIVERING, since=(JobState.RUNNING,), where=mine, values=values) == 1


def fail(
    db: Connection, mine: ColumnElement[bool], failure: Failure, reason: str, now: float, **more: Any
) -> bool:  # fmt: skip
    """It can't be read: a dead letter."""
    values = {**NO_LEASE, "failure": failure.value, "reason": reason, "finished_at": now, **more}
    return move_jobs(db, JobState.FAILED, since=(JobState.RUNNING,), where=mine, values=values) == 1


def give_back(db: Connection, mine: ColumnElement[bool], *, to: JobState, **values: Any) -> bool:
    """Out of a worker's hands, to be sent again: to be read, or only delivered where its result is kept already."""
    values |= {**NO_LEASE, "sent_at": None}
    return move_jobs(db, to, since=(JobState.RUNNING,), where=mine, values=values) == 1


# -- a job that was read


def settle(db: Connection, job_id: str, now: float) -> JobState:
    """End a job whose deliveries have all ended; returns its state.

    The job's row is locked first: of two couriers that deliver its last two at once, each would see the other's as
    still pending, and nobody would end the job.
    """
    db.execute(select(t.jobs.c.id).where(t.jobs.c.id == job_id).with_for_update())
    query = select(t.deliveries.c.state, t.deliveries.c.destination, t.deliveries.c.error).where(
        t.deliveries.c.job_id == job_id, t.deliveries.c.kind == "result"
    )
    rows = db.execute(query.order_by(t.deliveries.c.id)).all()
    parked = [row for row in rows if row.state == DeliveryState.PARKED.value]
    waits = any(row.state == DeliveryState.PENDING.value for row in rows)
    if waits and not any(row.destination == ARCHIVE for row in parked):
        return JobState.DELIVERING
    state = JobState.FAILED if parked else JobState.DONE
    values: dict[str, Any] = {"finished_at": now}
    if parked:
        values |= {"failure": Failure.DELIVERY.value, "reason": f"{parked[0].destination}: {parked[0].error}"}
    _move_job(db, job_id, state, (JobState.DELIVERING,), values)
    return state


def deliver_again(db: Connection, job_id: str, reason: str = "") -> bool:
    """A dead letter whose delivery goes on, or has lost its meaning: ``settle`` says where the job stands then."""
    values = {"failure": "", "reason": reason, "finished_at": None}
    return _move_job(db, job_id, JobState.DELIVERING, (JobState.FAILED,), values)


def retry(db: Connection, job_id: str) -> bool:
    """A person wants another try of a reading that failed."""
    values = {
        "failure": "", "reason": "tried again by a person", "crashes": 0, "not_before": 0.0, "sent_at": None,
        "finished_at": None, "verdict": None,
    }  # fmt: skip
    return _move_job(db, job_id, JobState.PENDING, (JobState.FAILED,), values)


def drop(db: Connection, job_id: str, reason: str) -> bool:
    """A person says that a failed reading is settled."""
    values = {"failure": Failure.DROPPED.value, "reason": reason}
    return _move_job(db, job_id, JobState.CANCELLED, (JobState.FAILED,), values)


def withdraw(db: Connection, job_id: str, reason: str) -> None:
    """A person takes a result back: where a delivery had failed, nobody need look after it any more."""
    values = {"failure": Failure.WITHDRAWN.value, "reason": reason}
    db.execute(update(t.jobs).where(t.jobs.c.id == job_id).values(**values))
    _move_job(db, job_id, JobState.CANCELLED, (JobState.FAILED,), {})


def archived_now(db: Connection, job_id: str, now: float) -> None:
    """The archive has a job's objects: the ledger need not keep them any longer."""
    db.execute(update(t.jobs).where(t.jobs.c.id == job_id).values(stored_at=now))
    db.execute(update(t.result_objects).where(t.result_objects.c.job_id == job_id).values(content=None))
    stamp(db, job_id, StampName.STORED, now, keep_first=True)


# -- deliveries


def owe(db: Connection, row: Mapping[str, Any]) -> None:
    """Something is owed to a destination, once."""
    statement = upsert(db, t.deliveries).values(**row, state=DeliveryState.PENDING.value)
    db.execute(statement.on_conflict_do_nothing())


def delivered(db: Connection, where: ColumnElement[bool], now: float, receipt: str, **more: Any) -> bool:
    """It was received."""
    values = {"done_at": now, "receipt": receipt, "error": "", **more}
    since = (DeliveryState.PENDING,)
    return move_deliveries(db, DeliveryState.DONE, since=since, where=where, values=values) >= 1


def park(db: Connection, where: ColumnElement[bool], now: float, error: str) -> bool:
    """No retry helps: a dead letter."""
    values = {"done_at": now, "error": error}
    since = (DeliveryState.PENDING,)
    return move_deliveries(db, DeliveryState.PARKED, since=since, where=where, values=values) == 1


def unpark(db: Connection, where: ColumnElement[bool]) -> bool:
    """A dead letter goes again, its patience from the start."""
    values = {"next_try_at": 0.0, "refusals": 0, "done_at": None}
    since = (DeliveryState.PARKED,)
    return move_deliveries(db, DeliveryState.PENDING, since=since, where=where, values=values) == 1


def drop_delivery(db: Connection, where: ColumnElement[bool], reason: str) -> bool:
    """A person says that a dead letter is settled."""
    since = (DeliveryState.PARKED,)
    _lighten(db, where, since)
    return move_deliveries(db, DeliveryState.DROPPED, since=since, where=where, values={"receipt": reason}) == 1


def call_off(
    db: Connection,
    where: ColumnElement[bool],
    why: str,
    *,
    since: Sequence[DeliveryState] = WAITING,
    now: float | None = None,
) -> int:
    """What is owed has lost its meaning; how many that were. ``now``: when it ended, where that is told."""
    values: dict[str, Any] = {"error": why} | ({} if now is None else {"done_at": now})
    _lighten(db, where, since)
    return move_deliveries(db, DeliveryState.CANCELLED, since=since, where=where, values=values)


def _lighten(db: Connection, where: ColumnElement[bool], since: Sequence[DeliveryState]) -> None:
    """Of what will never be sent keep the rejection notes alone: a part of it may have arrived, and be rejected yet."""
    d = t.deliveries.c
    packed = and_(where, d.state.in_([state.value for state in since]), d.payload.is_not(None))
    for row in db.execute(select(d.id, d.payload).where(packed)).all():
        if is_parcel(bytes(row.payload)):
            left = note_alone(bytes(row.payload))
            db.execute(update(t.deliveries).where(d.id == row.id).values(payload=left))


def _move_job(
    db: Connection, job_id: str, to: JobState, since: Sequence[JobState], values: Mapping[str, Any]
) -> bool:  # fmt: skip
    return move_jobs(db, to, since=since, where=t.jobs.c.id == job_id, values=values) == 1
