"""``ledger.identities``: patients whose data or identifier the RIS has changed (ADT: updates, merges, A47).

What is kept here follows: orders, and results that the RIS has not acknowledged. Those that it has acknowledged it
moves itself, and what a worker reads later is told under the surviving identifier. A message that was sent before what
was last followed (MSH-7) does not win over it, whenever it comes. A merge that contradicts what is known waits for a
person: when it comes, and again when a result comes under its prior identifier. Next: hl7/patients.py (who is who),
hl7/merge_doubt.py (what contradicts), held_merges.py (what waits), hl7/oru_edit.py (the message), daemon/service.py
(the archive, where it is asked for).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, or_, select, update

from medai.router.contract import RIS, control_id
from medai.router.hl7 import oru_edit
from medai.router.hl7.merge_doubt import CIRCLE, ELSEWHERE, EVERY, doubted, doubts
from medai.router.hl7.patients import Aliases, CircularMerge, Patient, about, apply_to_order, patient_of
from medai.router.hl7.patients_in import DEMOGRAPHICS, PatientMessage
from medai.router.hl7.persons import Person
from medai.router.hl7.text import escape
from medai.router.ledger import schema as t
from medai.router.ledger import transitions
from medai.router.ledger.database import Part, upsert
from medai.router.ledger.held_merges import bring_up, state_of
from medai.router.ledger.held_orders import HoldState
from medai.router.ledger.history import FROM_RIS, noted
from medai.router.ledger.orders import as_content, as_order
from medai.router.settings.tables import MergeRule

IDENTITY = frozenset({"patient_id", "patient_id_authority", "patient_identifiers"})
"""Fields of an order that a merge changes: an order message that was sent before it does not undo it."""
CLOCK_S = 86400.0
"""A time of sending that is further in the future is not believed: it would keep a patient as it is for ever."""


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What followed the patients: how many orders, and how many results that wait for the RIS.

    ``told``: what of the message holds today, for the archive. A copy changes nothing here and is told again.
    ``held``: merges that wait for a person.
    """

    orders: int
    messages: int
    held: int = 0
    told: tuple[PatientMessage, ...] = ()


class _Merge(Enum):
    """What a merge is to the ledger."""

    NEW = auto()
    COPY = auto()
    OUTDATED = auto()
    DOUBTED = auto()


@dataclass(frozen=True, kw_only=True)
class Weighing:
    """How merges are weighed before they are followed.

    ``seen``: whom the archive's images name, under which identifier. ``vouched``: a person released them. ``unstated``:
    the authority that our results name where neither order nor images name one.
    """

    rule: MergeRule = "agreeing"
    seen: Sequence[tuple[Patient, Person]] = ()
    vouched: bool = False
    unstated: str = ""


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

    def patient_changed(
        self, messages: Sequence[PatientMessage], now: float, weighing: Weighing | None = None
    ) -> Changed:
        """Follow all that one ADT says of patients but merges that must wait for a person, or nothing of it: raises
        CircularMerge.
        """
        weighing = weighing or Weighing()
        orders = results = held = 0
        told: list[PatientMessage] = []
        with self._database.begin() as db:
            for each in messages:
                at = each.sent_at if each.sent_at is not None and each.sent_at < now + CLOCK_S else now
                merge = _merge(db, each, at, now, weighing) if each.prior_id else _Merge.NEW
                held += merge is _Merge.DOUBTED
                if merge in (_Merge.OUTDATED, _Merge.DOUBTED):
                    continue
                message = _newest(db, each, at)
                told.append(message)
                if merge is _Merge.NEW:
                    changed = (_orders(db, message, at), _messages(db, message, weighing.unstated))
                    orders, results = orders + changed[0], results + changed[1]
                    if each.prior_id or any(changed):  # of most updates nothing here is a part
                        action = "patient merge" if each.prior_id else "patient update"
                        noted(db, FROM_RIS, action, now, detail=_told_of(each))
        return Changed(orders=orders, messages=results, held=held, told=tuple(told))


def _told_of(message: PatientMessage) -> str:
    """Who became whom; the audit trail is of patients, and kept as such."""
    prior = f"{message.prior_id} to " if message.prior_id else ""
    return f"{prior}{message.patient_id}"


def under_surviving(db: Connection, payload: bytes, now: float) -> bytes:
    """A new ORU under the identifier that its patient has by now.

    A merge that was of somebody else than the images is no longer followed: it waits for a person.
    """
    aliases = _aliases(db)
    for patient in oru_edit.patients_of(payload) if aliases.targets else ():
        person = oru_edit.person_of(payload)
        while (prior := doubted(aliases, patient, person)) is not None:
            _take_back(db, prior, doubts(aliases.persons[prior], [person], ()), now)
            aliases = aliases.without(prior)
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
    columns = (c.prior_id, c.prior_authority, c.patient_id, c.patient_authority, c.told)
    rows = db.execute(select(*columns).order_by(c.id)).all()
    merges = Aliases.of((Patient(r[0], r[1]), Patient(r[2], r[3])) for r in rows)
    told = {Patient(r[0], r[1]): Person.of_hl7(**r.told) for r in rows if r.told is not None}
    return replace(merges, persons=told)


