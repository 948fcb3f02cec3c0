"""Find studies among very many: filtered and paged in the database, newest first. Nothing here writes.

A page begins after the last study of the page before, not at a count: it stays right while studies arrive, and the
last page costs what the first does. Next: readings.py (one study's story).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, or_, select, union

from medai.router.contract import JobState, Priority
from medai.router.errors import MedaiError
from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.reports import agreement
from medai.router.reports import readings as reports

STUDY = (
    "id", "study_uid", "orthanc_id", "accession", "modality", "instances", "first_instance_at", "last_instance_at",
    "complete_at", "due_at", "deleted_at",
)  # fmt: skip
READING = (
    "id", "study_id", "route", "model", "model_version", "state", "failure", "reason", "priority", "revision",
    "verdict", "created_at", "finished_at",
)  # fmt: skip


MAYBE_UID = re.compile(r"[0-9.]{1,64}")
MAYBE_JOB = re.compile(r"[0-9a-f-]{1,36}")
FEW = 2000
"""What is looked up one by one; of more than these the newest lie close."""
MARK = re.compile(r"^([0-9]{1,12}(?:\.[0-9]{1,12})?):([0-9]{1,9})$")
"""Where a page ends: the last study's moment and number."""


class SearchFault(MedaiError):
    """A search that can't be made; the text says why."""


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


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some of the studies found, newest first."""

    studies: list[dict[str, Any]]
    next: str | None
    """Give this as ``after`` for the next page; None: this is the last one."""


def find(ledger: Ledger, wanted: Search, *, limit: int = 50, after: str | None = None) -> Page:
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
        rows = [dict(row) for row in db.execute(query).mappings()]
        more, rows = len(rows) > limit, rows[:limit]
        readings = _readings(db, [row["id"] for row in rows])
    for row in rows:
        row["readings"] = readings.get(row["id"], [])
    last = f"{rows[-1]['last_instance_at']!r}:{rows[-1]['id']}" if more else None
    return Page(studies=rows, next=last)


def _conditions(wanted: Search) -> list[Any]:
    found: list[Any] = []
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


def _readings(db: Connection, study_ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """Each study's readings, newest revision first."""
    query = select(*(t.jobs.c[name] for name in READING)).where(t.jobs.c.study_id.in_(study_ids))
    out: dict[int, list[dict[str, Any]]] = {}
    for row in db.execute(query.order_by(t.jobs.c.created_at.desc(), t.jobs.c.id)).mappings():
        out.setdefault(int(row["study_id"]), []).append(_reading(row))
    return out


def _reading(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        **{name: row[name] for name in READING if name not in ("id", "study_id", "priority")},
        "job_id": row["id"],
        "priority": Priority(row["priority"]).name.lower(),
    }


def study(ledger: Ledger, study_id: int) -> dict[str, Any] | None:
    """What arrived of one study; None where there is none of this number."""
    query = select(*(t.studies.c[name] for name in STUDY)).where(t.studies.c.id == study_id)
    with ledger.begin(reads_only=True) as db:
        row = db.execute(query).mappings().first()
    return dict(row) if row else None


def study_number(ledger: Ledger, study_uid: str) -> int | None:
    """The newest study of this UID; None where the ledger knows none."""
    c = t.studies.c
    with ledger.begin(reads_only=True) as db:
        found = db.scalar(select(c.id).where(c.study_uid == study_uid).order_by(c.id.desc()).limit(1))
    return None if found is None else int(found)


def reading(ledger: Ledger, job_id: str) -> dict[str, Any] | None:
    """What one reading read (``series``: Orthanc's ids) and left (``results``); None where there is none of this id."""
    j = t.jobs.c
    query = select(j.id.label("job_id"), j.study_id, t.studies.c.study_uid, j.series, j.results)
    with ledger.begin(reads_only=True) as db:
        row = db.execute(query.join(t.studies).where(j.id == job_id)).mappings().first()
    return {**row, "results": row["results"] or {}} if row else None


def messages(ledger: Ledger, job_id: str) -> list[dict[str, Any]]:
    """What of one reading was written for a destination: ``text`` as it is sent, and the receipt."""
    d = t.deliveries.c
    columns = (d.destination, d.kind, d.control_id, d.state, d.payload, d.receipt, d.done_at)
    query = select(*columns).where(d.job_id == job_id, d.payload.is_not(None)).order_by(d.id)
    with ledger.begin(reads_only=True) as db:
        rows = [dict(row) for row in db.execute(query).mappings()]
    return [{**row, "text": bytes(row.pop("payload")).decode("utf-8", errors="replace")} for row in rows]


def story(ledger: Ledger, study_id: int) -> dict[str, Any] | None:
    """All that the ledger knows of one study: what arrived, decisions, readings with stages and tries."""
    known = study(ledger, study_id)
    if known is None:
        return None
    readings = reports.jobs(ledger, study_id=study_id, limit=200)
    for reading in readings:
        reading["attempts"] = reports.attempts(ledger, reading["job_id"])
        reading["delivery_tries"] = [asdict(tried) for tried in ledger.dead.history(reading["job_id"])]
        reading["edits"] = agreement.edits(ledger, job_id=reading["job_id"])
    return {
        **known,
        "decisions": reports.decisions(ledger, study_id=study_id),
        "readings": readings,
        "actions": [asdict(action) for action in ledger.accounts.actions(study_id=study_id)],
    }
