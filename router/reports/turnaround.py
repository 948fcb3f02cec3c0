"""How long readings took: each stage and the whole, of many, in groups. Nothing here writes.

Next: router/stages.py (the arithmetic), metrics/collector.py (the same for Prometheus).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import and_, func, select

from medai.router.contract import FINAL_STATES, JobState, Priority, StampName
from medai.router.ledger import schema as t
from medai.router.reports.report import Report, Tables
from medai.router.stages import HEADLINE, STAGES, Percentiles, percentiles, stages_of, turnaround_of

Group = Literal["route", "modality", "priority"]


@dataclass(frozen=True, kw_only=True)
class FinishedReading:
    """A reading that ended, and its moments."""

    id: str
    route: str
    modality: str
    priority: str
    state: str
    failure: str
    finished_at: float
    stamps: Mapping[str, float]


class TurnaroundGroup(Report):
    """How long a group of readings took."""

    group: str
    done: int
    failed: int
    turnaround: Percentiles
    stages: dict[str, Percentiles]


def finished_stamps(ledger: Tables, *, since: float, limit: int = 100_000) -> list[FinishedReading]:
    """Readings that ended since a moment, in the order in which they did."""
    done = and_(t.jobs.c.finished_at >= since, t.jobs.c.state.in_([s.value for s in FINAL_STATES]))
    columns = [t.jobs.c[name] for name in ("id", "route", "modality", "priority", "state", "failure", "finished_at")]
    query = select(*columns).where(done).order_by(t.jobs.c.finished_at).limit(limit)
    stamped = select(t.stamps).join(t.jobs, t.jobs.c.id == t.stamps.c.job_id).where(done)
    stamps: dict[str, dict[str, float]] = {}
    with ledger.begin(reads_only=True) as db:
        rows = db.execute(query).mappings().all()
        for job_id, name, at in db.execute(stamped):
            stamps.setdefault(str(job_id), {})[str(name)] = float(at)
    return [
        FinishedReading(
            **{**row, "priority": Priority(row["priority"]).name.lower()}, stamps=stamps.get(row["id"], {})
        )
        for row in rows
    ]  # fmt: skip


def turnaround(ledger: Tables, *, since: float, by: Group | None = None) -> list[TurnaroundGroup]:
    """p50, p95 and p99 (seconds) of each stage and of the whole, for each group; only readings that succeeded."""
    groups: dict[str, list[FinishedReading]] = {}
    for reading in finished_stamps(ledger, since=since):
        groups.setdefault(str(getattr(reading, by)) if by else "all", []).append(reading)
    return [_summary(name, readings) for name, readings in sorted(groups.items())]


def _summary(name: str, readings: Sequence[FinishedReading]) -> TurnaroundGroup:
    done = [reading for reading in readings if reading.state == JobState.DONE.value]
    stages: dict[str, list[float]] = {}
    for reading in done:
        for stage, length_s in stages_of(reading.stamps).items():
            stages.setdefault(stage, []).append(length_s)
    whole = [whole_s for reading in done if (whole_s := turnaround_of(reading.stamps)) is not None]
    return TurnaroundGroup(
        group=name,
        done=len(done),
        failed=sum(reading.state == JobState.FAILED.value for reading in readings),
        turnaround=percentiles(whole),
        stages={stage: percentiles(stages[stage]) for stage in STAGES if stage in stages},
    )


def recent_turnaround(ledger: Tables, *, since: float, limit: int = 5000) -> dict[str, Percentiles]:
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
    return {name: percentiles(lengths_s) for name, lengths_s in found.items()}
