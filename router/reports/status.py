"""What is now: what waits, who works, what is away, what needs a person. Nothing here writes.

``status`` is ``medai status``; ``now_page`` is the console's first page, /api/status and ``medai top``.
Next: turnaround.py, cli/top.py, console/pages.py.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

from pydantic import AliasChoices, Field
from sqlalchemy import Connection, Select, and_, func, select

from medai.router.contract import FINAL_STATES, DeliveryState, Failure, JobState, Priority, StampName
from medai.router.ledger import held_merges, held_orders
from medai.router.ledger import schema as t
from medai.router.ledger.fleet import is_alive
from medai.router.reports.report import Report, Tables
from medai.router.reports.turnaround import recent_turnaround
from medai.router.settings.tables import ObjectivesSettings
from medai.router.stages import Percentiles

OPEN = tuple(s.value for s in JobState if s not in FINAL_STATES)


class QueueEntry(Report):
    """What waits in one queue with one priority."""

    queue: str
    priority: str
    depth: int
    oldest_s: float


class WorkerEntry(Report):
    """A worker, and what it does."""

    name: str
    queues: tuple[str, ...]
    device: str
    started_at: float
    seen_at: float
    job_id: str | None = Field(description="What it reads now.")
    models: dict[str, str] | None = Field(description="Model -> version.")
    load: dict[str, float] | None
    alarm: str = Field(description="What it needs a person for.")
    alive: bool


class ModelEntry(Report):
    """A model that workers announced."""

    name: str
    version: str
    available: bool
    reason: str = Field(description="Why it can't run.")
    seen_at: float


class VerdictCount(Report):
    """How many readings of a model came to a verdict."""

    model: str
    verdict: str
    count: int


class DestinationEntry(Report):
    """A destination, what waits for it, and whether it is away."""

    name: str
    pending: int
    oldest_s: float
    away: bool
    since: float | None
    reason: str


class DeliveryCount(Report):
    """How many deliveries to a destination stand so."""

    destination: str
    state: str
    count: int


class HourOfArrivals(Report):
    """Studies whose last image came within an hour of this moment."""

    since: float = Field(validation_alias=AliasChoices("since", "from"), serialization_alias="from")
    studies: int


class Tally(Report):
    """Counts over all that the ledger ever held."""

    jobs: dict[str, int] = Field(description="State -> readings.")
    studies: int
    verdicts: tuple[VerdictCount, ...]
    deliveries: tuple[DeliveryCount, ...]
    attempts: dict[str, int] = Field(description="How they ended -> attempts.")


class Status(Tally):
    """The queue by priority, readings by state, studies still arriving, workers, models, destinations."""

    queues: tuple[QueueEntry, ...]
    queue_depth: int
    oldest_waiting_s: float
    studies_arriving: int
    workers: tuple[WorkerEntry, ...]
    models: tuple[ModelEntry, ...]
    destinations: tuple[DestinationEntry, ...]
    dead_letters: dict[str, int] = Field(description="reading, delivery -> how many.")
    orders_held: int = Field(description="Orders that contradict the images they name, and wait for a person.")
    merges_held: int = Field(description="Merges of patients that contradict what is known, and wait for a person.")


class NowPage(Status):
    """The same with what is late, what came, how long readings took in the last day, and what was promised."""

    at: float
    overdue: dict[str, int] = Field(description="Priority -> readings past their objective.")
    arrivals: tuple[HourOfArrivals, ...]
    turnaround: dict[str, Percentiles] = Field(description="Priority -> of the last day.")
    objectives: dict[str, float] = Field(description="Priority -> seconds.")


def now_page(ledger: Tables, now: float, objectives: ObjectivesSettings, *, counted: Tally | None = None) -> NowPage:
    """All that is now; ``counted``: see ``status``."""
    return NowPage(
        **dict(status(ledger, now, counted=counted)),
        at=now,
        overdue=overdue(ledger, now, objectives.limit_s),
        arrivals=arrivals(ledger, now),
        turnaround=recent_turnaround(ledger, since=now - 86_400.0),
        objectives={p.name.lower(): objectives.limit_s(p.name.lower()) for p in Priority},
    )


def tally(ledger: Tables) -> Tally:
    """Counts over all that the ledger ever held: they take longer as it grows, and change little in some seconds."""
    with ledger.begin(reads_only=True) as db:
        return Tally(
            jobs={str(state): int(count) for state, count in db.execute(_counted(t.jobs.c.state))},
            studies=int(db.execute(select(func.count()).where(t.studies.c.study_uid != "")).scalar_one()),  # not erased
            verdicts=_verdicts(db),
            deliveries=_deliveries(db),
            attempts={str(o): int(n) for o, n in db.execute(_counted(t.attempts.c.outcome))},
        )


def status(ledger: Tables, now: float, *, counted: Tally | None = None) -> Status:
    """What waits, who works, and what is away.

    ``counted`` is a tally of some moments ago, where the caller keeps one; what waits and is read is counted now.
    """
    kept = tally(ledger) if counted is None else counted
    with ledger.begin(reads_only=True) as db:
        queues = _queues(db, now)
        open_ = {str(s): int(n) for s, n in db.execute(_counted(t.jobs.c.state).where(t.jobs.c.state.in_(OPEN)))}
        arriving = db.execute(select(func.count()).select_from(t.studies).where(t.studies.c.due_at.is_not(None)))
        return Status(
            **dict(kept)
            | {"jobs": {s.value: (open_ if s.value in OPEN else kept.jobs).get(s.value, 0) for s in JobState}},
            queues=queues,
            queue_depth=sum(item.depth for item in queues),
            oldest_waiting_s=max((item.oldest_s for item in queues), default=0.0),
            studies_arriving=int(arriving.scalar_one()),
            workers=_workers(db, now),
            models=_models(db),
            destinations=_destinations(db, now, {item.destination for item in kept.deliveries}),
            dead_letters=_dead_letters(db),
            orders_held=held_orders.waiting_count(db),
            merges_held=held_merges.waiting_count(db),
        )


def _queues(db: Connection, now: float) -> tuple[QueueEntry, ...]:
    columns = (t.jobs.c.queue, t.jobs.c.priority)
    waiting = select(*columns, func.count().label("depth"), func.min(t.jobs.c.created_at).label("oldest"))
    waiting = waiting.where(t.jobs.c.state == JobState.PENDING.value).group_by(*columns).order_by(*columns)
    return tuple(
        QueueEntry(
            queue=row.queue,
            priority=Priority(row.priority).name.lower(),
            depth=row.depth,
            oldest_s=round(now - float(row.oldest), 3),
        )
        for row in db.execute(waiting)
    )


def _workers(db: Connection, now: float) -> tuple[WorkerEntry, ...]:
    rows = db.execute(select(t.workers).order_by(t.workers.c.name)).mappings()
    return tuple(WorkerEntry(**row, alive=is_alive(row["seen_at"], now)) for row in rows)


def _destinations(db: Connection, now: float, ever: Set[str]) -> tuple[DestinationEntry, ...]:
    """Each destination that was ever owed anything: what waits, and whether it is away and why."""
    owed = t.deliveries.c.state == DeliveryState.PENDING.value
    columns = (t.deliveries.c.destination, func.count().label("depth"), func.min(t.deliveries.c.created_at).label("o"))
    waiting = {r.destination: r for r in db.execute(select(*columns).where(owed).group_by(columns[0]))}
    gates = {r["name"]: r for r in db.execute(select(t.destinations)).mappings()}
    out = []
    for name in sorted({*ever, *waiting, *gates}):
        row, gate = waiting.get(name), gates.get(name)
        shut = gate if gate and gate["open"] else None
        out.append(
            DestinationEntry(
                name=name,
                pending=row.depth if row else 0,
                oldest_s=round(max(0.0, now - float(row.o)), 3) if row else 0.0,
                away=shut is not None,
                since=shut["since"] if shut else None,
                reason=shut["reason"] if shut else "",
            )
        )
    return tuple(out)


def _counted(*columns: Any) -> Select[Any]:
    return select(*columns, func.count()).group_by(*columns).order_by(*columns)


def _deliveries(db: Connection) -> tuple[DeliveryCount, ...]:
    """How many deliveries to each destination stand where."""
    rows = db.execute(_counted(t.deliveries.c.destination, t.deliveries.c.state))
    return tuple(DeliveryCount(destination=name, state=state, count=count) for name, state, count in rows)


def _dead_letters(db: Connection) -> dict[str, int]:
    dead = and_(t.jobs.c.state == JobState.FAILED.value, t.jobs.c.failure != Failure.DELIVERY.value)
    parked = t.deliveries.c.state == DeliveryState.PARKED.value
    return {
        "reading": int(db.execute(select(func.count()).select_from(t.jobs).where(dead)).scalar_one()),
        "delivery": int(db.execute(select(func.count()).select_from(t.deliveries).where(parked)).scalar_one()),
    }


def _verdicts(db: Connection) -> tuple[VerdictCount, ...]:
    """How many readings of each model came to each verdict; as many rows as there are models, times three at most."""
    rows = db.execute(_counted(t.jobs.c.model, t.jobs.c.verdict).where(t.jobs.c.verdict.is_not(None)))
    return tuple(VerdictCount(model=model, verdict=verdict, count=count) for model, verdict, count in rows)


def known_models(ledger: Tables) -> tuple[ModelEntry, ...]:
    """The models that workers announced."""
    with ledger.begin(reads_only=True) as db:
        return _models(db)


def known_model(ledger: Tables, name: str) -> ModelEntry | None:
    """What workers said of a model; None where none told of it."""
    with ledger.begin(reads_only=True) as db:
        row = db.execute(select(t.models).where(t.models.c.name == name)).mappings().first()
    return ModelEntry(**row) if row else None


def _models(db: Connection) -> tuple[ModelEntry, ...]:
    return tuple(ModelEntry(**row) for row in db.execute(select(t.models).order_by(t.models.c.name)).mappings())


def overdue(ledger: Tables, now: float, limit_s: Callable[[str], float]) -> dict[str, int]:
    """Readings that are not over and have been under way for longer than their priority's objective, by priority."""
    arrived = and_(t.stamps.c.job_id == t.jobs.c.id, t.stamps.c.name == StampName.LAST_INSTANCE.value)
    open_ = t.jobs.c.state.in_(OPEN)  # by the index: few of very many
    query = select(t.jobs.c.priority, func.coalesce(t.stamps.c.at, t.jobs.c.created_at)).outerjoin(t.stamps, arrived)
    found = {priority.name.lower(): 0 for priority in Priority}
    with ledger.begin(reads_only=True) as db:
        for priority, since in db.execute(query.where(open_)):
            name = Priority(priority).name.lower()
            found[name] += now - float(since) > limit_s(name)
    return found


def arrivals(ledger: Tables, now: float, *, hours: int = 24) -> tuple[HourOfArrivals, ...]:
    """Studies by the hour of their last image, the last 24 hours, oldest first."""
    start = now - hours * 3600.0
    slot = func.floor((t.studies.c.last_instance_at - start) / 3600.0)
    query = select(slot, func.count()).where(t.studies.c.last_instance_at >= start).group_by(slot)
    with ledger.begin(reads_only=True) as db:
        found = {int(hour): int(count) for hour, count in db.execute(query)}
    return tuple(HourOfArrivals(since=start + hour * 3600.0, studies=found.get(hour, 0)) for hour in range(hours))
