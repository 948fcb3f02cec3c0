"""``ledger.deliveries``: what is owed to each destination, one row each, with attempts, next try and receipt.

A delivery is tried by one courier at a time: ``begin_try`` is a compare-and-set on its count of attempts. The archive
comes first; the others wait for it, and a revision's delivery waits for the one that it supersedes, destination by
destination. Next: delivery/courier.py (who delivers), deadletters.py (what can't be delivered).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    and_,
    bindparam,
    case,
    func,
    insert,
    or_,
    select,
    update,
)

from medai.router.contract import ARCHIVE, RIS, DeliveryState, Form, JobState, StampName
from medai.router.ledger import schema as t
from medai.router.ledger import transitions
from medai.router.ledger.database import LONGEST_S, NOW, Part, due_by, upsert
from medai.router.ledger.history import ROUTER, noted, stamp

RESULT = "result"
WITHDRAWAL = "withdrawal"
ORDER = "order"
"""A result once more, under the numbers of an order that was joined to it later (held_orders.py)."""
PENDING = DeliveryState.PENDING.value


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One thing that is owed to one destination. ``since``: when patience with it began (created, or retried)."""

    id: int
    job_id: str
    destination: str
    kind: str
    control_id: str
    payload: bytes | None
    attempts: int
    refusals: int
    since: float


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A destination's circuit breaker, as the ledger keeps it for people to see."""

    name: str
    open: bool
    failures: int
    since: float
    next_try_at: float
    reason: str


