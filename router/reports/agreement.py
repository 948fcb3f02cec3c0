"""Read the ledger for what readers made of our results: how often, and how far from ours. Nothing here writes.

Differences are the reader's less ours. Of several drawings of one reading the newest counts: a reader saves often.
Next: ledger/edits.py (where the rows come from), console/feedback.py and metrics/collector.py (who shows the sums).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, case, func, select

from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.ledger.edits import EditState
from medai.router.reports.readings import quantile

LOWEST = 10
"""How many of the least alike are named."""
NEWEST = 50_000
"""Comparisons that the report looks at, newest first."""
DICE_BUCKETS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 1.0)
EDIT = (
    "id", "study_id", "job_id", "kind", "named", "tool", "seen_at", "state", "reason", "verdict", "compared_at",
)  # fmt: skip
COMPARISON = (
    "structure", "outcome", "quantity", "unit", "ours", "theirs", "dice", "hd95_mm", "segment", "edited_segment",
)  # fmt: skip
READING = ("model", "model_version", "route")


def edits(
    ledger: Ledger,
    *,
    job_id: str | None = None,
    state: EditState | None = None,
    model: str | None = None,
    since: float | None = None,
    after: int | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Edits, newest first, each with its comparisons; ``after``: those below this number."""
    c, j = t.edits.c, t.jobs.c
    query = select(*(c[name] for name in EDIT), *(j[name] for name in READING)).join(t.jobs, j.id == c.job_id)
    terms = {c.job_id: job_id, c.state: state.value if state else None, j.model: model}
    query = query.where(*(column == value for column, value in terms.items() if value))
    if since is not None:
        query = query.where(c.seen_at >= since)
    if after is not None:
        query = query.where(c.id < after)
    with ledger.begin(reads_only=True) as db:
        rows = [dict(row) for row in db.execute(query.order_by(c.id.desc()).limit(limit)).mappings()]
        k = t.edit_comparisons.c
        parts = select(k.edit_id, *(k[name] for name in COMPARISON)).where(k.edit_id.in_([row["id"] for row in rows]))
        found: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for part in db.execute(parts.order_by(k.id)).mappings():
            found[int(part["edit_id"])].append(_with_difference({name: part[name] for name in COMPARISON}))
    return [{**row, "comparisons": found[row["id"]]} for row in rows]


def _with_difference(row: dict[str, Any]) -> dict[str, Any]:
    ours, theirs = row["ours"], row["theirs"]
    both = ours is not None and theirs is not None
    return {
        **row,
        "difference": theirs - ours if both else None,
        "difference_percent": 100.0 * (theirs - ours) / ours if both and ours else None,
    }


def agreement(ledger: Ledger, since: float | None = None) -> list[dict[str, Any]]:
    """For each model: its readings, how many a reader edited, what reports said, and each structure's figures.

    ``since``: edits that were seen from then on (seconds since the epoch).
    """
    found = {row["model"]: {**row, "structures": []} for row in _models(ledger, since)}
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in _matched(ledger, since):
        groups[str(row["model"]), str(row["structure"])].append(row)
    for (model, structure), rows in sorted(groups.items()):
        found[model]["structures"].append({"structure": structure, **figures_of(rows)})
    return [found[model] for model in sorted(found)]


def figures_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """n, median and quartiles of Dice, median differences of volume, and the lowest ten of one structure."""
    dices = [row["dice"] for row in rows if row["dice"] is not None]
    differences = [_with_difference(dict(row)) for row in rows]
    distances = [row["hd95_mm"] for row in rows if row["hd95_mm"] is not None]
    worst = sorted((row for row in rows if row["dice"] is not None), key=lambda row: (row["dice"], row["edit_id"]))
    return {
        "n": len(rows),
        "unchanged": sum(dice == 1.0 for dice in dices),
        "dice": _quartiles(dices),
        "hd95_mm": _quartiles(distances),
        "difference_ml": _quartiles(_there(row["difference"] for row in differences)),
        "difference_percent": _quartiles(_there(row["difference_percent"] for row in differences)),
        "lowest": [
            {name: row[name] for name in ("study_id", "job_id", "edit_id", "dice", "ours", "theirs")}
            for row in worst[:LOWEST]
        ],
    }


