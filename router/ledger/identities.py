"""``ledger.identities``: patients whose data or identifier the RIS has changed (ADT: updates, merges, A47).

What is kept here follows: orders, and results that the RIS has not acknowledged. Those that it has acknowledged it
moves itself, and what a worker reads later is told under the surviving identifier. A message that was sent before what
was last followed (MSH-7) does not win over it, whenever it comes. Next: hl7/patients.py (who is who),
hl7/oru_edit.py (the message), daemon/service.py (the archive, where it is asked for).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from sqlalchemy import Connection, and_, delete, or_, select, update

from medai.router.contract import RIS, control_id
from medai.router.hl7 import oru_edit
from medai.router.hl7.patients import Aliases, CircularMerge, Patient, about, apply_to_order
from medai.router.hl7.patients_in import DEMOGRAPHICS, PatientMessage
from medai.router.ledger import schema as t
from medai.router.ledger import transitions
from medai.router.ledger.database import Part, upsert
from medai.router.ledger.history import FROM_RIS, noted
from medai.router.ledger.orders import as_content, as_order

IDENTITY = frozenset({"patient_id", "patient_id_authority", "patient_identifiers"})
"""Fields of an order that a merge changes: an order message that was sent before it does not undo it."""
CLOCK_S = 86400.0
"""A time of sending that is further in the future is not believed: it would keep a patient as it is for ever."""


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What followed the patients: how many orders, and how many results that wait for the RIS.

    ``told``: what of the message holds today, for the archive. A copy changes nothing here and is told again.
    """

    orders: int
    messages: int
    told: tuple[PatientMessage, ...] = ()


class _Merge(Enum):
    """What a merge is to the ledger."""

    NEW = auto()
    COPY = auto()
    OUTDATED = auto()


@dataclass(frozen=True, kw_only=True)
class _Renamed:
    """A patient of whom only the identifier changes."""

    patient_id: str
    patient_id_authority: str
    patient_name: str = ""
    birth_date: str = ""
    sex: str = ""
    deletes: frozenset[str] = frozenset()


class Identities(Part):
    """Merges and updates of patients."""

    def aliases(self) -> Aliases:
        """Every merge that the RIS told of."""
        with self._database.begin(reads_only=True) as db:
            return _aliases(db)

    def patient_changed(self, messages: Sequence[PatientMessage], now: float, *, unstated: str = "") -> Changed:
        """Follow all that one ADT says of patients, or nothing of it: raises CircularMerge.

        ``unstated``: the authority that our results name where neither order nor images name one.
        """
        orders = results = 0
        told: list[PatientMessage] = []
        with self._database.begin() as db:
            for each in messages:
                at = each.sent_at if each.sent_at is not None and each.sent_at < now + CLOCK_S else now
                merge = _merge(db, each, at) if each.prior_id else _Merge.NEW
                if merge is _Merge.OUTDATED:
                    continue
                message = _newest(db, each, at)
                told.append(message)
                if merge is _Merge.NEW:
                    changed = (_orders(db, message, at), _messages(db, message, unstated))
                    orders, results = orders + changed[0], results + changed[1]
                    if each.prior_id or any(changed):  # of most updates nothing here is a part
                        action = "patient merge" if each.prior_id else "patient update"
                        noted(db, FROM_RIS, action, now, detail=_told_of(each))
        return Changed(orders=orders, messages=results, told=tuple(told))


def _told_of(message: PatientMessage) -> str:
    """Who became whom; the audit trail is of patients, and kept as such."""
    prior = f"{message.prior_id} to " if message.prior_id else ""
    return f"{prior}{message.patient_id}"


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


