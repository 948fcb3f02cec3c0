"""``ledger.orders``: what the RIS ordered, as its messages say it bit by bit, in whatever order they come.

An order is known by its placer number, whole (its filler number where it has none), and its accession number or Study
Instance UID. For each of its fields the newest message that speaks of it wins, by the sender's clock: a message that
comes late or twice changes nothing that a newer one said. Next: hl7/orders_in.py (what a message says), jobs.py and
claims.py (who asks).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, Update, and_, bindparam, insert, or_, select, update

from medai.router.contract import JobState, Order, Priority
from medai.router.hl7.orders_in import Action, OrderMessage, as_accession
from medai.router.ledger import schema as t
from medai.router.ledger.database import Part
from medai.router.ledger.history import FROM_RIS, noted

CANCELLED, ACTIVE = "cancelled", "active"
COPIES = 100
"""So many of an order's last messages are known again by their content."""
AHEAD_S = 86_400.0
"""A message that is dated further ahead than this is taken as sent now: else it would win for good."""
STATUS = "status"
PERSON = ("patient_name", "birth_date", "sex", "patient_account", "visit_number", "location", "patient_class")
"""What is said of a patient, and not of another one."""

Moment = tuple[float, int]
"""When a message was sent: MSH-7, and MSH-13 (0 where it has none)."""
NEVER: Moment = (float("-inf"), 0)


@dataclass(frozen=True, kw_only=True)
class _Standing:
    """An order as it is kept: its row, and for each field (and the status) when it was said last."""

    id: int
    order: Order
    status: str
    said_at: Mapping[str, Moment] = field(default_factory=dict)
    copies: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Accession number and Study Instance UID, as far as a message said them."""
        return self.order.accession if "accession" in self.said_at else "", self.order.study_uid


class Orders(Part):
    """Orders that the RIS sent."""

    def take(self, messages: Sequence[OrderMessage], now: float) -> int:
        """Keep every order of a message, all or none, and have studies with jobs that wait for them looked at again;
        how many are new."""
        fresh = 0
        touched: set[int] = set()
        with self._database.begin() as db:
            for message in messages:
                fresh += _take(db, message, now, touched)
        return fresh

    def of_study(self, *, study_uid: str, accession: str) -> tuple[Order, ...]:
        """Orders that are not cancelled and name this study or its accession number, the best match first."""
        with self._database.begin(reads_only=True) as db:
            return orders_of(db, study_uid=study_uid, accession=accession)


def orders_of(db: Connection, *, study_uid: str, accession: str) -> tuple[Order, ...]:
    """As ``Orders.of_study``. Both match, then the UID, then the accession number; of equals the newest first.

    Which of them is of the images' patient is for the caller to find: two hospitals may count alike.
    """
    names = {name: value for name, value in (("accession", accession), ("study_uid", study_uid)) if value}
    if not names:
        return ()
    rows = db.execute(_naming(*names), names).all()

    def rank(row: Any) -> tuple[bool, bool, bool]:
        by_uid, by_accession = row.study_uid == study_uid, bool(accession) and row.accession == accession
        return not (by_uid and by_accession), not by_uid, bool(row.study_uid) and not by_uid

    return tuple(as_order(row.content) for row in sorted(rows, key=rank))


def as_order(content: Mapping[str, Any]) -> Order:
    """An order from the ledger's JSON; also one that an older version wrote."""
    known = {name: content[name] for name in _NAMES if name in content}
    for name in ("procedure", "patient_identifiers"):
        if name in known:
            known[name] = tuple(known[name])
    return Order(**{**known, "priority": Priority(known.get("priority", Priority.ROUTINE))})


def as_content(order: Order) -> dict[str, Any]:
    """An order as the ledger's JSON."""
    return {**asdict(order), "priority": int(order.priority)}


# -- one order of a message


def _take(db: Connection, message: OrderMessage, now: float, touched: set[int]) -> int:
    at = _moment(message, now)
    standing = _standing(db, message.order)
    meant = _meant(standing, message, touched)
    if not meant:
        meant = [_Standing(id=0, order=Order(placer=message.order.placer), status=ACTIVE)]
    fresh = sum(1 for each in meant if not each.id)
    for each in meant:
        news = each if message.digest in each.copies and each.id not in touched else _amended(each, message, at)
        row_id = each.id
        if news is not each:
            row_id = _write(db, news, message, now)
            if each.id:
                noted(db, FROM_RIS, "order change", now, detail=f"{news.order.placer}: {news.status}")
            if news.status != CANCELLED:
                _ring(db, news.order, now)
        touched.add(row_id)
    return fresh


def _moment(message: OrderMessage, now: float) -> Moment:
    sent_at = now if message.sent_at is None or message.sent_at > now + AHEAD_S else message.sent_at
    return sent_at, message.sequence or 0


def _standing(db: Connection, order: Order) -> list[_Standing]:
    """The orders of this placer number, else of this filler number."""
    numbers = {"filler": order.filler}
    if order.placer:
        numbers |= {"placer": order.placer, "number": order.placer.split("^")[0]}
    rows = db.execute(_of_numbers(*numbers), numbers)
    found = [
        _Standing(
            id=row.id, order=as_order(row.content), status=row.status,
            said_at={name: (float(at[0]), int(at[1])) for name, at in row.said["at"].items()},
            copies=tuple(row.said["copies"]),
        )
        for row in rows
    ]  # fmt: skip
    # An older version kept the first component alone, and did not say what it had heard of.
    return [each for each in found if each.order.placer in ("", order.placer) or "placer" not in each.said_at]


