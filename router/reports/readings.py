"""Read the ledger for people: jobs, a job's story, the state of the queue, turnaround. Nothing here writes.

Durations are seconds between stamps (docs/standards.md, section 6). The headline is last instance -> ORU acknowledged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, func, select

from medai.router.contract import FINAL_STATES, DeliveryState, Failure, JobState, Priority, StampName
from medai.router.ledger import Ledger
from medai.router.ledger import schema as t

STAGES: Mapping[str, tuple[StampName, StampName]] = {
    "order_to_acquisition": (StampName.ORDERED, StampName.ACQUIRED),
    "acquisition_to_received": (StampName.ACQUIRED, StampName.FIRST_INSTANCE),
    "receiving": (StampName.FIRST_INSTANCE, StampName.LAST_INSTANCE),
    "completeness_wait": (StampName.LAST_INSTANCE, StampName.STUDY_COMPLETE),
    "routing": (StampName.STUDY_COMPLETE, StampName.ENQUEUED),
    "queue_wait": (StampName.ENQUEUED, StampName.STARTED),
    "fetch": (StampName.STARTED, StampName.FETCHED),
    "prepare": (StampName.FETCHED, StampName.PREPARED),
    "infer": (StampName.PREPARED, StampName.INFERRED),
    "encode": (StampName.INFERRED, StampName.ENCODED),
    "store": (StampName.ENCODED, StampName.STORED),
    "deliver": (StampName.STORED, StampName.ORU_ACKNOWLEDGED),
}
"""Stage -> the two stamps it lies between, in the order of the journey."""
CLOCK_S = 1.0
"""Clocks of two machines may differ by this much before a stage counts as senseless."""
HEADLINE = (StampName.LAST_INSTANCE, StampName.ORU_ACKNOWLEDGED)
OPEN = tuple(s.value for s in JobState if s not in FINAL_STATES)
ALIVE_S = 20.0
"""A worker that was not heard of for longer counts as gone."""
DELIVERY = (
    "destination", "kind", "state", "attempts", "control_id", "receipt", "error", "first_try_at", "next_try_at",
    "done_at",
)  # fmt: skip
"""What is told of a delivery; its payload is not."""
GROUPS = ("route", "modality", "priority")


def stages_of(stamps: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each stage whose two stamps exist and follow each other.

    An order that was written after its images (old images sent again) says nothing of the way between them.
    """
    lengths = {
        name: round(stamps[end] - stamps[start], 4)
        for name, (start, end) in STAGES.items()
        if start in stamps and end in stamps
    }
    return {name: length for name, length in lengths.items() if length > -CLOCK_S}


def turnaround_of(stamps: Mapping[str, float]) -> float | None:
    """Seconds from the last instance to the ORU's acknowledgement (to STORED where no RIS is configured)."""
    start = stamps.get(HEADLINE[0])
    end = stamps.get(HEADLINE[1], stamps.get(StampName.STORED))
    return None if start is None or end is None else round(end - start, 4)


