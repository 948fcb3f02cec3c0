"""What is deployed: each model's card, what its readings came to, and how they look beside its training set. Read only.

Next: drift.py (the measures), console/deployed.py (the page).
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, ValidationError
from sqlalchemy import and_, func, select

from medai.router.contract import StampName
from medai.router.ledger import schema as t
from medai.router.reports.drift import Drift, Figures, Reference, drifts
from medai.router.reports.report import Report, Tables
from medai.router.stages import Percentiles, percentiles

DAYS = 30.0
MOST = 2000
"""Readings that are looked at; the newest."""
UNTOLD = "No worker has announced this version's training set."
UNREADABLE = "What the bundle says of its training set can't be read."


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a version said of itself: text and figures (Markdown), its training set, or why it says nothing of that."""

    text: str = ""
    figures: str = ""
    reference: Reference | None = None
    missing: str = ""


class VersionEntry(Report):
    """A version that has read: how often, and when last."""

    version: str
    readings: int
    last_at: float


class ModelDrift(Report):
    """How a model's readings look beside its training set."""

    model: str
    version: str
    days: float
    readings: int = 0
    quantities: tuple[Drift, ...] = ()
    notes: tuple[str, ...] = ()
    missing: str = Field(default="", description="Why nothing can be compared; empty where it can.")
    dataset: str = ""
    cases: int = 0


def card(ledger: Tables, name: str, version: str) -> ModelCard | None:
    """What a version said of itself; None where no worker has told of it."""
    c = t.model_cards.c
    query = select(c.text, c.figures, c.reference, c.missing).where(c.name == name, c.version == version)
    with ledger.begin(reads_only=True) as db:
        row = db.execute(query).first()
    if row is None:
        return None
    try:
        reference = Reference.model_validate(row.reference) if row.reference else None
        missing = row.missing
    except ValidationError:  # it came with somebody's bundle
        reference, missing = None, UNREADABLE
    return ModelCard(text=row.text, figures=row.figures, reference=reference, missing=missing)


def versions(ledger: Tables, name: str) -> list[VersionEntry]:
    """The versions that have read, newest first: readings of each, and when it read last."""
    j = t.jobs.c
    last = func.max(j.created_at).label("last_at")
    query = select(j.model_version.label("version"), func.count().label("readings"), last).where(j.model == name)
    with ledger.begin(reads_only=True) as db:
        rows = db.execute(query.group_by(j.model_version).order_by(last.desc()).limit(50)).mappings()
        return [VersionEntry(**row) for row in rows]


def reading_times(ledger: Tables, name: str, version: str, since: float) -> Percentiles | None:
    """Of the model's own part (prepared to inferred) in the newest readings; None of none."""
    j, before, after = t.jobs.c, t.stamps.alias("before"), t.stamps.alias("after")
    mine = and_(j.model == name, j.model_version == version, j.created_at >= since)
    newest = select(j.id).where(mine).order_by(j.created_at.desc()).limit(MOST).subquery()
    query = (
        select(after.c.at - before.c.at)
        .join(newest, newest.c.id == before.c.job_id)
        .where(before.c.job_id == after.c.job_id)
        .where(before.c.name == StampName.PREPARED.value, after.c.name == StampName.INFERRED.value)
    )
    with ledger.begin(reads_only=True) as db:
        took = [float(length_s) for length_s in db.execute(query).scalars()]
    return percentiles(took) if took else None


def recent_figures(ledger: Tables, name: str, version: str, since: float) -> list[Figures]:
    """The figures of a version's newest readings."""
    j = t.jobs.c
    query = select(j.figures).where(
        j.model == name, j.model_version == version, j.created_at >= since, j.storing_at.is_not(None)
    )
    with ledger.begin(reads_only=True) as db:
        rows = db.execute(query.order_by(j.created_at.desc()).limit(MOST)).scalars()
        return [dict(row) for row in rows if row]


def drift(ledger: Tables, name: str, version: str, now: float, *, days: float = DAYS) -> ModelDrift:
    """Every quantity of the training set beside the last days' readings; ``missing`` says why there is none."""
    known = card(ledger, name, version) or ModelCard()
    if known.reference is None:
        return ModelDrift(model=name, version=version, days=days, missing=known.missing or UNTOLD)
    rows = recent_figures(ledger, name, version, now - days * 86_400.0)
    return ModelDrift(
        model=name, version=version, days=days, readings=len(rows), notes=known.reference.notes,
        dataset=known.reference.dataset, cases=known.reference.cases,
        quantities=tuple(drifts(known.reference, rows)),
    )  # fmt: skip