def _meant(standing: Iterable[_Standing], message: OrderMessage, touched: set[int]) -> list[_Standing]:
    """Which of a placer's orders a message speaks of; none where it places another one.

    Those whose accession number and UID it names; else those that contradict neither and that no other order of the
    same message is. A cancellation that names no study cancels all of them.
    """
    asked = (message.order.accession, message.order.study_uid)
    agreeing = [each for each in standing if all(_agree(*pair) for pair in zip(each.key, asked, strict=True))]
    exact = [each for each in agreeing if each.key == asked]
    if exact and (any(asked) or message.action is not Action.CANCEL):
        return exact
    return [each for each in agreeing if each.id not in touched]


def _agree(one: str, other: str) -> bool:
    return not one or not other or one == other


def _amended(standing: _Standing, message: OrderMessage, at: Moment) -> _Standing:
    """The order with what the message says, where nothing newer was said of it."""
    said_at = dict(standing.said_at)
    news: dict[str, Any] = {}
    if _other_patient(standing.order, message, at, said_at):
        news |= dict.fromkeys(PERSON, "")
    for name in message.carries:
        if at >= said_at.get(name, NEVER):
            news[name] = getattr(message.order, name)
            said_at[name] = at
    status = standing.status
    if message.action is not Action.CHANGE and at >= said_at.get(STATUS, NEVER):
        wanted = CANCELLED if message.action is Action.CANCEL else ACTIVE
        if (status, wanted) != (CANCELLED, ACTIVE) or at > said_at.get(STATUS, NEVER):  # of one moment: cancelled stays
            status = wanted
            said_at[STATUS] = at
    order = replace(standing.order, **news)
    if not order.accession:  # nobody said one: many RIS use the filler number as such
        order = replace(order, accession=as_accession(order.filler))
    if order.ordered_at is None and message.sent_at is not None:
        order = replace(order, ordered_at=message.sent_at)
    copies = (*standing.copies, message.digest)[-COPIES:]
    return replace(standing, order=order, status=status, said_at=said_at, copies=copies)


def _other_patient(order: Order, message: OrderMessage, at: Moment, said_at: Mapping[str, Moment]) -> bool:
    """Whether the message gives the order to somebody else, of whom what was said of the first is not true."""
    name = "patient_identifiers"
    if name not in message.carries or at < said_at.get(name, NEVER) or not order.patient_identifiers:
        return False
    numbers = {text.split("^")[0] for text in order.patient_identifiers}
    return not numbers & {text.split("^")[0] for text in message.order.patient_identifiers}


def _write(db: Connection, news: _Standing, message: OrderMessage, now: float) -> int:
    order = news.order
    values: dict[str, Any] = {
        "placer": order.placer,
        "filler": order.filler,
        "accession": order.accession,
        "study_uid": order.study_uid,
        "status": news.status,
        "priority": int(order.priority),
        "ordered_at": order.ordered_at,
        "received_at": now,
        "control_id": message.digest[:64],
        "content": as_content(order),
        "said": {"at": {name: list(at) for name, at in news.said_at.items()}, "copies": list(news.copies)},
    }
    if news.id:
        db.execute(AMEND, {**values, "row": news.id})
        return news.id
    made = db.execute(PLACE, values).inserted_primary_key
    assert made is not None
    return int(made[0])


def _ring(db: Connection, order: Order, now: float) -> None:
    """An order that comes after its study may hurry the jobs that wait: the study is looked at again.

    Here nobody knows the images' patient; whoever looks takes the order's urgency where it does not contradict them.
    """
    names = {name: value for name, value in (("accession", order.accession), ("study_uid", order.study_uid)) if value}
    if names:
        asked = {f"asked_{name}": value for name, value in names.items()}
        db.execute(_waiting_for(*names), {**asked, "urgency": int(order.priority), "moment": now})


# -- statements, each made once: to make one costs more than SQLite takes to answer it

PLACE = insert(t.orders)
AMEND = update(t.orders).where(t.orders.c.id == bindparam("row"))


@cache
def _naming(*columns: str) -> Select[Any]:
    """Orders that are not cancelled and have one of these values, the newest first."""
    c = t.orders.c
    named = or_(*(c[name] == bindparam(name) for name in columns))
    query = select(c.content, c.study_uid, c.accession).where(and_(named, c.status != CANCELLED))
    return query.order_by(c.received_at.desc(), c.id.desc())


@cache
def _of_numbers(*names: str) -> Select[Any]:
    """Orders of a placer number, or of a filler number that the placer has not given a number yet."""
    c = t.orders.c
    mine = and_(c.filler == bindparam("filler"), c.filler != "")
    if "placer" in names:
        mine = or_(c.placer.in_((bindparam("placer"), bindparam("number"))), and_(mine, c.placer == ""))
    return select(c.id, c.content, c.status, c.said).where(mine).order_by(c.id).with_for_update()


@cache
def _waiting_for(*columns: str) -> Update:
    """Studies that have one of these values and a job that waits and is less urgent: due at once."""
    s = t.studies.c
    named = or_(*(s[name] == bindparam(f"asked_{name}") for name in columns))
    waits = and_(
        t.jobs.c.study_id == s.id,
        t.jobs.c.state == JobState.PENDING.value,
        t.jobs.c.priority > bindparam("urgency"),
    )
    waiting = and_(named, s.deleted_at.is_(None), select(t.jobs.c.id).where(waits).exists())
    return update(t.studies).where(waiting).values(due_at=bindparam("moment"))


_NAMES = frozenset(each.name for each in fields(Order))
