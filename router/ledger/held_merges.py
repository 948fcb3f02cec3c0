"""``ledger.held_merges``: merges of patients that contradict what is known here, until a person decides.

Until then nothing is renamed. The router follows one that was released (``to_follow``), as it would have when it came;
one that was rejected is forgotten, also where the RIS says it again in the same words. Next: hl7/merge_doubt.py (what a
contradiction is), identities.py (what a merge changes), cli/held.py and console/api.py (who decides).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from medai.router.hl7.patients_in import PatientMessage
from medai.router.ledger import schema as t
from medai.router.ledger.database import Part, upsert
from medai.router.ledger.held_orders import HoldState
from medai.router.ledger.history import ROUTER, noted

_STILL = (HoldState.NEW.value, HoldState.HELD.value)


@dataclass(frozen=True, kw_only=True)
class HeldMerge:
    """A merge that waits for a person."""

    id: int
    prior_id: str
    patient_id: str
    differs: tuple[str, ...]
    """What speaks against it (hl7/merge_doubt.py)."""
    seen_at: float


class HeldMerges(Part):
    """Doubts about merges, and what people decided."""

    def note_new(self, now: float) -> int:
        """Write into the audit trail which merges are held since the last time; how many. For the router alone."""
        new = t.held_merges.c.state == HoldState.NEW.value
        with self._database.begin(reads_only=True) as db:
            if db.execute(select(t.held_merges.c.id).where(new).limit(1)).first() is None:
                return 0
        with self._database.begin() as db:
            return _note(db, new, now)

    def waiting(self, *, limit: int = 1000) -> Sequence[HeldMerge]:
        """Those that nobody has decided on, oldest first."""
        query = select(t.held_merges).where(waits()).order_by(t.held_merges.c.id).limit(limit)
        with self._database.begin(reads_only=True) as db:
            return [
                HeldMerge(
                    id=row.id, prior_id=row.prior_id, patient_id=row.patient_id, differs=tuple(row.differs.split(",")),
                    seen_at=row.seen_at,
                )
                for row in db.execute(query)
            ]  # fmt: skip

    def decide(self, hold_id: int, state: HoldState, reason: str, now: float, *, by: str) -> bool:
        """A person releases or rejects a merge; False where nobody need decide any more."""
        c = t.held_merges.c
        values = {"state": state.value, "decided_at": now, "decided_by": by, "reason": reason}
        with self._database.begin() as db:
            _note(db, and_(c.id == hold_id, c.state == HoldState.NEW.value), now)
            row = db.execute(select(c.prior_id, c.patient_id).where(c.id == hold_id)).first()
            mine = update(t.held_merges).where(c.id == hold_id, waits())
            if row is None or db.execute(mine.values(**values)).rowcount != 1:
                return False
            action = "merge_released" if state is HoldState.RELEASED else "merge_rejected"
            noted(db, by, action, now, detail=f"{row.prior_id} to {row.patient_id}: {reason}")
        return True

    def to_follow(self) -> Sequence[tuple[int, PatientMessage]]:
        """Merges that a person released and nobody has followed yet, in the order in which they came."""
        c = t.held_merges.c
        query = select(c.id, c.content).where(c.state == HoldState.RELEASED.value).order_by(c.id)
        with self._database.begin(reads_only=True) as db:
            return [(row.id, _message(row.content)) for row in db.execute(query)]

    def followed(self, hold_id: int) -> None:
        """All that a released merge changes has changed."""
        with self._database.begin() as db:
            mine = update(t.held_merges).where(t.held_merges.c.id == hold_id)
            db.execute(mine.values(state=HoldState.JOINED.value))


def waits() -> ColumnElement[bool]:
    """Nobody has decided yet."""
    return t.held_merges.c.state.in_(_STILL)


def waiting_count(db: Connection) -> int:
    """How many merges wait for a person."""
    return int(db.execute(select(func.count()).select_from(t.held_merges).where(waits())).scalar_one())


def state_of(db: Connection, message: PatientMessage) -> HoldState | None:
    """What became of a merge that was held; None where it never was."""
    state = db.execute(select(t.held_merges.c.state).where(t.held_merges.c.key == _key(message))).scalar()
    return None if state is None else HoldState(state)


def bring_up(db: Connection, message: PatientMessage, differs: Sequence[str], now: float) -> None:
    """Let a person look at a merge; once, however often it comes."""
    row = upsert(db, t.held_merges).values(
        key=_key(message), prior_id=message.prior_id, prior_authority=message.prior_id_authority,
        patient_id=message.patient_id, patient_authority=message.patient_id_authority,
        content={**asdict(message), "deletes": sorted(message.deletes)}, differs=",".join(differs),
        state=HoldState.NEW.value, seen_at=now,
    )  # fmt: skip
    db.execute(row.on_conflict_do_nothing())


def _key(message: PatientMessage) -> str:
    """Of what a merge says, not of when: another birth date is another question."""
    said = [
        message.prior_id, message.prior_id_authority, message.patient_id, message.patient_id_authority,
        message.patient_name, message.birth_date, message.sex,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _message(content: dict[str, Any]) -> PatientMessage:
    return PatientMessage(
        **{**content, "sender": tuple(content["sender"]), "deletes": frozenset(content["deletes"])}
    )  # fmt: skip


def _note(db: Connection, which: ColumnElement[bool], now: float) -> int:
    """Holds that are in the audit trail from now on."""
    c, count = t.held_merges.c, 0
    for row in db.execute(select(c.id, c.prior_id, c.patient_id, c.differs).where(which).order_by(c.id)).all():
        still = and_(c.id == row.id, c.state == HoldState.NEW.value)
        if db.execute(update(t.held_merges).where(still).values(state=HoldState.HELD.value)).rowcount == 1:
            told = f"{row.prior_id} to {row.patient_id}: {row.differs.replace(',', ', ')}"
            noted(db, ROUTER, "merge_held", now, detail=told)
            count += 1
    return count