def _merge(db: Connection, message: PatientMessage, at: float, now: float, weighing: Weighing) -> _Merge:
    """Write down who is who, or let a person look at it; ``at``: when the message was sent."""
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
    aliases = _aliases(db)
    circle = _closes_circle(aliases, message, prior, new)
    if (circle or message.kind == "change") and any(row.at > at for row in undone):
        return _Merge.OUTDATED
    state = HoldState.JOINED if weighing.vouched else state_of(db, message)
    told: Mapping[str, str] | None = None
    if state is None and weighing.rule != "all":
        differs, told = _weighed(db, aliases, message, weighing, circle=circle)
        if differs:
            bring_up(db, message, differs, now)
            return _Merge.DOUBTED
    elif state in (HoldState.NEW, HoldState.HELD, HoldState.REJECTED):
        return _Merge.DOUBTED
    elif circle and state is None:
        raise CircularMerge("the surviving patient (PID-3) was merged into the prior one (MRG-1) before")
    if circle or message.kind == "change":
        db.execute(delete(t.patient_aliases).where(c.id.in_([row.id for row in undone])))
    values: dict[str, Any] = {"patient_id": new.identifier, "patient_authority": new.authority}
    values |= {"control_id": message.digest[:64], "told": told}
    row = upsert(db, t.patient_aliases).values(
        prior_id=prior.identifier, prior_authority=prior.authority, at=at, **values
    )
    db.execute(row.on_conflict_do_update(index_elements=["prior_id", "prior_authority"], set_={**values, "at": at}))
    return _Merge.NEW


def _closes_circle(aliases: Aliases, message: PatientMessage, prior: Patient, new: Patient) -> bool:
    """Whether the surviving patient is a part of the prior one; raises CircularMerge where they are one number."""
    try:
        aliases.changed(prior, new) if message.kind == "change" else aliases.merged(prior, new)
    except CircularMerge:
        if prior.matches(new):
            raise
        return True
    return False


def _weighed(
    db: Connection, aliases: Aliases, message: PatientMessage, weighing: Weighing, *, circle: bool
) -> tuple[Sequence[str], Mapping[str, str]]:
    """What speaks against a merge, and of whom it tells: what comes later under the prior number must be theirs."""
    prior = Patient.of(message.prior_id, message.prior_id_authority)
    new = Patient.of(message.patient_id, message.patient_id_authority)
    told = {"name": message.patient_name, "birth_date": message.birth_date, "sex": message.sex}
    if weighing.rule == "hold":
        return (EVERY,), told
    target = aliases.targets.get(prior)
    odd = [CIRCLE] if circle else [ELSEWHERE] if target is not None and not target.matches(new) else []
    surviving = _known(db, aliases.merged_into(new) - {prior}, weighing)
    person = Person.of_hl7(**told)
    found = doubts(person, _known(db, aliases.merged_into(prior) - {new}, weighing), surviving)
    stands_for = next((each for each in surviving if each.is_said), None)
    if not person.is_said and stands_for is not None:
        told = {"name": _as_hl7(stands_for.name), "birth_date": stands_for.birth_date, "sex": stands_for.sex}
    return (*odd, *found), told


def _as_hl7(name: str) -> str:
    return "~".join("^".join(escape(part) for part in group.split("^")) for group in name.split("="))


def _known(db: Connection, patients: Set[Patient], weighing: Weighing) -> list[Person]:
    """Whom orders, results that wait for the RIS, and images name under any of these identifiers."""
    found: list[Person] = []
    for row in db.execute(select(t.orders.c.content).where(_may_be_of({each.identifier for each in patients}))):
        order = as_order(row.content)
        named = [*map(patient_of, order.patient_identifiers), Patient.of(order.patient_id, order.patient_id_authority)]
        if any(each.matches(one) for each in patients for one in named):
            found.append(Person.of_hl7(order.patient_name, order.birth_date, order.sex))
    theirs = {*patients, *(Patient(each.identifier, weighing.unstated) for each in patients)}
    for payload in db.execute(select(t.deliveries.c.payload).where(_waits_for_ris())).scalars():
        if any(each.matches(one) for each in theirs for one in oru_edit.patients_of(bytes(payload))):
            found.append(oru_edit.person_of(bytes(payload)))
    found += [person for patient, person in weighing.seen if any(each.matches(patient) for each in patients)]
    return list(dict.fromkeys(found))


def _take_back(db: Connection, prior: Patient, differs: Sequence[str], now: float) -> None:
    """Ask a person about a merge that is followed already: images came that are of somebody else."""
    c = t.patient_aliases.c
    mine = and_(c.prior_id == prior.identifier, c.prior_authority == prior.authority)
    row = db.execute(select(t.patient_aliases).where(mine)).one()
    message = PatientMessage(
        control_id="", sender=("", ""), kind="merge", patient_id=row.patient_id,
        patient_id_authority=row.patient_authority, prior_id=row.prior_id, prior_id_authority=row.prior_authority,
        patient_name=row.told["name"], birth_date=row.told["birth_date"], sex=row.told["sex"], digest=row.control_id,
        sent_at=row.at,
    )  # fmt: skip
    bring_up(db, message, differs, now)
    db.execute(delete(t.patient_aliases).where(mine))


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
    mine = _may_be_of({message.patient_id, message.prior_id} - {""})
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


def _may_be_of(names: Set[str]) -> ColumnElement[bool]:
    """Orders that name one of these identifiers, whoever gave it out."""
    content = t.orders.c.content
    listed = content["patient_identifiers"].as_string()
    return or_(content["patient_id"].as_string().in_(names), *(listed.contains(n, autoescape=True) for n in names))


def _waits_for_ris() -> ColumnElement[bool]:
    d = t.deliveries.c
    waiting = [state.value for state in transitions.WAITING]
    return and_(d.destination == RIS, d.state.in_(waiting), d.payload.is_not(None))


def _messages(db: Connection, message: PatientMessage, unstated: str) -> int:
    """Re-code what waits for the RIS. What may have been received under its number goes as a message of its own."""
    d = t.deliveries.c
    columns = (d.id, d.job_id, d.kind, d.state, d.attempts, d.payload)
    changed = 0
    for row in db.execute(select(*columns).where(_waits_for_ris()).with_for_update()).all():
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