class Deliveries(Part):
    """Deliveries and their destinations."""

    def due(self, destination: str, now: float, *, longest_s: float, limit: int = 50) -> list[Delivery]:
        """What may go to a destination now, the most urgent first."""
        values = {"name": destination, "now": now, "longest_s": longest_s, "many": limit}
        with self._database.begin(reads_only=True) as db:
            return [Delivery(**row) for row in db.execute(_DUE, values).mappings()]

    def owed_to(self) -> list[str]:
        """The destinations that anything is owed to."""
        query = select(t.deliveries.c.destination).where(t.deliveries.c.state == PENDING).distinct()
        with self._database.begin(reads_only=True) as db:
            return [str(row[0]) for row in db.execute(query)]

    def begin_try(self, delivery: Delivery, now: float) -> bool:
        """Whether this courier may try: False when it was delivered, dropped or tried by another meanwhile."""
        mine = and_(
            t.deliveries.c.id == delivery.id,
            t.deliveries.c.state == PENDING,
            t.deliveries.c.attempts == delivery.attempts,
        )
        values = {"attempts": delivery.attempts + 1, "first_try_at": func.coalesce(t.deliveries.c.first_try_at, now)}
        with self._database.begin() as db:
            if db.execute(update(t.deliveries).where(mine).values(**values)).rowcount != 1:
                return False
            if delivery.destination == RIS and delivery.kind == RESULT:
                stamp(db, delivery.job_id, StampName.ORU_SENT, now, keep_first=False)
        return True

    def delivered(self, delivery: Delivery, receipt: str, now: float, *, keep: bytes | None = None) -> None:
        """It was received: keep the receipt, and end the job when it was the last.

        ``keep``: what of the payload may still be wanted; all of it where nothing is said.
        """
        more = {} if keep is None else {"payload": keep or None}
        with self._database.begin() as db:
            transitions.delivered(db, t.deliveries.c.id == delivery.id, now, receipt, **more)
            _note(db, delivery.id, "done", receipt, now)
            if delivery.destination != ARCHIVE:
                _noted_where(db, delivery, now)
            if delivery.kind == RESULT:
                self._follow(db, delivery, now)
                transitions.settle(db, delivery.job_id, now)
                _overtake(db, delivery, now)

    def _follow(self, db: Connection, delivery: Delivery, now: float) -> None:
        """What the receipt means for the job: stored in the archive, or acknowledged by the RIS."""
        if delivery.destination == ARCHIVE:
            transitions.archived_now(db, delivery.job_id, now)
        elif delivery.destination == RIS:
            stamp(db, delivery.job_id, StampName.ORU_ACKNOWLEDGED, now, keep_first=True)

    def put_off(self, delivery: Delivery, reason: str, *, next_try_at: float, refused: bool, now: float) -> None:
        """Another try follows; ``refused``: the destination answered, and would not have this one now."""
        values: dict[str, Any] = {"next_try_at": next_try_at, "error": reason}
        if refused:
            values["refusals"] = t.deliveries.c.refusals + 1
        with self._database.begin() as db:
            db.execute(update(t.deliveries).where(_still(delivery)).values(**values))
            _note(db, delivery.id, "retry", reason, now)

    def park(self, delivery: Delivery, reason: str, now: float) -> bool:
        """No retry helps: a dead letter. The job's other deliveries go on, unless it was the archive's.

        False where another message waits by now: its patient was merged while this one was on its way, and a refusal
        of the old says nothing of the new.
        """
        same = and_(t.deliveries.c.id == delivery.id, t.deliveries.c.control_id == delivery.control_id)
        with self._database.begin() as db:
            if not transitions.park(db, same, now, reason):
                _note(db, delivery.id, "retry", reason, now)
                return False
            _note(db, delivery.id, "parked", reason, now)
            if delivery.kind == RESULT:
                transitions.settle(db, delivery.job_id, now)
        return True

    def hurry(self, destination: str) -> int:
        """A destination is back: what was put off for it is due now."""
        waits = and_(t.deliveries.c.state == PENDING, t.deliveries.c.destination == destination)
        late = and_(waits, t.deliveries.c.next_try_at > 0, t.deliveries.c.refusals == 0)
        with self._database.begin() as db:
            return int(db.execute(update(t.deliveries).where(late).values(next_try_at=0.0)).rowcount)

    def kept_objects(self, job_id: str) -> list[tuple[str, bytes]]:
        """A job's objects that the archive does not have yet: kind and DICOM file, in the order in which to store."""
        order = {"seg": 0, "sr": 1, "sc": 2}
        columns = (t.result_objects.c.kind, t.result_objects.c.content)
        query = select(*columns).where(t.result_objects.c.job_id == job_id, t.result_objects.c.content.is_not(None))
        with self._database.begin(reads_only=True) as db:
            rows = sorted(db.execute(query), key=lambda row: order.get(row.kind, 9))
            return [(str(row.kind), zlib.decompress(row.content)) for row in rows]

    def result_ids(self, job_id: str) -> list[str]:
        """Orthanc ids of a job's objects."""
        with self._database.begin(reads_only=True) as db:
            query = select(t.result_objects.c.orthanc_id).where(t.result_objects.c.job_id == job_id)
            return [str(row[0]) for row in db.execute(query)]

    def objects_of(self, job_id: str) -> dict[Form, str]:
        """Which forms of a job's result the archive holds, and Orthanc's id of each."""
        with self._database.begin(reads_only=True) as db:
            columns = (t.result_objects.c.kind, t.result_objects.c.orthanc_id)
            query = select(*columns).where(t.result_objects.c.job_id == job_id)
            return {Form(row.kind): str(row.orthanc_id) for row in db.execute(query)}

    def superseded(self, delivery: Delivery) -> list[bytes]:
        """What is kept of the earlier revisions that this destination has, or may have, the first one first."""
        d = t.deliveries.c
        with self._database.begin(reads_only=True) as db:
            theirs = and_(
                d.job_id.in_(select(t.jobs.c.id).where(_earlier_revisions(db, delivery.job_id))),
                d.destination == delivery.destination,
                d.kind == RESULT,
                d.attempts > 0,
                d.payload.is_not(None),
            )
            query = select(d.payload).join(t.jobs, t.jobs.c.id == d.job_id).where(theirs)
            return [bytes(row.payload) for row in db.execute(query.order_by(t.jobs.c.revision, d.id))]

    def withdrawal_owed(self, delivery: Delivery) -> bool:
        """Whether a result that is on its way is already to be taken back where it goes."""
        d = t.deliveries.c
        owed = and_(
            d.job_id == delivery.job_id,
            d.destination == delivery.destination,
            d.kind == WITHDRAWAL,
            d.state == PENDING,
        )
        with self._database.begin(reads_only=True) as db:
            return db.execute(select(d.id).where(owed)).first() is not None

    def known_results(self, orthanc_ids: Sequence[str]) -> set[str]:
        """Which of these instances are results of ours."""
        out: set[str] = set()
        with self._database.begin(reads_only=True) as db:
            for start in range(0, len(orthanc_ids), 500):
                part = list(orthanc_ids[start : start + 500])
                query = select(t.result_objects.c.orthanc_id).where(t.result_objects.c.orthanc_id.in_(part))
                out.update(str(row[0]) for row in db.execute(query))
        return out

    # -- destinations

    def gate(self, name: str) -> Gate | None:
        """How a destination's circuit breaker stood when it was last written."""
        with self._database.begin(reads_only=True) as db:
            row = db.execute(select(t.destinations).where(t.destinations.c.name == name)).mappings().first()
        return Gate(**row) if row else None

    def set_gate(self, gate: Gate) -> None:
        """Write how it stands now."""
        values = asdict(gate)
        with self._database.begin() as db:
            statement = upsert(db, t.destinations).values(**values)
            db.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


def _noted_where(db: Connection, delivery: Delivery, now: float) -> None:
    """What left the house is in the audit trail: which study's result went where."""
    study_id = db.execute(select(t.jobs.c.study_id).where(t.jobs.c.id == delivery.job_id)).scalar_one()
    noted(db, ROUTER, "delivered", now, study_id=study_id, job_id=delivery.job_id, detail=delivery.destination)