def _merge(db: Connection, message: PatientMessage, at: float) -> _Merge:
    """Write down who is who; ``at``: when the message was sent."""
    c = t.patient_aliases.c
    prior = Patient.of(message.prior_id, message.prior_id_authority)
    new = Patient.of(message.patient_id, message.patient_id_authority)
    rows = db.execute(select(c.id, c.prior_id, c.prior_authority, c.control_id, c.at)).all()
    known = next((row for row in rows if Patient(row.prior_id, row.prior_authority) == prior), None)
    if known is not None and known.control_id == message.digest[:64]:
        return _Merge.COPY
    undone = [row for row in rows if Patient(row.prior_id, row.prior_authority).matches(new)]
    if known is not None and known.at > at:
        return _Merge.OUTDATED
    try:
        _ = _aliases(db).changed(prior, new) if message.kind == "change" else _aliases(db).merged(prior, new)
    except CircularMerge:
        if any(row.at > at for row in undone):
            return _Merge.OUTDATED
        raise
    if message.kind == "change":
        if any(row.at > at for row in undone):
            return _Merge.OUTDATED
        db.execute(delete(t.patient_aliases).where(c.id.in_([row.id for row in undone])))
    values = {"patient_id": new.identifier, "patient_authority": new.authority}
    values |= {"control_id": message.digest[:64]}
    row = upsert(db, t.patient_aliases).values(
        prior_id=prior.identifier, prior_authority=prior.authority, at=at, **values
    )
    db.execute(row.on_conflict_do_update(index_elements=["prior_id", "prior_authority"], set_={**values, "at": at}))
    return _Merge.NEW


def _newest(db: Connection, message: PatientMessage, at: float) -> PatientMessage:
    """A message without the demographics of which a later one has told, and a note of when it told the rest."""
    key = told_key(Patient.of(message.patient_id, message.patient_id_authority))
    text = db.execute(select(t.meta.c.value).where(t.meta.c.key == key)).scalar()
    known: dict[str, float] = json.loads(text) if text else {}
    said = _said(message)
    old = {each for each in said if known.get(each, at) > at}
    if said - old:
        value = json.dumps(known | dict.fromkeys(sorted(said - old), at))
        row = upsert(db, t.meta).values(key=key, value=value)
        db.execute(row.on_conflict_do_update(index_elements=["key"], set_={"value": value}))
    return _without(message, old)


def told_key(patient: Patient) -> str:
    """Under which key it is kept when messages told of a patient."""
    return f"patient:{hashlib.sha256('|'.join(patient).encode()).hexdigest()[:48]}"


def _said(message: PatientMessage) -> set[str]:
    """The demographics that a message speaks of."""
    return {each for each in DEMOGRAPHICS if getattr(message, each) or each in message.deletes}


def _without(message: PatientMessage, names: Set[str]) -> PatientMessage:
    return replace(
        message,
        patient_name="" if "patient_name" in names else message.patient_name,
        birth_date="" if "birth_date" in names else message.birth_date,
        sex="" if "sex" in names else message.sex,
        deletes=message.deletes - names,
    )


def _orders(db: Connection, message: PatientMessage, at: float) -> int:
    """Give orders what the patient's message says, where no newer message of theirs says it; how many changed."""
    names = {message.patient_id, message.prior_id} - {""}
    content = t.orders.c.content
    listed = content["patient_identifiers"].as_string()
    mine = or_(content["patient_id"].as_string().in_(names), *(listed.contains(n, autoescape=True) for n in names))
    changed = 0
    for row in db.execute(select(t.orders.c.id, t.orders.c.content, t.orders.c.said).where(mine)).all():
        order, said_at = as_order(row.content), dict(row.said["at"])
        newer = {name for name in _said(message) if said_at.get(name, (at, 0))[0] > at}
        news = apply_to_order(order, _without(message, newer))
        if news is None and not about(message, Patient.of(order.patient_id, order.patient_id_authority)):
            continue
        for name in (_said(message) - newer) | (IDENTITY if message.prior_id else frozenset()):
            said_at[name] = max([at, 0], said_at.get(name, [at, 0]))
        values = {"content": as_content(news or order), "said": {**row.said, "at": said_at}}
        db.execute(update(t.orders).where(t.orders.c.id == row.id).values(**values))
        changed += news is not None
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
    if message.prior_id:
        prior_id, authority = message.prior_id, message.prior_id_authority
    else:
        prior_id, authority = message.patient_id, message.patient_id_authority
    coded = oru_edit.recode(payload, prior_id=prior_id, prior_authority=authority, patient=message)
    if coded is None and unstated:
        coded = oru_edit.recode(payload, prior_id=prior_id, prior_authority=unstated, patient=message)
    return coded
