"""``ledger.identities``: patients whose data or identifier the RIS has changed (ADT^A08, ADT^A40).

What is kept here follows: orders, and results that the RIS has not acknowledged. Those that it has acknowledged it
moves itself, and what a worker reads later is told under the surviving identifier. Next: hl7/patients.py (who is who),
hl7/oru_edit.py (the message), daemon/service.py (the archive, where it is asked for).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, or_, select, update

from medai.router.contract import RIS, control_id
from medai.router.hl7 import oru_edit
from medai.router.hl7.patients import Aliases, Patient, apply_to_order
from medai.router.hl7.patients_in import PatientMessage
from medai.router.ledger import schema as t
from medai.router.ledger import transitions
from medai.router.ledger.database import Part, upsert
from medai.router.ledger.orders import as_content, as_order


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What followed the patient: how many orders, and how many results that wait for the RIS."""

    orders: int
    messages: int


@dataclass(frozen=True, kw_only=True)
class _Renamed:
    """A patient of whom only the identifier changes."""

    patient_id: str
    patient_id_authority: str
    patient_name: str = ""
    birth_date: str = ""
    sex: str = ""


class Identities(Part):
    """Merges and updates of patients."""

    def aliases(self) -> Aliases:
        """Every merge that the RIS told of."""
        with self._database.begin(reads_only=True) as db:
            return _aliases(db)

    def patient_changed(self, message: PatientMessage, now: float, *, unstated: str = "") -> Changed | None:
        """Follow an update or a merge; None for a copy of one that was followed before. Raises CircularMerge.

        ``unstated``: the authority that our results name where neither order nor images name one.
        """
        with self._database.begin() as db:
            if message.kind == "merge" and not _merge(db, message, now):
                return None
            orders = _orders(db, message)
            messages = _messages(db, message, unstated)
        return Changed(orders=orders, messages=messages)


def under_surviving(db: Connection, payload: bytes) -> bytes:
    """A new ORU under the identifier that its patient has by now."""
    aliases = _aliases(db)
    for patient in oru_edit.patients_of(payload) if aliases.targets else ():
        now_is = aliases.surviving(patient)
        if now_is != patient:
            renamed = _Renamed(patient_id=now_is.identifier, patient_id_authority=now_is.authority)
            coded = oru_edit.recode(
                payload, prior_id=patient.identifier, prior_authority=patient.authority, patient=renamed
            )
            payload = coded or payload
    return payload


def _aliases(db: Connection) -> Aliases:
    c = t.patient_aliases.c
    rows = db.execute(select(c.prior_id, c.prior_authority, c.patient_id, c.patient_authority).order_by(c.id))
    return Aliases.of((Patient(r[0], r[1]), Patient(r[2], r[3])) for r in rows)


def _merge(db: Connection, message: PatientMessage, now: float) -> bool:
    prior = Patient.of(message.prior_id, message.prior_id_authority)
    surviving = Patient.of(message.patient_id, message.patient_id_authority)
    same = and_(
        t.patient_aliases.c.prior_id == prior.identifier, t.patient_aliases.c.prior_authority == prior.authority
    )
    known = db.execute(select(t.patient_aliases.c.control_id).where(same)).scalar()
    if known == message.digest[:64]:
        return False
    _aliases(db).merged(prior, surviving)
    values = {"patient_id": surviving.identifier, "patient_authority": surviving.authority}
    values |= {"control_id": message.digest[:64]}
    row = upsert(db, t.patient_aliases).values(
        prior_id=prior.identifier, prior_authority=prior.authority, at=now, **values
    )
    db.execute(row.on_conflict_do_update(index_elements=["prior_id", "prior_authority"], set_={**values, "at": now}))
    return True


def _orders(db: Connection, message: PatientMessage) -> int:
    names = {message.patient_id, message.prior_id} - {""}
    content = t.orders.c.content
    listed = content["patient_identifiers"].as_string()
    mine = or_(content["patient_id"].as_string().in_(names), *(listed.contains(n, autoescape=True) for n in names))
    changed = 0
    for row in db.execute(select(t.orders.c.id, t.orders.c.content).where(mine)).mappings().all():
        news = apply_to_order(as_order(row["content"]), message)
        if news is not None:
            db.execute(update(t.orders).where(t.orders.c.id == row["id"]).values(content=as_content(news)))
            changed += 1
    return changed


def _messages(db: Connection, message: PatientMessage, unstated: str) -> int:
    """Re-code what waits for the RIS. What may have been received under its number goes as a message of its own."""
    d = t.deliveries.c
    waits = and_(
        d.destination == RIS, d.state.in_([state.value for state in transitions.WAITING]), d.payload.is_not(None)
    )
    columns = (d.id, d.job_id, d.kind, d.state, d.attempts, d.payload)
    changed = 0
    for row in db.execute(select(*columns).where(waits).with_for_update()).all():
        coded = _recoded(bytes(row.payload), message, unstated)
        if coded is None or coded == bytes(row.payload):
            continue
        values: dict[str, Any] = {"next_try_at": 0.0, "refusals": 0}
        if row.attempts:
            number = control_id(str(row.job_id), f"{RIS}-{row.kind}-{message.digest}")
            values["control_id"] = number
            coded = oru_edit.renumbered(coded, number)
        db.execute(update(t.deliveries).where(d.id == row.id).values(payload=coded, **values))
        if transitions.unpark(db, d.id == row.id) and row.kind == "result":
            transitions.deliver_again(db, str(row.job_id))
        changed += 1
    return changed


def _recoded(payload: bytes, message: PatientMessage, unstated: str) -> bytes | None:
    if message.kind == "merge":
        prior_id, authority = message.prior_id, message.prior_id_authority
    else:
        prior_id, authority = message.patient_id, message.patient_id_authority
    coded = oru_edit.recode(payload, prior_id=prior_id, prior_authority=authority, patient=message)
    if coded is None and unstated:
        coded = oru_edit.recode(payload, prior_id=prior_id, prior_authority=unstated, patient=message)
    return coded
