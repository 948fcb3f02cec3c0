"""Read the ledger for what readers made of our results: how often, and how far from ours. Nothing here writes.

Differences are the reader's less ours. Of several drawings of one reading the newest counts: a reader saves often.
Next: ledger/edits.py (where the rows come from), console/feedback.py and metrics/collector.py (who shows the sums).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field
from sqlalchemy import ColumnElement, and_, case, func, select

from medai.router.ledger import schema as t
from medai.router.ledger.edits import EditState
from medai.router.reports.report import Report, Tables
from medai.router.stages import quantile

LOWEST = 10
"""How many of the least alike are named."""
NEWEST = 50_000
"""Comparisons that the report looks at, newest first."""
DICE_BUCKETS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 1.0)
VERDICTS = ("accepted", "rejected", "verified")
"""What a reader's report may say of a result."""


class ComparisonEntry(Report):
    """One structure, or one figure, of a reader's object beside ours."""

    structure: str
    outcome: str = Field(description="matched, added (by the reader alone) or removed")
    quantity: str
    unit: str
    ours: float | None
    theirs: float | None
    dice: float | None
    hd95_mm: float | None
    segment: int | None = Field(description="Its number in our segmentation.")
    edited_segment: int | None = Field(description="Its number in the reader's.")
    difference: float | None = Field(description="The reader's less ours.")
    difference_percent: float | None


class EditEntry(Report):
    """A SEG or SR that a reader stored on what was read, with its comparisons with ours."""

    id: int
    study_id: int
    job_id: str
    kind: str = Field(description="seg or sr")
    named: bool = Field(description="Whether it names our object.")
    tool: str
    seen_at: float
    state: str
    reason: str
    verdict: str
    compared_at: float | None
    model: str
    model_version: str
    route: str
    comparisons: tuple[ComparisonEntry, ...]


class Quartiles(Report):
    """Median and quartiles, interpolated between neighbours."""

    q1: float
    median: float
    q3: float


class LowAgreement(Report):
    """One drawing that is little alike."""

    study_id: int
    job_id: str
    edit_id: int
    dice: float
    ours: float | None
    theirs: float | None


class StructureFigures(Report):
    """How far readers' drawings of one structure are from ours; figures are null where there is none."""

    structure: str
    n: int
    unchanged: int
    dice: Quartiles | None
    hd95_mm: Quartiles | None
    difference_ml: Quartiles | None
    difference_percent: Quartiles | None
    lowest: tuple[LowAgreement, ...] = Field(description="The least alike.")


class ModelAgreement(Report):
    """One model: its readings, how many a reader edited, and what reports said of them."""

    model: str
    readings: int
    edited: int
    reported: int
    accepted: int
    rejected: int
    verified: int
    structures: tuple[StructureFigures, ...]


@dataclass(frozen=True, kw_only=True)
class Matched:
    """A structure that both a reader and we drew."""

    model: str
    structure: str
    ours: float | None
    theirs: float | None
    dice: float | None
    hd95_mm: float | None
    edit_id: int
    study_id: int
    job_id: str


EDIT = tuple(name for name in EditEntry.model_fields if name in t.edits.c)
READING = ("model", "model_version", "route")
COMPARISON = tuple(name for name in ComparisonEntry.model_fields if name in t.edit_comparisons.c)
MATCHED = ("structure", "ours", "theirs", "dice", "hd95_mm")


def edits(
    ledger: Tables,
    *,
    job_id: str | None = None,
    state: EditState | None = None,
    model: str | None = None,
    since: float | None = None,
    after: int | None = None,
    limit: int = 100,
) -> list[EditEntry]:
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
        rows = db.execute(query.order_by(c.id.desc()).limit(limit)).mappings().all()
        k = t.edit_comparisons.c
        parts = select(k.edit_id, *(k[name] for name in COMPARISON)).where(k.edit_id.in_([row["id"] for row in rows]))
        found: dict[int, list[ComparisonEntry]] = defaultdict(list)
        for part in db.execute(parts.order_by(k.id)).mappings():
            found[int(part["edit_id"])].append(_comparison({name: part[name] for name in COMPARISON}))
    return [EditEntry(**row, comparisons=tuple(found[row["id"]])) for row in rows]


def _comparison(part: Mapping[str, Any]) -> ComparisonEntry:
    difference, percent = differences(part["ours"], part["theirs"])
    return ComparisonEntry(**part, difference=difference, difference_percent=percent)


def differences(ours: float | None, theirs: float | None) -> tuple[float | None, float | None]:
    """How much more a reader has than we have, and in percent of ours; None where one of both has nothing."""
    if ours is None or theirs is None:
        return None, None
    return theirs - ours, 100.0 * (theirs - ours) / ours if ours else None


def agreement(ledger: Tables, since: float | None = None) -> list[ModelAgreement]:
    """For each model: its readings, how many a reader edited, what reports said, and each structure's figures.

    ``since``: edits that were seen from then on (seconds since the epoch).
    """
    drawn: dict[str, dict[str, list[Matched]]] = defaultdict(lambda: defaultdict(list))
    for row in _matched(ledger, since):
        drawn[row.model][row.structure].append(row)
    return [
        ModelAgreement(
            model=model,
            **counts,
            structures=tuple(figures_of(name, rows) for name, rows in sorted(drawn[model].items())),
        )
        for model, counts in sorted(_models(ledger, since).items())
    ]


