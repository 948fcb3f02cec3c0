"""``ledger.held``: orders that contradict the images they name, until a person releases or rejects them.

A hold is of one order and one study, for what both say of the patient today. Until it is released, results are told
without that order, under the images' patient; one that was told so is told once more when it is released. Names and
dates are not kept here. Next: hl7/order_patient.py (what a
contradiction is), cli/held.py and console/api.py (who decides).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from medai.router.contract import DeliveryState, JobState, Order, control_id
from medai.router.hl7.order_patient import Doubt
from medai.router.ledger import schema as t
from medai.router.ledger import transitions
from medai.router.ledger.database import Part, upsert
from medai.router.ledger.deliveries import ORDER, RESULT
from medai.router.ledger.history import ROUTER, noted
from medai.router.ledger.transitions import GONE
from medai.router.words import counted

Joined = Callable[[bytes, Order, str, float], bytes | None]
"""Makes the message with an order from a kept one, the order, a new control id and the time; None where there is none
to make."""


class HoldState(StrEnum):
    """What became of a held order."""

    NEW = "new"
    """Held, and not in the audit trail yet: workers, who find some, do not write there."""
    HELD = "held"
    RELEASED = "released"
    JOINED = "joined"
    """Released, and the results that there were have been told with it."""
    REJECTED = "rejected"


@dataclass(frozen=True, kw_only=True)
class HeldOrder:
    """An order that waits for a person."""

    id: int
    study_id: int | None
    study_uid: str
    placer: str
    accession: str
    differs: tuple[str, ...]
    """What it says otherwise than the images: identifier, name, birth date, sex."""
    seen_at: float


class HeldOrders(Part):
    """Doubts about orders, and what people decided."""

    def released(self, study_uid: str, doubt: Doubt, now: float) -> bool:
        """Whether a person released an order for a study; who asks for the first time brings the question up."""
        with self._database.begin(reads_only=True) as db:
            state = _state(db, doubt)
        if state is None:
            with self._database.begin() as db:
                _bring_up(db, study_uid, doubt, now)
        return state in (HoldState.RELEASED, HoldState.JOINED)

    def note_new(self, now: float) -> int:
        """Write into the audit trail which orders are held since the last time; how many. For the router alone."""
        c = t.held_orders.c
        new = c.state == HoldState.NEW.value
        with self._database.begin(reads_only=True) as db:
            if db.execute(select(c.id).where(new).limit(1)).first() is None:
                return 0
        with self._database.begin() as db:
            return _note(db, new, now)

    def join(self, study_id: int, order: Order, now: float, joined: Mapping[str, Joined]) -> bool:
        """Tell destinations once more of a study's results, with the order that a person released for it.

        ``order``: as it is joined to the study today. ``joined``: destination -> how its message is made; others name
        no order. False where one of its readings is under way: ask again then.
        """
        c = t.held_orders.c
        number = order.placer or order.filler
        mine = and_(c.study_id == study_id, c.placer == number, c.state == HoldState.RELEASED.value)
        with self._database.begin(reads_only=True) as db:
            if db.execute(select(c.id).where(mine).limit(1)).first() is None:
                return True
        with self._database.begin() as db:
            running = and_(t.jobs.c.study_id == study_id, t.jobs.c.state == JobState.RUNNING.value)
            if db.execute(select(t.jobs.c.id).where(running).limit(1)).first() is not None:
                return False
            told = {job for name, make in joined.items() for job in _tell_again(db, study_id, order, now, name, make)}
            db.execute(update(t.held_orders).where(mine).values(state=HoldState.JOINED.value))
            noted(
                db, ROUTER, "order_joined", now, study_id=study_id, detail=f"{number}: {counted(len(told), 'result')}"
            )
        return True

    def is_released(self, doubt: Doubt) -> bool:
        """As ``released``, and nothing is written."""
        with self._database.begin(reads_only=True) as db:
            return _state(db, doubt) in (HoldState.RELEASED, HoldState.JOINED)

    def waiting(self, *, limit: int = 1000) -> Sequence[HeldOrder]:
        """Those that nobody has decided on, oldest first."""
        c = t.held_orders.c
        query = select(t.held_orders).where(waits()).order_by(c.id).limit(limit)
        with self._database.begin(reads_only=True) as db:
            return [
                HeldOrder(
                    id=row.id, study_id=row.study_id, study_uid=row.study_uid, placer=row.placer,
                    accession=row.accession, differs=tuple(row.differs.split(",")), seen_at=row.seen_at,
                )
                for row in db.execute(query)
            ]  # fmt: skip

    def decide(self, hold_id: int, state: HoldState, reason: str, now: float, *, by: str) -> bool:
        """A person releases or rejects an order; False where nobody need decide any more.

        What is read or told from then on follows; the study is looked at again at once.
        """
        c = t.held_orders.c
        mine = and_(c.id == hold_id, waits())
        values = {"state": state.value, "decided_at": now, "decided_by": by, "reason": reason}
        with self._database.begin() as db:
            _note(db, and_(c.id == hold_id, c.state == HoldState.NEW.value), now)
            row = db.execute(select(c.study_id, c.study_uid, c.placer).where(c.id == hold_id)).first()
            if row is None or db.execute(update(t.held_orders).where(mine).values(**values)).rowcount != 1:
                return False
            action = "order_released" if state is HoldState.RELEASED else "order_rejected"
            noted(db, by, action, now, study_id=row.study_id, detail=f"{row.placer}: {reason}")
            if state is HoldState.RELEASED:
                db.execute(update(t.studies).where(t.studies.c.study_uid == row.study_uid).values(due_at=now))
        return True


def waiting_count(db: Connection) -> int:
    """How many orders wait for a person."""
    return int(db.execute(select(func.count()).select_from(t.held_orders).where(waits())).scalar_one())


def waits() -> ColumnElement[bool]:
    """Nobody has decided yet."""
    return t.held_orders.c.state.in_((HoldState.NEW.value, HoldState.HELD.value))


def _state(db: Connection, doubt: Doubt) -> str | None:
    state = db.execute(select(t.held_orders.c.state).where(t.held_orders.c.key == doubt.key)).scalar()
    return None if state is None else str(state)


def _bring_up(db: Connection, study_uid: str, doubt: Doubt, now: float) -> None:
    study_id = db.execute(select(t.studies.c.id).where(t.studies.c.study_uid == study_uid)).scalars().first()
    row = upsert(db, t.held_orders).values(
        key=doubt.key, study_id=study_id, study_uid=study_uid, placer=doubt.placer, accession=doubt.accession,
        differs=",".join(doubt.differs), state=HoldState.NEW.value, seen_at=now,
    )  # fmt: skip
    db.execute(row.on_conflict_do_nothing())


def _note(db: Connection, which: ColumnElement[bool], now: float) -> int:
    """Holds that are in the audit trail from now on."""
    c, count = t.held_orders.c, 0
    for row in db.execute(select(c.id, c.study_id, c.placer, c.differs).where(which).order_by(c.id)).all():
        still = and_(c.id == row.id, c.state == HoldState.NEW.value)
        if db.execute(update(t.held_orders).where(still).values(state=HoldState.HELD.value)).rowcount == 1:
            told = f"{row.placer}: another {row.differs.replace(',', ', ')} than the images"
            noted(db, ROUTER, "order_held", now, study_id=row.study_id, detail=told)
            count += 1
    return count


def _tell_again(db: Connection, study_id: int, order: Order, now: float, name: str, make: Joined) -> Iterator[str]:
    """What a destination has, or is to get, of a study without an order: the same with the order's numbers; of which
    readings."""
    d, j = t.deliveries.c, t.jobs.c
    results = and_(
        j.study_id == study_id, d.destination == name, d.kind == RESULT, d.payload.is_not(None),
        or_(j.failure.is_(None), j.failure.not_in(list(GONE))), ~_superseded(),
    )  # fmt: skip
    query = select(d.id, d.job_id, d.state, d.attempts, d.control_id, d.payload).join(t.jobs, j.id == d.job_id)
    for row in db.execute(query.where(results).order_by(d.id)).all():
        mayhap = row.state == DeliveryState.DONE.value or row.attempts
        number = control_id(str(row.job_id), f"{name}-{ORDER}") if mayhap else str(row.control_id)
        message = make(bytes(row.payload), order, number, now)
        if message is None or row.state in (DeliveryState.DROPPED.value, DeliveryState.CANCELLED.value):
            continue
        yield str(row.job_id)
        if row.state == DeliveryState.DONE.value:
            owed = {"job_id": row.job_id, "destination": name, "kind": ORDER, "control_id": number, "payload": message,
                    "created_at": now}  # fmt: skip
            transitions.owe(db, owed)
        else:
            values = {"payload": message, "control_id": number, "next_try_at": 0.0}
            db.execute(update(t.deliveries).where(d.id == row.id).values(**values))


def _superseded() -> ColumnElement[bool]:
    """A later revision has taken the place of the job."""
    later = t.jobs.alias("later")
    return select(later.c.id).where(later.c.predecessor == t.jobs.c.id, later.c.storing_at.is_not(None)).exists()