def jobs(
    ledger: Ledger,
    *,
    study_uid: str | None = None,
    state: str | None = None,
    job_id: str | None = None,
    study_id: int | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Jobs, newest first, with stamps, stages, results and what the RIS said."""
    query = select(t.jobs, t.studies.c.study_uid, t.studies.c.orthanc_id.label("study_orthanc_id")).join(t.studies)
    if study_uid:
        query = query.where(t.studies.c.study_uid == study_uid)
    if state:
        query = query.where(t.jobs.c.state == state)
    if job_id:
        query = query.where(t.jobs.c.id.like(f"{job_id}%"))
    if study_id is not None:
        query = query.where(t.jobs.c.study_id == study_id)
    query = query.order_by(t.jobs.c.created_at.desc()).limit(limit)
    with ledger.begin(reads_only=True) as db:
        rows = [dict(row) for row in db.execute(query).mappings()]
        names = [row["id"] for row in rows]
        stamps = _grouped(db.execute(select(t.stamps).where(t.stamps.c.job_id.in_(names))).mappings())
        owed = _grouped(db.execute(select(t.deliveries).where(t.deliveries.c.job_id.in_(names))).mappings())
    return [_job(row, stamps.get(row["id"], []), owed.get(row["id"], [])) for row in rows]


def _grouped(rows: Iterable[RowMapping]) -> dict[str, list[dict[str, Any]]]:
    out: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        out.setdefault(str(row["job_id"]), []).append(dict(row))
    return out


def _job(
    row: Mapping[str, Any], stamps: Sequence[Mapping[str, Any]], owed: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    order = {name.value: index for index, name in enumerate(StampName)}
    moments = {str(s["name"]): float(s["at"]) for s in sorted(stamps, key=lambda s: order.get(str(s["name"]), 99))}
    ris = next((item for item in owed if (item["destination"], item["kind"]) == ("ris", "result")), None)
    return {
        "job_id": row["id"],
        "study_uid": row["study_uid"],
        "study_orthanc_id": row["study_orthanc_id"],
        "route": row["route"],
        "model": row["model"],
        "model_version": row["model_version"],
        "modality": row["modality"],
        "state": row["state"],
        "priority": Priority(row["priority"]).name.lower(),
        "queue": row["queue"],
        "revision": row["revision"],
        "supersedes": row["predecessor"],
        "images": row["sources_count"],
        "attempt": row["attempts"],
        "reason": row["reason"],
        "created_at": row["created_at"],
        "finished_at": row["finished_at"],
        "next_try_at": row["not_before"] if row["state"] == JobState.PENDING.value and row["not_before"] else None,
        "worker": row["lease_owner"],
        "stamps": moments,
        "stages": stages_of(moments),
        "turnaround_s": turnaround_of(moments),
        "quiet_s": row["quiet_s"],
        "results": row["results"] or {},
        "measurements": row["measurements"] or [],
        "warnings": row["warnings"] or [],
        "verdict": row["verdict"],
        "plausibility": row["plausibility"],
        "oru": {"control_id": ris["control_id"], "ack": ris["receipt"], "error": ris["error"]} if ris else None,
        "failure": row["failure"],
        "deliveries": [{k: item[k] for k in DELIVERY} for item in sorted(owed, key=lambda item: item["id"])],
    }


def decisions(
    ledger: Ledger,
    *,
    study_uid: str | None = None,
    job_id: str | None = None,
    study_id: int | None = None,
    limit: int = 200,
) -> list[dict[str, Any]]:
    """What was decided, oldest first, with reasons."""
    columns = (t.decisions.c.at, t.decisions.c.verdict, t.decisions.c.route, t.decisions.c.reason, t.decisions.c.job_id)
    query = select(*columns).join(t.studies, t.studies.c.id == t.decisions.c.study_id)
    if study_uid:
        query = query.where(t.studies.c.study_uid == study_uid)
    if study_id is not None:
        query = query.where(t.decisions.c.study_id == study_id)
    if job_id:
        mine = select(t.jobs.c.study_id).where(t.jobs.c.id == job_id).scalar_subquery()
        query = query.where(t.decisions.c.study_id == mine)
    with ledger.begin(reads_only=True) as db:
        rows = db.execute(query.order_by(t.decisions.c.at.desc(), t.decisions.c.id.desc()).limit(limit)).mappings()
        return [dict(row) for row in rows][::-1]


def attempts(ledger: Ledger, job_id: str) -> list[dict[str, Any]]:
    """Every attempt at a job, oldest first."""
    columns = [t.attempts.c[name] for name in ("number", "worker", "started_at", "ended_at", "outcome", "error")]
    query = select(*columns).where(t.attempts.c.job_id == job_id).order_by(t.attempts.c.id)
    with ledger.begin(reads_only=True) as db:
        return [dict(row) for row in db.execute(query).mappings()]


def study(ledger: Ledger, study_uid: str) -> dict[str, Any] | None:
    """What the ledger holds of one study."""
    names = (
        "study_uid",
        "orthanc_id",
        "modality",
        "instances",
        "first_instance_at",
        "last_instance_at",
        "complete_at",
        "due_at",
        "deleted_at",
    )
    query = select(*(t.studies.c[name] for name in names)).where(t.studies.c.study_uid == study_uid)
    with ledger.begin(reads_only=True) as db:
        row = db.execute(query).mappings().first()
    return dict(row) if row else None


def tally(ledger: Ledger) -> dict[str, Any]:
    """Counts over all that the ledger ever held: they take longer as it grows, and change little in some seconds."""
    with ledger.begin(reads_only=True) as db:
        return {
            "jobs": {str(state): int(count) for state, count in db.execute(_counted(t.jobs.c.state))},
            "studies": int(db.execute(select(func.count()).select_from(t.studies)).scalar_one()),
            "verdicts": _verdicts(db),
            "deliveries": _deliveries(db),
            "attempts": {str(o): int(n) for o, n in db.execute(_counted(t.attempts.c.outcome))},
        }


def status(ledger: Ledger, now: float, *, counted: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The queue by priority, jobs by state, studies still arriving, workers, models, and verdicts on results.

    ``counted`` is a tally of some moments ago, where the caller keeps one; what waits and is read is counted now.
    """
    kept = tally(ledger) if counted is None else counted
    pending = t.jobs.c.state == JobState.PENDING.value
    depth = (
        select(t.jobs.c.queue, t.jobs.c.priority, func.count().label("depth"), func.min(t.jobs.c.created_at).label("o"))
        .where(pending)
        .group_by(t.jobs.c.queue, t.jobs.c.priority)
        .order_by(t.jobs.c.queue, t.jobs.c.priority)
    )
    with ledger.begin(reads_only=True) as db:
        queues = [
            {
                "queue": r.queue,
                "priority": Priority(r.priority).name.lower(),
                "depth": int(r.depth),
                "oldest_s": round(now - float(r.o), 3),
            }
            for r in db.execute(depth)
        ]
        open_ = {str(s): int(n) for s, n in db.execute(_counted(t.jobs.c.state).where(t.jobs.c.state.in_(OPEN)))}
        arriving = db.execute(select(func.count()).select_from(t.studies).where(t.studies.c.due_at.is_not(None)))
        people = [dict(r) for r in db.execute(select(t.workers).order_by(t.workers.c.name)).mappings()]
        known = _models(db)
        return {
            **kept,
            "queues": queues,
            "queue_depth": sum(item["depth"] for item in queues),
            "oldest_waiting_s": max((item["oldest_s"] for item in queues), default=0.0),
            "jobs": {s.value: (open_ if s.value in OPEN else kept["jobs"]).get(s.value, 0) for s in JobState},
            "studies_arriving": int(arriving.scalar_one()),
            "workers": [{**item, "alive": now - item["seen_at"] < ALIVE_S} for item in people],
            "models": known,
            "destinations": _destinations(db, now, {item["destination"] for item in kept["deliveries"]}),
            "dead_letters": _dead_letters(db),
        }


def _destinations(db: Connection, now: float, ever: Set[str]) -> list[dict[str, Any]]:
    """Each destination that was ever owed anything: what waits, and whether it is away and why."""
    owed = t.deliveries.c.state == DeliveryState.PENDING.value
    columns = (t.deliveries.c.destination, func.count().label("depth"), func.min(t.deliveries.c.created_at).label("o"))
    waiting = {r.destination: r for r in db.execute(select(*columns).where(owed).group_by(columns[0]))}
    gates = {r["name"]: r for r in db.execute(select(t.destinations)).mappings()}
    out = []
    for name in sorted({*ever, *waiting, *gates}):
        row, gate = waiting.get(name), gates.get(name)
        out.append(
            {
                "name": name,
                "pending": int(row.depth) if row else 0,
                "oldest_s": round(max(0.0, now - float(row.o)), 3) if row else 0.0,
                "away": bool(gate and gate["open"]),
                "since": gate["since"] if gate and gate["open"] else None,
                "reason": gate["reason"] if gate and gate["open"] else "",
            }
        )
    return out


def _counted(*columns: Any) -> Any:
    return select(*columns, func.count()).group_by(*columns).order_by(*columns)


def _deliveries(db: Connection) -> list[dict[str, Any]]:
    """How many deliveries to each destination stand where."""
    rows = db.execute(_counted(t.deliveries.c.destination, t.deliveries.c.state))
    return [{"destination": name, "state": state, "count": int(count)} for name, state, count in rows]


def overdue(ledger: Ledger, now: float, limit_s: Callable[[str], float]) -> dict[str, int]:
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


def arrivals(ledger: Ledger, now: float, *, hours: int = 24) -> list[dict[str, float]]:
    """Studies by the hour of their last image, the last 24 hours, oldest first."""
    start = now - hours * 3600.0
    slot = func.floor((t.studies.c.last_instance_at - start) / 3600.0)
    query = select(slot, func.count()).where(t.studies.c.last_instance_at >= start).group_by(slot)
    with ledger.begin(reads_only=True) as db:
        found = {int(hour): int(count) for hour, count in db.execute(query)}
    return [{"from": start + hour * 3600.0, "studies": found.get(hour, 0)} for hour in range(hours)]


def _dead_letters(db: Connection) -> dict[str, int]:
    dead = and_(t.jobs.c.state == JobState.FAILED.value, t.jobs.c.failure != Failure.DELIVERY.value)
    parked = t.deliveries.c.state == DeliveryState.PARKED.value
    return {
        "reading": int(db.execute(select(func.count()).select_from(t.jobs).where(dead)).scalar_one()),
        "delivery": int(db.execute(select(func.count()).select_from(t.deliveries).where(parked)).scalar_one()),
    }


def known_models(ledger: Ledger) -> list[dict[str, Any]]:
    """The models that workers announced."""
    with ledger.begin(reads_only=True) as db:
        return _models(db)


def _models(db: Connection) -> list[dict[str, Any]]:
    return [dict(row) for row in db.execute(select(t.models).order_by(t.models.c.name)).mappings()]


def _verdicts(db: Connection) -> list[dict[str, Any]]:
    """How many readings of each model came to each verdict; as many rows as there are models, times three at most."""
    columns = (t.jobs.c.model, t.jobs.c.verdict)
    query = select(*columns, func.count().label("count")).where(t.jobs.c.verdict.is_not(None))
    return [dict(row) for row in db.execute(query.group_by(*columns).order_by(*columns)).mappings()]


def finished_stamps(ledger: Ledger, *, since: float, limit: int = 100_000) -> list[dict[str, Any]]:
    """Finished readings since a moment: route, modality, priority, state and stamps of each."""
    done = and_(t.jobs.c.finished_at >= since, t.jobs.c.state.in_([s.value for s in FINAL_STATES]))
    columns = [t.jobs.c[name] for name in ("id", "route", "modality", "priority", "state", "failure", "finished_at")]
    query = select(*columns).where(done).order_by(t.jobs.c.finished_at).limit(limit)
    with ledger.begin(reads_only=True) as db:
        rows = [dict(row) for row in db.execute(query).mappings()]
        stamped = select(t.stamps).join(t.jobs, t.jobs.c.id == t.stamps.c.job_id).where(done)
        stamps = _grouped(db.execute(stamped).mappings())
    for row in rows:
        row["priority"] = Priority(row["priority"]).name.lower()
        row["stamps"] = {str(s["name"]): float(s["at"]) for s in stamps.get(row["id"], [])}
    return rows


def turnaround(ledger: Ledger, *, since: float, by: str | None = None) -> list[dict[str, Any]]:
    """p50, p95 and p99 (seconds) of each stage and of the whole, for each group; only readings that succeeded."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in finished_stamps(ledger, since=since):
        groups.setdefault(str(row[by]) if by else "all", []).append(row)
    return [_summary(name, rows) for name, rows in sorted(groups.items())]


def recent_turnaround(ledger: Ledger, *, since: float, limit: int = 5000) -> dict[str, dict[str, float | int | None]]:
    """Priority -> count, p50, p95 and p99 (seconds) of the whole way, of the newest readings that succeeded since.

    Bounded, so that a page that shows it stays fast however many studies a hospital reads.
    """
    start, end, stored = (t.stamps.alias(name) for name in ("start", "end", "stored"))
    done = and_(t.jobs.c.state == JobState.DONE.value, t.jobs.c.finished_at >= since)
    newest = select(t.jobs.c.id, t.jobs.c.priority).where(done).order_by(t.jobs.c.finished_at.desc()).limit(limit)
    jobs = newest.subquery()
    query = (
        select(jobs.c.priority, func.coalesce(end.c.at, stored.c.at) - start.c.at)
        .join(start, and_(start.c.job_id == jobs.c.id, start.c.name == HEADLINE[0].value))
        .outerjoin(end, and_(end.c.job_id == jobs.c.id, end.c.name == HEADLINE[1].value))
        .outerjoin(stored, and_(stored.c.job_id == jobs.c.id, stored.c.name == StampName.STORED.value))
    )
    found: dict[str, list[float]] = {}
    with ledger.begin(reads_only=True) as db:
        for priority, length_s in db.execute(query):
            if length_s is not None:
                found.setdefault(Priority(priority).name.lower(), []).append(float(length_s))
    return {name: percentiles(values) for name, values in found.items()}


def _summary(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    done = [row for row in rows if row["state"] == JobState.DONE.value]
    stages: dict[str, list[float]] = {}
    for row in done:
        for stage, seconds in stages_of(row["stamps"]).items():
            stages.setdefault(stage, []).append(seconds)
    whole = [value for row in done if (value := turnaround_of(row["stamps"])) is not None]
    return {
        "group": name,
        "done": len(done),
        "failed": sum(row["state"] == JobState.FAILED.value for row in rows),
        "turnaround": percentiles(whole),
        "stages": {stage: percentiles(stages[stage]) for stage in STAGES if stage in stages},
    }


def percentiles(values: Sequence[float]) -> dict[str, float | int | None]:
    """Count, p50, p95 and p99."""
    ordered = sorted(values)
    out: dict[str, float | int | None] = {"n": len(ordered)}
    for name, share in (("p50_s", 0.50), ("p95_s", 0.95), ("p99_s", 0.99)):
        out[name] = round(quantile(ordered, share), 4) if ordered else None
    return out


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of sorted values, by linear interpolation between order statistics (Hyndman and Fan's type 7)."""
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