def figures_of(structure: str, rows: Sequence[Matched]) -> StructureFigures:
    """n, median and quartiles of Dice, median differences of volume, and the lowest ten of one structure."""
    dices = _there(row.dice for row in rows)
    between = [differences(row.ours, row.theirs) for row in rows]
    drawn = ((row.dice, row) for row in rows if row.dice is not None)
    return StructureFigures(
        structure=structure,
        n=len(rows),
        unchanged=sum(dice == 1.0 for dice in dices),
        dice=_quartiles(dices),
        hd95_mm=_quartiles(_there(row.hd95_mm for row in rows)),
        difference_ml=_quartiles(_there(difference for difference, _ in between)),
        difference_percent=_quartiles(_there(percent for _, percent in between)),
        lowest=tuple(
            LowAgreement(
                study_id=row.study_id, job_id=row.job_id, edit_id=row.edit_id, dice=dice, ours=row.ours,
                theirs=row.theirs,
            )
            for dice, row in sorted(drawn, key=lambda each: (each[0], each[1].edit_id))[:LOWEST]
        ),
    )  # fmt: skip


def _there(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _quartiles(values: Sequence[float]) -> Quartiles | None:
    """None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return Quartiles(q1=quantile(ordered, 0.25), median=quantile(ordered, 0.5), q3=quantile(ordered, 0.75))


def _models(ledger: Tables, since: float | None) -> dict[str, dict[str, int]]:
    """Model -> how many of its readings have results that stand, were edited, and what readers' reports said."""
    e, j = t.edits.c, t.jobs.c
    compared = and_(e.state == EditState.COMPARED.value, *([e.seen_at >= since] if since is not None else []))
    read = and_(j.storing_at.is_not(None), *([j.created_at >= since] if since is not None else []))

    def readings_with(condition: ColumnElement[bool], name: str) -> ColumnElement[int]:
        return func.count(func.distinct(case((condition, e.job_id)))).label(name)

    named = {"edited": e.kind == "seg", "reported": e.kind == "sr", **{word: e.verdict == word for word in VERDICTS}}
    edited = (
        select(j.model, *(readings_with(condition, name) for name, condition in named.items()))
        .join(t.jobs, j.id == e.job_id)
        .where(compared)
        .group_by(j.model)
    )
    counted = select(j.model, func.count().label("readings")).where(read).group_by(j.model)
    found: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(("readings", *named), 0))
    with ledger.begin(reads_only=True) as db:
        for row in (*db.execute(counted).mappings(), *db.execute(edited).mappings()):
            found[str(row["model"])] |= {name: int(count) for name, count in row.items() if name != "model"}
    return found


def _matched(ledger: Tables, since: float | None) -> list[Matched]:
    """Every structure of the newest compared drawing of each reading that both sides have."""
    e, k, j = t.edits.c, t.edit_comparisons.c, t.jobs.c
    drawn = and_(e.state == EditState.COMPARED.value, e.kind == "seg")
    newest = select(func.max(e.id)).where(drawn).group_by(e.job_id)
    query = (
        select(j.model, *(k[name] for name in MATCHED), e.id.label("edit_id"), e.study_id, e.job_id)
        .select_from(t.edit_comparisons)
        .join(t.edits, e.id == k.edit_id)
        .join(t.jobs, j.id == e.job_id)
        .where(e.id.in_(newest), k.outcome == "matched")
    )
    if since is not None:
        query = query.where(e.seen_at >= since)
    with ledger.begin(reads_only=True) as db:
        return [Matched(**row) for row in db.execute(query.order_by(k.id.desc()).limit(NEWEST)).mappings()]


@dataclass(frozen=True, kw_only=True)
class EditCount:
    """How many objects of readers, of one kind, stand so."""

    model: str
    kind: str
    state: str
    count: int


@dataclass(frozen=True, kw_only=True)
class DiceCounts:
    """Dice of one structure: how many drawings, their sum, and how many up to each of DICE_BUCKETS."""

    model: str
    structure: str
    count: int
    sum: float
    up_to: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class EditCounts:
    """What Prometheus counts of readers' edits."""

    states: tuple[EditCount, ...]
    edited: Mapping[str, int]
    """Model -> readings with a drawing that was compared."""
    dice: tuple[DiceCounts, ...]


def counts(ledger: Tables) -> EditCounts:
    """What Prometheus counts: edits by state, readings that were edited, and Dice by bucket (cumulative)."""
    e, k, j = t.edits.c, t.edit_comparisons.c, t.jobs.c
    compared = and_(e.state == EditState.COMPARED.value, e.kind == "seg")
    states = select(j.model, e.kind, e.state, func.count().label("count")).join(t.jobs, j.id == e.job_id)
    edited = select(j.model, func.count(func.distinct(e.job_id))).join(t.jobs, j.id == e.job_id)
    buckets = [func.sum(case((k.dice <= edge, 1), else_=0)) for edge in DICE_BUCKETS]
    dice = (
        select(j.model, k.structure, func.count(k.dice), func.sum(k.dice), *buckets)
        .select_from(t.edit_comparisons)
        .join(t.edits, e.id == k.edit_id)
        .join(t.jobs, j.id == e.job_id)
        .where(compared, k.outcome == "matched", k.dice.is_not(None))
        .group_by(j.model, k.structure)
    )
    with ledger.begin(reads_only=True) as db:
        return EditCounts(
            states=tuple(EditCount(**r) for r in db.execute(states.group_by(j.model, e.kind, e.state)).mappings()),
            edited={str(m): int(count) for m, count in db.execute(edited.where(compared).group_by(j.model))},
            dice=tuple(
                DiceCounts(model=model, structure=structure, count=count, sum=sum_, up_to=tuple(up_to))
                for model, structure, count, sum_, *up_to in db.execute(dice)
            ),
        )
