"""``ledger.held``: orders that contradict the images they name, until a person releases or rejects them.

A hold is of one order and one study, for what both say of the patient today. Until it is released, results are told
without that order, under the images' patient. Names and dates are not kept here. Next: hl7/order_patient.py (what a
contradiction is), cli/held.py and console/api.py (who decides).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, and_, func, select, update

from medai.router.hl7.order_patient import Doubt
from medai.router.ledger import schema as t
from medai.router.ledger.database import Part, upsert
from medai.router.ledger.history import ROUTER, noted


class HoldState(StrEnum):
    """What became of a held order."""

    HELD = "held"
    RELEASED = "released"
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
        return state == HoldState.RELEASED

    def is_released(self, doubt: Doubt) -> bool:
        """As ``released``, and nothing is written."""
        with self._database.begin(reads_only=True) as db:
            return _state(db, doubt) == HoldState.RELEASED

    def waiting(self, *, limit: int = 1000) -> Sequence[HeldOrder]:
        """Those that nobody has decided on, oldest first."""
        c = t.held_orders.c
        query = select(t.held_orders).where(c.state == HoldState.HELD.value).order_by(c.id).limit(limit)
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
        mine = and_(c.id == hold_id, c.state == HoldState.HELD.value)
        values = {"state": state.value, "decided_at": now, "decided_by": by, "reason": reason}
        with self._database.begin() as db:
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
    held = t.held_orders.c.state == HoldState.HELD.value
    return int(db.execute(select(func.count()).select_from(t.held_orders).where(held)).scalar_one())


def _state(db: Connection, doubt: Doubt) -> str | None:
    state = db.execute(select(t.held_orders.c.state).where(t.held_orders.c.key == doubt.key)).scalar()
    return None if state is None else str(state)


def _bring_up(db: Connection, study_uid: str, doubt: Doubt, now: float) -> None:
    study_id = db.execute(select(t.studies.c.id).where(t.studies.c.study_uid == study_uid)).scalars().first()
    row = upsert(db, t.held_orders).values(
        key=doubt.key, study_id=study_id, study_uid=study_uid, placer=doubt.placer, accession=doubt.accession,
        differs=",".join(doubt.differs), state=HoldState.HELD.value, seen_at=now,
    )  # fmt: skip
    if db.execute(row.on_conflict_do_nothing()).rowcount == 1:
        told = f"{doubt.placer}: another {', '.join(doubt.differs)} than the images"
        noted(db, ROUTER, "order_held", now, study_id=study_id, detail=told)
