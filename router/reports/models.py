"""What is deployed: each model's card, what its readings came to, and how they look beside its training set. Read only.

Next: drift.py (the measures), console/deployed.py (the page).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import and_, func, select

from medai.router.contract import StampName
from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.reports import readings as reports
from medai.router.reports.drift import drifts

DAYS = 30.0
MOST = 2000
"""Readings that are looked at; the newest."""


def card(ledger: Ledger, name: str, version: str) -> dict[str, Any] | None:
    """What a version said of itself: text and figures (Markdown), reference, or why there is none."""
    c = t.model_cards.c
    with ledger.begin(reads_only=True) as db:
        row = db.execute(select(t.model_cards).where(c.name == name, c.version == version)).mappings().first()
    return dict(row) if row else None


def versions(ledger: Ledger, name: str) -> list[dict[str, Any]]:
    """The versions that have read, newest first: readings of each, and when it read last."""
    j = t.jobs.c
    last = func.max(j.created_at).label("last_at")
    query = select(j.model_version.label("version"), func.count().label("readings"), last).where(j.model == name)
    with ledger.begin(reads_only=True) as db:
        rows = db.execute(query.group_by(j.model_version).order_by(last.desc()).limit(50)).mappings()
        return [dict(row) for row in rows]


def reading_times(ledger: Ledger, name: str, version: str, since: float) -> dict[str, float | int | None] | None:
    """n, p50_s, p95_s, p99_s of the model's own part (prepared to inferred) in the newest readings; None of none."""
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
    return reports.percentiles(took) if took else None


def recent_figures(ledger: Ledger, name: str, version: str, since: float) -> list[dict[str, Any]]:
    """The figures of a version's newest readings."""
    j = t.jobs.c
    query = select(j.figures).where(
        j.model == name, j.model_version == version, j.created_at >= since, j.storing_at.is_not(None)
    )
    with ledger.begin(reads_only=True) as db:
        rows = db.execute(query.order_by(j.created_at.desc()).limit(MOST)).scalars()
        return [dict(row) for row in rows if row]


def drift(ledger: Ledger, name: str, version: str, now: float, *, days: float = DAYS) -> dict[str, Any]:
    """Every quantity of the training set beside the last days' readings; ``missing`` says why there is none."""
    known = card(ledger, name, version)
    reference = (known or {}).get("reference")
    answer: dict[str, Any] = {
        "model": name,
        "version": version,
        "days": days,
        "readings": 0,
        "quantities": [],
        "notes": [],
    }
    if not reference:
        return {
            **answer,
            "missing": (known or {}).get("missing") or "No worker has announced this version's training set.",
        }
    rows = recent_figures(ledger, name, version, now - days * 86_400.0)
    return {
        **answer, "missing": "", "readings": len(rows), "notes": list(reference.get("notes", [])),
        "dataset": reference.get("dataset", ""), "cases": reference.get("cases", 0),
        "quantities": [asdict(each) for each in drifts(reference, rows)],
    }  # fmt: skip