def _overtake(db: Connection, delivery: Delivery, now: float) -> None:
    """What older revisions still owe this destination (dead letters) has lost its meaning, and must never follow."""
    j, d = t.jobs.c, t.deliveries.c
    older = _earlier_revisions(db, delivery.job_id)
    open_ = and_(d.job_id.in_(select(j.id).where(older)), d.state.in_([state.value for state in transitions.WAITING]))
    if delivery.destination != ARCHIVE:  # what never came into the archive goes nowhere else either
        open_ = and_(open_, d.destination == delivery.destination)
    jobs = {str(row[0]) for row in db.execute(select(d.job_id).where(open_))}
    revision = db.execute(select(j.revision).where(j.id == delivery.job_id)).scalar_one()
    why = f"overtaken: revision {revision} was delivered"
    transitions.call_off(db, open_, why, now=now)
    for job_id in jobs:
        transitions.deliver_again(db, job_id, why)
        transitions.settle(db, job_id, now)


def _earlier_revisions(db: Connection, job_id: str) -> ColumnElement[bool]:
    """The jobs whose result this job's takes the place of."""
    j = t.jobs.c
    mine = db.execute(select(j.study_id, j.route, j.slot, j.revision).where(j.id == job_id)).one()
    return and_(j.study_id == mine.study_id, j.route == mine.route, j.slot == mine.slot, j.revision < mine.revision)


def _still(delivery: Delivery) -> Any:
    return and_(t.deliveries.c.id == delivery.id, t.deliveries.c.state == PENDING)


def _open_before() -> Any:
    """What must come first at the same destination, because all carry one filler number.

    What the job supersedes; before a withdrawal its result; before the result of a study that came back the withdrawal
    of what had been read of it.
    """
    return or_(_owed_by_predecessor(), _owed_result(), _owed_withdrawal())


def _owed_result() -> Any:
    own = t.deliveries.alias("own")
    same = and_(
        t.deliveries.c.kind == WITHDRAWAL,
        own.c.job_id == t.deliveries.c.job_id,
        own.c.destination == t.deliveries.c.destination,
        own.c.kind.in_((RESULT, ORDER)),
        own.c.state == PENDING,
    )
    return select(own.c.id).where(same).exists()


def _owed_withdrawal() -> Any:
    was, owed = t.jobs.alias("was"), t.deliveries.alias("withdrawal")
    earlier = and_(
        t.deliveries.c.kind == RESULT,
        owed.c.kind == WITHDRAWAL,
        owed.c.destination == t.deliveries.c.destination,
        owed.c.state == PENDING,
        owed.c.id < t.deliveries.c.id,
        was.c.id == owed.c.job_id,
        was.c.study_id == t.jobs.c.study_id,
        was.c.route == t.jobs.c.route,
        was.c.slot == t.jobs.c.slot,
    )
    return select(owed.c.id).where(earlier).exists()


def _owed_by_predecessor() -> Any:
    before, owed = t.jobs.alias("before"), t.deliveries.alias("owed")
    earlier = and_(
        before.c.id == t.jobs.c.predecessor,
        owed.c.job_id == before.c.id,
        owed.c.destination == t.deliveries.c.destination,
        owed.c.state == PENDING,
        before.c.state.in_((JobState.DELIVERING.value, JobState.RUNNING.value)),
    )
    return select(owed.c.id).where(earlier).exists()


def _due() -> Select[Any]:
    """See ``Deliveries.due``."""
    d, j = t.deliveries, t.jobs
    columns = [d.c[name] for name in ("id", "job_id", "destination", "kind", "control_id", "payload", "attempts")]
    ready = and_(
        d.c.state == PENDING,
        d.c.destination == bindparam("name"),
        due_by(d.c.next_try_at, NOW, LONGEST_S),
        or_(d.c.kind.in_((WITHDRAWAL, ORDER)), j.c.state == JobState.DELIVERING.value),
        or_(d.c.destination == ARCHIVE, d.c.kind == WITHDRAWAL, j.c.stored_at.is_not(None)),
        ~_open_before(),
    )
    since = case((j.c.retried_at > d.c.created_at, j.c.retried_at), else_=d.c.created_at).label("since")
    query = select(*columns, d.c.refusals, since).join(j, j.c.id == d.c.job_id).where(ready)
    return query.order_by(j.c.priority, d.c.id).limit(bindparam("many", type_=Integer()))


_DUE = _due()


def _note(db: Connection, delivery_id: int, outcome: str, text: str, now: float) -> None:
    """The delivery's history: the same answer again is counted, not written again."""
    newest = select(t.delivery_tries).where(t.delivery_tries.c.delivery_id == delivery_id)
    last = db.execute(newest.order_by(t.delivery_tries.c.id.desc()).limit(1)).mappings().first()
    if last is not None and (last["outcome"], last["text"]) == (outcome, text):
        again = {"count": last["count"] + 1, "last_at": now}
        db.execute(update(t.delivery_tries).where(t.delivery_tries.c.id == last["id"]).values(**again))
        return
    row: Mapping[str, Any] = {"delivery_id": delivery_id, "outcome": outcome, "text": text}
    db.execute(insert(t.delivery_tries).values(**row, count=1, first_at=now, last_at=now))
