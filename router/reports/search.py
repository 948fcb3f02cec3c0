"""Find studies among very many: filtered and paged in the database, newest first. Nothing here writes.

A page begins after the last study of the page before, not at a count: it stays right while studies arrive, and the
last page costs what the first does. Next: story.py (one study's story).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field
from sqlalchemy import Connection, Select, and_, or_, select, union

from medai.router.contract import JobState, Priority
from medai.router.errors import MedaiError
from medai.router.ledger import schema as t
from medai.router.reports.report import Report, Tables
from medai.router.reports.story import STUDY, StudyHead

MAYBE_UID = re.compile(r"[0-9.]{1,64}")
MAYBE_JOB = re.compile(r"[0-9a-f-]{1,36}")
FEW = 2000
"""What is looked up one by one; of more than these the newest lie close."""
MARK = re.compile(r"^([0-9]{1,12}(?:\.[0-9]{1,12})?):([0-9]{1,9})$")
"""Where a page ends: the last study's moment and number."""


class SearchFault(MedaiError):
    """A search that can't be made; the text says why."""


class ReadingHead(Report):
    """A reading, as a list shows it."""

    job_id: str
    route: str
    model: str
    model_version: str
    state: JobState
    failure: str
    reason: str
    priority: str
    revision: int
    verdict: str | None
    created_at: float
    finished_at: float | None


READING = tuple(name for name in ReadingHead.model_fields if name != "job_id")


class FoundStudy(StudyHead):
    """A study with its readings, newest first."""

    readings: tuple[ReadingHead, ...]


class StudyPage(Report):
    """Some of the studies found, newest first."""

    studies: tuple[FoundStudy, ...]
    next: str | None = Field(description="Give this as after for the next page; null: this is the last one.")


@dataclass(frozen=True, kw_only=True)
class Search:
    """What to look for; what is empty does not count."""

    text: str = ""
    """The beginning of an accession number, of a Study Instance UID or of a job id."""
    route: str = ""
    state: JobState | None = None
    """Of the study's newest readings."""
    priority: Priority | None = None
    since: float | None = None
    """Last image at this moment (seconds since the epoch) or later."""
    until: float | None = None


def find(ledger: Tables, wanted: Search, *, limit: int = 50, after: str | None = None) -> StudyPage:
    """One page of the studies that fit, each with its readings. Raises SearchFault for an ``after`` of no page."""
    query = select(*(t.studies.c[name] for name in STUDY)).where(*_conditions(wanted))
    if after:
        query = query.where(_behind(after))
    query = query.order_by(t.studies.c.last_instance_at.desc(), t.studies.c.id.desc()).limit(limit + 1)
    with ledger.begin(reads_only=True) as db:
        for some, each in (_wanted_readings(wanted), _named(wanted.text.strip())):
            if some is not None:
                found = db.execute(some.limit(FEW + 1)).scalars().all()
                query = query.where(t.studies.c.id.in_(found) if len(found) <= FEW else each)
        rows = db.execute(query).mappings().all()
        more, rows = len(rows) > limit, rows[:limit]
        readings = _readings(db, [row["id"] for row in rows])
    studies = tuple(FoundStudy(**row, readings=tuple(readings.get(row["id"], ()))) for row in rows)
    return StudyPage(studies=studies, next=f"{rows[-1]['last_instance_at']!r}:{rows[-1]['id']}" if more else None)


def _conditions(wanted: Search) -> list[Any]:
    found: list[Any] = [t.studies.c.study_uid != ""]  # an erased one has only its number
    if wanted.since is not None:
        found.append(t.studies.c.last_instance_at >= wanted.since)
    if wanted.until is not None:
        found.append(t.studies.c.last_instance_at < wanted.until)
    return found


Narrowed = tuple[Select[Any] | None, Any]
"""The numbers of the studies that fit, and whether a study fits, to be asked of each; None: all do.

Few are looked up; of many the newest are met soon on the way from the newest study on.
"""


def _wanted_readings(wanted: Search) -> Narrowed:
    found: list[Any] = []
    if wanted.route:
        found.append(t.jobs.c.route == wanted.route)
    if wanted.state is not None:
        found.append(t.jobs.c.state == wanted.state.value)
    if wanted.priority is not None:
        found.append(t.jobs.c.priority == int(wanted.priority))
    if not found:
        return None, None
    some = select(t.jobs.c.study_id).where(*found)
    return some, some.where(t.jobs.c.study_id == t.studies.c.id).correlate(t.studies).exists()


def _named(text: str) -> Narrowed:
    """By the beginning of a name. Each name is sought where it can be: a scan, but of an index that holds no more."""
    if not text:
        return None, None
    other = t.studies.alias("other")
    some: list[Select[Any]] = [select(other.c.id).where(other.c.accession.startswith(text, autoescape=True))]
    each = [t.studies.c.accession.startswith(text, autoescape=True)]
    if MAYBE_UID.fullmatch(text):
        some.append(select(other.c.id).where(other.c.study_uid.startswith(text, autoescape=True)))
        each.append(t.studies.c.study_uid.startswith(text, autoescape=True))
    if MAYBE_JOB.fullmatch(text.lower()):
        low, job_id = text.lower(), t.jobs.c.id
        between = and_(job_id >= low, job_id <= low + "g")  # by the index, however letters are ordered
        jobs = select(t.jobs.c.study_id).where(between, job_id.startswith(low, autoescape=True))
        some.append(jobs)
        each.append(t.studies.c.id.in_(jobs))
    ids = union(*some).subquery()
    return select(ids.c[0]), or_(*each)


def _behind(after: str) -> Any:
    mark = MARK.match(after)
    if mark is None:
        raise SearchFault("after: give the previous page's next")
    at, study_id = float(mark[1]), int(mark[2])
    c = t.studies.c
    return or_(c.last_instance_at < at, and_(c.last_instance_at == at, c.id < study_id))


def _readings(db: Connection, study_ids: Sequence[int]) -> dict[int, list[ReadingHead]]:
    """Each study's readings, newest revision first."""
    columns = (t.jobs.c.study_id, t.jobs.c.id.label("job_id"), *(t.jobs.c[name] for name in READING))
    query = select(*columns).where(t.jobs.c.study_id.in_(study_ids))
    out: dict[int, list[ReadingHead]] = {}
    for row in db.execute(query.order_by(t.jobs.c.created_at.desc(), t.jobs.c.id)).mappings():
        told = {**row, "priority": Priority(row["priority"]).name.lower()}
        out.setdefault(told.pop("study_id"), []).append(ReadingHead(**told))
    return out
