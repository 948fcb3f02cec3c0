"""Readings as the ledger holds them: each with its stamps, stages, results and deliveries, and why it was decided so.

Nothing here writes. Next: story.py (one study as a whole), status.py (what waits now), turnaround.py (how long).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import Field
from sqlalchemy import RowMapping, select

from medai.router.contract import JobState, Priority, StampName
from medai.router.ledger import schema as t
from medai.router.reports.report import AsWritten, Report, Tables
from medai.router.stages import stages_of, turnaround_of

LATEST = 200
"""Decisions that are told of a study."""


class ResultObject(AsWritten):
    """An object that a reading left in the archive."""

    kind: str = Field(description="seg, sr or sc")
    sop_uid: str
    series_uid: str
    orthanc_id: str


class MeasuredValue(AsWritten):
    """One number about one segment, or about several together."""

    segment_number: int = Field(description="0 for a total of several segments.")
    segment_name: str
    quantity: str
    value: float
    unit: str = Field(description="UCUM.")


class CheckEntry(AsWritten):
    """One look at a result."""

    name: str
    passed: bool | None = Field(description="null: it could not be made, and the text says why.")
    text: str


class PlausibilityEntry(AsWritten):
    """What the checks of a result came to."""

    verdict: str = Field(description="plausible or check")
    summary: str
    checks: tuple[CheckEntry, ...]


class Acknowledgement(Report):
    """What the RIS said to a reading's ORU."""

    control_id: str
    ack: str
    error: str


class DeliveryEntry(Report):
    """What is owed to a destination, and how it stands; not what is sent."""

    destination: str
    kind: str
    state: str
    attempts: int
    control_id: str
    receipt: str
    error: str
    first_try_at: float | None
    next_try_at: float
    done_at: float | None


class Reading(Report):
    """One reading, with all that happened to it."""

    job_id: str
    study_uid: str
    study_orthanc_id: str
    route: str
    model: str
    model_version: str
    modality: str
    state: JobState
    priority: str
    queue: str
    revision: int
    supersedes: str | None = Field(description="The job id of the revision before.")
    images: int
    attempt: int
    reason: str
    created_at: float
    finished_at: float | None
    next_try_at: float | None
    worker: str | None
    stamps: dict[str, float] = Field(description="Moment of the journey -> when.")
    stages: dict[str, float] = Field(description="Stage -> seconds.")
    turnaround_s: float | None
    quiet_s: float
    results: dict[str, ResultObject]
    measurements: tuple[MeasuredValue, ...]
    warnings: tuple[str, ...]
    verdict: str | None
    plausibility: PlausibilityEntry | None
    oru: Acknowledgement | None
    failure: str
    deliveries: tuple[DeliveryEntry, ...]


class DecisionEntry(Report):
    """What was decided, and why."""

    at: float
    verdict: str
    route: str | None
    reason: str
    job_id: str | None


class AttemptEntry(Report):
    """One try to read."""

    number: int
    worker: str
    started_at: float
    ended_at: float | None
    outcome: str
    error: str


class DeliveryTry(Report):
    """Tries of a delivery that ended alike, one after the other."""

    destination: str
    kind: str
    outcome: str
    text: str
    count: int
    first_at: float
    last_at: float


class ArrivedStudy(Report):
    """What the ledger holds of a study, by its UID."""

    study_uid: str
    orthanc_id: str
    modality: str
    instances: int
    first_instance_at: float
    last_instance_at: float
    complete_at: float | None
    due_at: float | None
    deleted_at: float | None


DELIVERY, DECISION, ATTEMPT, STUDY = (
    tuple(each.model_fields) for each in (DeliveryEntry, DecisionEntry, AttemptEntry, ArrivedStudy)
)


def jobs(
    ledger: Tables,
    *,
    study_uid: str | None = None,
    state: str | None = None,
    job_id: str | None = None,
    study_id: int | None = None,
    limit: int = 50,
) -> list[Reading]:
    """Readings, newest first, with stamps, stages, results and what the RIS said; ``job_id``: or its beginning."""
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
        rows = db.execute(query).mappings().all()
        names = [row["id"] for row in rows]
        stamps = _by_job(db.execute(select(t.stamps).where(t.stamps.c.job_id.in_(names))).mappings())
        owed = _by_job(db.execute(select(t.deliveries).where(t.deliveries.c.job_id.in_(names))).mappings())
    return [_reading(row, stamps.get(row["id"], []), owed.get(row["id"], [])) for row in rows]


