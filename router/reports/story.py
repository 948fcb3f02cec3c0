"""One study as a whole: what arrived, what was decided, its readings with every try, what people did. Read only.

Next: readings.py (the readings), agreement.py (what readers made of them), search.py (how a study is found).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field
from sqlalchemy import select

from medai.router.files.parcel import is_parcel
from medai.router.ledger import schema as t
from medai.router.reports import agreement, readings
from medai.router.reports.agreement import EditEntry
from medai.router.reports.readings import (
    AttemptEntry,
    DecisionEntry,
    DeliveryTry,
    Reading,
    ResultObject,
)
from medai.router.reports.report import Report, Tables

MOST = 200
"""Readings of one study that are told: the newest."""


class StudyHead(Report):
    """What arrived of a study."""

    id: int
    study_uid: str
    orthanc_id: str
    accession: str
    modality: str
    instances: int
    first_instance_at: float
    last_instance_at: float
    complete_at: float | None
    due_at: float | None
    deleted_at: float | None


class ToldReading(Reading):
    """A reading with every try, and what readers made of it."""

    attempts: tuple[AttemptEntry, ...]
    delivery_tries: tuple[DeliveryTry, ...]
    edits: tuple[EditEntry, ...] = Field(description="What readers made of it, as in /api/edits.")


class JobStory(Reading):
    """A reading with what was decided about its study, and every attempt at it."""

    decisions: tuple[DecisionEntry, ...]
    attempts: tuple[AttemptEntry, ...]


class ActionEntry(Report):
    """What somebody did or asked to see."""

    id: int
    at: float
    account: str
    action: str
    study_id: int | None
    job_id: str | None
    detail: str
    address: str | None = Field(description="Where they acted from; none of a command's and of the system's lines.")


class Story(StudyHead):
    """All that is known of one study."""

    decisions: tuple[DecisionEntry, ...]
    readings: tuple[ToldReading, ...]
    actions: tuple[ActionEntry, ...]


class SentMessage(Report):
    """What was written for a destination, as it is sent, and what came back."""

    destination: str
    kind: str
    control_id: str
    state: str
    text: str
    receipt: str
    done_at: float | None


@dataclass(frozen=True, kw_only=True)
class ReadObjects:
    """What one reading read, and left in the archive."""

    job_id: str
    study_id: int
    study_uid: str
    series: Sequence[str]
    """Orthanc's ids of the series that it read."""
    results: Mapping[str, ResultObject]


TOLD_ELSEWHERE = frozenset({"reading", "delivered"})
"""Lines of the audit trail that a study's story tells as its readings and their deliveries."""
STUDY, ACTION = tuple(StudyHead.model_fields), tuple(ActionEntry.model_fields)


def study(ledger: Tables, study_id: int) -> StudyHead | None:
    """What arrived of one study; None where there is none of this number."""
    query = select(*(t.studies.c[name] for name in STUDY)).where(t.studies.c.id == study_id)
    with ledger.begin(reads_only=True) as db:
        row = db.execute(query).mappings().first()
    return StudyHead(**row) if row else None


def study_number(ledger: Tables, study_uid: str) -> int | None:
    """The newest study of this UID; None where the ledger knows none."""
    c = t.studies.c
    with ledger.begin(reads_only=True) as db:
        found = db.scalar(select(c.id).where(c.study_uid == study_uid).order_by(c.id.desc()).limit(1))
    return None if found is None else int(found)


def read_objects(ledger: Tables, job_id: str) -> ReadObjects | None:
    """What one reading read and left; None where there is none of this id."""
    j = t.jobs.c
    query = select(j.id.label("job_id"), j.study_id, t.studies.c.study_uid, j.series, j.results)
    with ledger.begin(reads_only=True) as db:
        row = db.execute(query.join(t.studies).where(j.id == job_id)).mappings().first()
    if row is None:
        return None
    results = {kind: ResultObject(**item) for kind, item in (row["results"] or {}).items()}
    return ReadObjects(**{**row, "results": results})


def messages(ledger: Tables, job_id: str) -> list[SentMessage]:
    """What of one reading was written for a destination, where that is a message in words and no DICOM."""
    d = t.deliveries.c
    columns = (d.destination, d.kind, d.control_id, d.state, d.payload, d.receipt, d.done_at)
    query = select(*columns).where(d.job_id == job_id, d.payload.is_not(None)).order_by(d.id)
    with ledger.begin(reads_only=True) as db:
        rows = [dict(row) for row in db.execute(query).mappings()]
    rows = [row for row in rows if not is_parcel(row["payload"])]
    return [SentMessage(text=bytes(row.pop("payload")).decode("utf-8", errors="replace"), **row) for row in rows]


def actions(
    ledger: Tables, *, study_id: int | None = None, before: int | None = None, limit: int = 100,
    besides: frozenset[str] = frozenset(),
) -> list[ActionEntry]:  # fmt: skip
    """The audit trail, newest first; ``before``: below this number; ``besides``: actions that are left out."""
    query = select(*(t.audit.c[name] for name in ACTION)).order_by(t.audit.c.id.desc())
    if study_id is not None:
        query = query.where(t.audit.c.study_id == study_id)
    if before is not None:
        query = query.where(t.audit.c.id < before)
    if besides:
        query = query.where(t.audit.c.action.not_in(besides))
    with ledger.begin(reads_only=True) as db:
        return [ActionEntry(**row) for row in db.execute(query.limit(limit)).mappings()]


def story(ledger: Tables, study_id: int) -> Story | None:
    """All that the ledger knows of one study; None where there is none of this number."""
    known = study(ledger, study_id)
    if known is None:
        return None
    return Story(
        **dict(known),
        decisions=tuple(readings.decisions(ledger, study_id=study_id)),
        readings=tuple(_told(ledger, each) for each in readings.jobs(ledger, study_id=study_id, limit=MOST)),
        actions=tuple(  # where colleagues sit is for who reads the audit trail
            each.model_copy(update={"address": None})
            for each in actions(ledger, study_id=study_id, besides=TOLD_ELSEWHERE)
        ),
    )


def _told(ledger: Tables, reading: Reading) -> ToldReading:
    return ToldReading(
        **dict(reading),
        attempts=tuple(readings.attempts(ledger, reading.job_id)),
        delivery_tries=tuple(readings.delivery_tries(ledger, reading.job_id)),
        edits=tuple(agreement.edits(ledger, job_id=reading.job_id)),
    )


def job_story(ledger: Tables, reading: Reading) -> JobStory:
    """A reading with what was decided about its study, and every attempt at it."""
    return JobStory(
        **dict(reading),
        decisions=tuple(readings.decisions(ledger, job_id=reading.job_id)),
        attempts=tuple(readings.attempts(ledger, reading.job_id)),
    )