def _there(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _quartiles(values: Sequence[float]) -> dict[str, float] | None:
    """Median and quartiles, interpolated between neighbours; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return {name: quantile(ordered, share) for name, share in (("q1", 0.25), ("median", 0.5), ("q3", 0.75))}


def _models(ledger: Ledger, since: float | None) -> list[dict[str, Any]]:
    """Readings with results that stand, those that were edited, and what readers' reports said of them."""
    e, j = t.edits.c, t.jobs.c
    compared = and_(e.state == EditState.COMPARED.value, *([e.seen_at >= since] if since is not None else []))
    read = and_(j.storing_at.is_not(None), *([j.created_at >= since] if since is not None else []))

    def readings_with(condition: Any) -> Any:
        return func.count(func.distinct(case((condition, e.job_id))))

    edited = (
        select(
            j.model,
            readings_with(e.kind == "seg").label("edited"),
            readings_with(e.kind == "sr").label("reported"),
            *(readings_with(e.verdict == word).label(word) for word in ("accepted", "rejected", "verified")),
        )
        .join(t.jobs, j.id == e.job_id)
        .where(compared)
        .group_by(j.model)
    )
    counted = select(j.model, func.count().label("readings")).where(read).group_by(j.model)
    nothing = {"edited": 0, "reported": 0, "accepted": 0, "rejected": 0, "verified": 0}
    with ledger.begin(reads_only=True) as db:
        found = {str(row["model"]): {**nothing, **row} for row in db.execute(counted).mappings()}
        for row in db.execute(edited).mappings():
            found[str(row["model"])] = {"readings": 0, **found.get(str(row["model"]), {}), **row}
    return list(found.values())


def _matched(ledger: Ledger, since: float | None) -> list[dict[str, Any]]:
    """Every structure of the newest compared drawing of each reading that both sides have."""
    e, k, j = t.edits.c, t.edit_comparisons.c, t.jobs.c
    drawn = and_(e.state == EditState.COMPARED.value, e.kind == "seg")
    newest = select(func.max(e.id)).where(drawn).group_by(e.job_id)
    query = (
        select(
            j.model, k.structure, k.ours, k.theirs, k.dice, k.hd95_mm, e.id.label("edit_id"), e.study_id, e.job_id,
        )
        .select_from(t.edit_comparisons)
        .join(t.edits, e.id == k.edit_id)
        .join(t.jobs, j.id == e.job_id)
        .where(e.id.in_(newest), k.outcome == "matched")
    )  # fmt: skip
    if since is not None:
        query = query.where(e.seen_at >= since)
    with ledger.begin(reads_only=True) as db:
        return [dict(row) for row in db.execute(query.order_by(k.id.desc()).limit(NEWEST)).mappings()]


def counts(ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    """What Prometheus counts: edits by state, readings that were edited, and Dice by bucket (cumulative)."""
    e, k, j = t.edits.c, t.edit_comparisons.c, t.jobs.c
    compared = and_(e.state == EditState.COMPARED.value, e.kind == "seg")
    states = select(j.model, e.kind, e.state, func.count().label("count")).join(t.jobs, j.id == e.job_id)
    edited = select(j.model, func.count(func.distinct(e.job_id)).label("count")).join(t.jobs, j.id == e.job_id)
    buckets = [func.sum(case((k.dice <= edge, 1), else_=0)).label(f"b{n}") for n, edge in enumerate(DICE_BUCKETS)]
    dice = (
        select(j.model, k.structure, func.count(k.dice).label("count"), func.sum(k.dice).label("sum"), *buckets)
        .select_from(t.edit_comparisons)
        .join(t.edits, e.id == k.edit_id)
        .join(t.jobs, j.id == e.job_id)
        .where(compared, k.outcome == "matched", k.dice.is_not(None))
        .group_by(j.model, k.structure)
    )
    with ledger.begin(reads_only=True) as db:
        return {
            "states": [dict(r) for r in db.execute(states.group_by(j.model, e.kind, e.state)).mappings()],
            "edited": [dict(r) for r in db.execute(edited.where(compared).group_by(j.model)).mappings()],
            "dice": [dict(r) for r in db.execute(dice).mappings()],
        }