def _by_job(rows: Iterable[RowMapping]) -> dict[str, list[RowMapping]]:
    out: dict[str, list[RowMapping]] = {}
    for row in rows:
        out.setdefault(str(row["job_id"]), []).append(row)
    return out


def _reading(row: RowMapping, stamps: Sequence[RowMapping], owed: Sequence[RowMapping]) -> Reading:
    order = {name.value: index for index, name in enumerate(StampName)}
    moments = {str(s["name"]): float(s["at"]) for s in sorted(stamps, key=lambda s: order.get(str(s["name"]), 99))}
    ris = next((item for item in owed if (item["destination"], item["kind"]) == ("ris", "result")), None)
    waits = row["state"] == JobState.PENDING.value and row["not_before"]
    return Reading(
        job_id=row["id"],
        study_uid=row["study_uid"],
        study_orthanc_id=row["study_orthanc_id"],
        route=row["route"],
        model=row["model"],
        model_version=row["model_version"],
        modality=row["modality"],
        state=row["state"],
        priority=Priority(row["priority"]).name.lower(),
        queue=row["queue"],
        revision=row["revision"],
        supersedes=row["predecessor"],
        images=row["sources_count"],
        attempt=row["attempts"],
        reason=row["reason"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
        next_try_at=row["not_before"] if waits else None,
        worker=row["lease_owner"],
        stamps=moments,
        stages=stages_of(moments),
        turnaround_s=turnaround_of(moments),
        quiet_s=row["quiet_s"],
        results=row["results"] or {},
        measurements=row["measurements"] or (),
        warnings=row["warnings"] or (),
        verdict=row["verdict"],
        plausibility=row["plausibility"],
        oru=Acknowledgement(control_id=ris["control_id"], ack=ris["receipt"], error=ris["error"]) if ris else None,
        failure=row["failure"],
        deliveries=tuple(
            DeliveryEntry(**{name: item[name] for name in DELIVERY}) for item in sorted(owed, key=lambda o: o["id"])
        ),
    )


def decisions(
    ledger: Tables,
    *,
    study_uid: str | None = None,
    job_id: str | None = None,
    study_id: int | None = None,
    limit: int = LATEST,
) -> list[DecisionEntry]:
    """What was decided, oldest first, with reasons."""
    query = select(*(t.decisions.c[name] for name in DECISION)).join(
        t.studies, t.studies.c.id == t.decisions.c.study_id
    )
    if study_uid:
        query = query.where(t.studies.c.study_uid == study_uid)
    if study_id is not None:
        query = query.where(t.decisions.c.study_id == study_id)
    if job_id:
        mine = select(t.jobs.c.study_id).where(t.jobs.c.id == job_id).scalar_subquery()
        query = query.where(t.decisions.c.study_id == mine)
    with ledger.begin(reads_only=True) as db:
        rows = db.execute(query.order_by(t.decisions.c.at.desc(), t.decisions.c.id.desc()).limit(limit)).mappings()
        return [DecisionEntry(**row) for row in rows][::-1]


def attempts(ledger: Tables, job_id: str) -> list[AttemptEntry]:
    """Every attempt at a job, oldest first."""
    columns = [t.attempts.c[name] for name in ATTEMPT]
    query = select(*columns).where(t.attempts.c.job_id == job_id).order_by(t.attempts.c.id)
    with ledger.begin(reads_only=True) as db:
        return [AttemptEntry(**row) for row in db.execute(query).mappings()]


def delivery_tries(ledger: Tables, job_id: str) -> list[DeliveryTry]:
    """What came of every try at a job's deliveries, oldest first."""
    columns = [t.delivery_tries.c[name] for name in ("outcome", "text", "count", "first_at", "last_at")]
    query = select(t.deliveries.c.destination, t.deliveries.c.kind, *columns).join(t.deliveries)
    query = query.where(t.deliveries.c.job_id == job_id).order_by(t.delivery_tries.c.id)
    with ledger.begin(reads_only=True) as db:
        return [DeliveryTry(**row) for row in db.execute(query).mappings()]


def study(ledger: Tables, study_uid: str) -> ArrivedStudy | None:
    """What the ledger holds of one study."""
    query = select(*(t.studies.c[name] for name in STUDY)).where(t.studies.c.study_uid == study_uid)
    with ledger.begin(reads_only=True) as db:
        row = db.execute(query).mappings().first()
    return ArrivedStudy(**row) if row else None
