"""What is written down beside every change: decisions, moments, attempts and what people did. In an open transaction.

Next: transitions.py (the changes).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sqlalchemy import Connection, and_, insert, update

from medai.router.contract import Decision, StampName
from medai.router.ledger import schema as t
from medai.router.ledger.database import upsert
from medai.router.ledger.trail import Trail

FROM_RIS = "(RIS)"
"""Who did what came as a message of the RIS."""
ROUTER = "router"
"""Who does what the system does by itself."""


_acts_from: ContextVar[str] = ContextVar("acts_from", default="")


@contextmanager
def acting_from(address: str) -> Iterator[None]:
    """What people do in here comes from this address: their lines in the audit trail say so.

    It holds for what is called from here, in threads of an event loop as well, and for nobody else's request.
    """
    before = _acts_from.set(address[: t.ADDRESS_MAX])
    try:
        yield
    finally:
        _acts_from.reset(before)


def decide(db: Connection, study_id: int, decision: Decision, now: float, *, job_id: str | None = None) -> None:
    """Record a decision."""
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


def stamp(db: Connection, job_id: str, name: StampName, at: float, *, keep_first: bool) -> None:
    """Write one stamp; the first or the newest moment stays."""
    statement = upsert(db, t.stamps).values(job_id=job_id, name=name.value, at=at)
    if keep_first:
        db.execute(statement.on_conflict_do_nothing())
    else:
        db.execute(statement.on_conflict_do_update(index_elements=["job_id", "name"], set_={"at": at}))


def end_attempt(db: Connection, job_id: str, now: float, outcome: str, error: str) -> None:
    """Write how the running attempt of a job ended."""
    running = and_(t.attempts.c.job_id == job_id, t.attempts.c.ended_at.is_(None))
    db.execute(update(t.attempts).where(running).values(ended_at=now, outcome=outcome, error=error))


def noted(
    db: Connection, account: str, action: str, now: float, *, study_id: int | None = None, job_id: str | None = None,
    detail: str = "",
) -> None:  # fmt: skip
    """Write down what somebody does, in the transaction that does it, and seal it (trail.py)."""
    address = _acts_from.get() if account not in (FROM_RIS, ROUTER) else ""
    values = {
        "at": now, "account": account, "action": action, "study_id": study_id, "job_id": job_id, "detail": detail,
        "address": address or None,
    }  # fmt: skip
    trail: Trail = db.get_execution_options()["audit_trail"]
    trail.lock(db)
    made = db.execute(insert(t.audit).values(**values)).inserted_primary_key
    assert made is not None
    trail.seal(db, int(made[0]))
