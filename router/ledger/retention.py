"""``ledger.retention``: what goes when ``[retention]`` says so, page by page; never what is owed, in work or waits.

A round reads every table once in the order of its key, a page at a time, and takes of each page what is old: no index
is needed, no transaction is long, and a round that is broken off begins anew. What a study's results are stays as long
as the study is in the archive: else they would be taken for images, and the study be read again.
Next: daemon/pruner.py (who turns the pages), trail.py (how the audit trail stays provable), docs/retention.md.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, null, or_, select, tuple_, update

from medai.router.contract import DeliveryState, JobState
from medai.router.files.parcel import MAGIC
from medai.router.ledger import schema as t
from medai.router.ledger.audit_lines import had_by_all
from medai.router.ledger.database import Part
from medai.router.ledger.held_orders import HoldState, waits
from medai.router.ledger.history import ROUTER, noted
from medai.router.ledger.trail import PRUNED
from medai.router.ledger.transitions import OPEN, WAITING
from medai.router.ledger.workitems import UNDER_WAY
from medai.router.settings.retention import DAY_S, RetentionSettings

PAGE = 200
AUDIT_PAGE = 1000
"""Lines of the audit trail that go at once: each time leaves a line itself."""
ERASED = "erased-"
"""Begins the archive's id of a study of which nothing is left but its number."""
_PATIENT = "patient:"
_READ = (JobState.DONE.value, JobState.CANCELLED.value, JobState.SUPERSEDED.value)
_SETTLED = (DeliveryState.DONE.value, DeliveryState.DROPPED.value, DeliveryState.CANCELLED.value)
_UNSETTLED = [state.value for state in (*OPEN, JobState.FAILED)]
_OWED = [state.value for state in WAITING]
Mark = int | str
"""The key of the last row of a page."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Moments (seconds since the epoch): what is older goes; 0 keeps it for ever."""

    messages: float
    orders: float
    merges: float
    history: float
    readings: float
    audit: float
    receivers: tuple[str, ...] = ()
    """Receivers of the audit trail that must have a line before it goes."""

    @classmethod
    def of(cls, keep: RetentionSettings, now: float, receivers: tuple[str, ...] = ()) -> Limits:
        """From how many days are kept."""
        names = ("messages", "orders", "merges", "history", "readings", "audit")
        days = {name: float(getattr(keep, f"{name}_d")) for name in names}
        return cls(receivers=receivers, **{name: now - kept * DAY_S if kept else 0.0 for name, kept in days.items()})


@dataclass(frozen=True, kw_only=True)
class Page:
    """What came of one page: where it ended (None: it was the last), and how much went, by what it was."""

    end: Mark | None
    pruned: Mapping[str, int] = field(default_factory=Counter)


class Retention(Part):
    """Takes what is old."""

    def page(self, kind: str, after: Mark | None, limits: Limits, now: float) -> Page:
        """The page of a kind (one of KINDS) that follows a mark."""
        return _PAGES[kind](self, after, limits, now)

    # -- orders and patients

    def _orders(self, after: Mark | None, limits: Limits, _now: float) -> Page:
        c = t.orders.c
        rows = self._rows((c.id, c.received_at), c.id, after)
        old = [row.id for row in rows if row.received_at < limits.orders]
        gone = delete(t.orders).where(c.id.in_(old), c.received_at < limits.orders, ~_study_in_work(), ~_held_back())
        return self._took(rows, "orders", gone if old else None)

    def _held(self, after: Mark | None, limits: Limits, _now: float) -> Page:
        """What became of a held order goes once the order is gone: without it the question would come up again."""
        c = t.held_orders.c
        rows = self._rows((c.id, func.coalesce(c.decided_at, c.seen_at).label("at")), c.id, after)
        old = [row.id for row in rows if row.at < limits.orders]
        there = exists().where(t.orders.c.placer == c.placer)
        gone = delete(t.held_orders).where(c.id.in_(old), ~waits(), ~there)
        return self._took(rows, "held_orders", gone if old else None)

    def _held_merges(self, after: Mark | None, limits: Limits, _now: float) -> Page:
        """What became of a held merge goes with what is known of merges."""
        c = t.held_merges.c
        rows = self._rows((c.id, func.coalesce(c.decided_at, c.seen_at).label("at")), c.id, after)
        old = [row.id for row in rows if row.at < limits.merges]
        decided = c.state.in_((HoldState.JOINED.value, HoldState.REJECTED.value))
        gone = delete(t.held_merges).where(c.id.in_(old), decided)
        return self._took(rows, "held_merges", gone if old else None)

    def _patients(self, after: Mark | None, limits: Limits, _now: float) -> Page:
        c = t.meta.c
        rows = self._rows((c.key, c.value), c.key, after, c.key.startswith(_PATIENT))
        old = [(row.key, row.value) for row in rows if max(json.loads(row.value).values()) < limits.orders]
        mine = tuple_(c.key, c.value).in_(old)  # one that was told of meanwhile stays
        return self._took(rows, "patient_updates", delete(t.meta).where(mine) if old else None)

    def _merges(self, after: Mark | None, limits: Limits, _now: float) -> Page:
        c = t.patient_aliases.c
        rows = self._rows((c.id, c.at), c.id, after)
        old = [row.id for row in rows if row.at < limits.merges]
        gone = delete(t.patient_aliases).where(c.id.in_(old), c.at < limits.merges)
        return self._took(rows, "merges", gone if old else None)

    # -- readings

    def _readings(self, after: Mark | None, limits: Limits, _now: float) -> Page:
        c = t.jobs.c
        rows = self._rows((c.id, c.finished_at), c.id, after)
        pruned: Counter[str] = Counter()
        steps: tuple[tuple[float, Callable[[Connection, list[str], float], Mapping[str, int]]], ...] = (
            (limits.messages, _messages), (limits.history, _history), (limits.readings, _details),
        )  # fmt: skip
        for limit, step in steps:
            old = [str(row.id) for row in rows if row.finished_at is not None and row.finished_at < limit]
            if old:
                with self._database.begin() as db:
                    over = and_(c.id.in_(old), c.state.in_(_READ), c.finished_at < limit)
                    ended = [str(name) for name in db.execute(select(c.id).where(over)).scalars()]
                    pruned.update(step(db, ended, limit) if ended else {})
        return Page(end=_end(rows), pruned=pruned)

    def _studies(self, after: Mark | None, limits: Limits, _now: float) -> Page:
        c = t.studies.c
        rows = self._rows((c.id, c.first_instance_at, c.deleted_at), c.id, after)
        pruned: Counter[str] = Counter()
        begun = [row.id for row in rows if row.first_instance_at < limits.history]
        if begun:
            d = t.decisions.c
            still = select(c.id).where(c.id.in_(begun), c.due_at.is_(None), ~_unsettled(c.id))
            gone = delete(t.decisions).where(d.study_id.in_(still), d.at < limits.history)
            with self._database.begin() as db:
                pruned["decisions"] += db.execute(gone).rowcount
        left = [row.id for row in rows if row.deleted_at is not None and row.deleted_at < limits.readings]
        if left:
            with self._database.begin() as db:
                pruned["studies"] += _forget(db, left, limits.readings)
        return Page(end=_end(rows), pruned=pruned)

    # -- the audit trail

    def _audit(self, _after: Mark | None, limits: Limits, now: float) -> Page:
        """The oldest lines; the line that says so keeps the seal on which the next one rests."""
        trail = self._database.trail
        if not limits.audit:
            return Page(end=None)
        with self._database.begin(reads_only=True) as db:
            sent = had_by_all(db, limits.receivers)
            if trail.cut(db, limits.audit, AUDIT_PAGE, sent=sent) is None:
                return Page(end=None)
        with self._database.begin() as db:
            trail.lock(db)
            cut = trail.cut(db, limits.audit, AUDIT_PAGE, sent=sent)
            if cut is None:
                return Page(end=None)
            gone = db.execute(delete(t.audit).where(t.audit.c.id <= cut.id)).rowcount
            noted(db, ROUTER, PRUNED, now, detail=cut.words)
        return Page(end=cut.id if gone >= AUDIT_PAGE else None, pruned=Counter(audit=gone))

    # -- pages

    def _rows(
        self, columns: Sequence[Any], key: ColumnElement[Any], after: Mark | None, *where: ColumnElement[bool]
    ) -> Sequence[Any]:
        query = select(*columns).where(*where).order_by(key).limit(PAGE)
        with self._database.begin(reads_only=True) as db:
            return db.execute(query if after is None else query.where(key > after)).all()

    def _took(self, rows: Sequence[Any], what: str, gone: Any) -> Page:
        if gone is None:
            return Page(end=_end(rows))
        with self._database.begin() as db:
            return Page(end=_end(rows), pruned=Counter({what: db.execute(gone).rowcount}))


_PAGES: Mapping[str, Callable[[Retention, Mark | None, Limits, float], Page]] = {
    "orders": Retention._orders,
    "held orders": Retention._held,
    "held merges": Retention._held_merges,
    "patients": Retention._patients,
    "merges": Retention._merges,
    "readings": Retention._readings,
    "studies": Retention._studies,
    "audit": Retention._audit,
}
KINDS = tuple(_PAGES)
PRUNABLE = (
    "orders", "held_orders", "held_merges", "patient_updates", "merges", "messages", "copies", "history", "details",
    "decisions", "studies", "audit",
)  # fmt: skip
"""What is counted."""


def _end(rows: Sequence[Any]) -> Mark | None:
    mark: Mark | None = rows[-1][0] if len(rows) == PAGE else None
    return mark


def _unsettled(study_id: Any) -> ColumnElement[bool]:
    """Whether anything of a study is read, delivered, or waits for a person."""
    j, d = t.jobs.alias("open_job"), t.deliveries.alias("owed")
    of_study = select(d.c.id).join(j, j.c.id == d.c.job_id).where(j.c.study_id == study_id, d.c.state.in_(_OWED))
    open_ = select(j.c.id).where(j.c.study_id == study_id, j.c.state.in_(_UNSETTLED))
    return or_(open_.exists(), of_study.exists())


def _study_in_work() -> ColumnElement[bool]:
    """Whether an order's study arrives, is read, or waits for a person."""
    s, o = t.studies.alias("ordered"), t.orders.c
    named = or_(
        and_(o.study_uid != "", s.c.study_uid == o.study_uid), and_(o.accession != "", s.c.accession == o.accession)
    )
    return select(s.c.id).where(named, or_(s.c.due_at.is_not(None), _unsettled(s.c.id))).exists()


def _held_back() -> ColumnElement[bool]:
    """Whether an order waits for a person."""
    h = t.held_orders.c
    return exists().where(h.placer == t.orders.c.placer, waits())


def _messages(db: Connection, jobs: list[str], limit: float) -> Mapping[str, int]:
    """Texts that were sent or never will be, and objects that the archive has or never will have."""
    d, r = t.deliveries.c, t.result_objects.c
    settled = and_(
        d.job_id.in_(jobs), d.state.in_(_SETTLED), d.payload.is_not(None), func.coalesce(d.done_at, 0.0) < limit
    )
    starts = db.execute(select(d.id, func.substr(d.payload, 1, len(MAGIC)).label("start")).where(settled)).all()
    texts = [row.id for row in starts if bytes(row.start) != MAGIC]  # a parcel's rejection note goes with its reading
    changed = db.execute(update(t.deliveries).where(d.id.in_(texts), settled).values(payload=None)).rowcount
    objects = update(t.result_objects).where(r.job_id.in_(jobs), r.content.is_not(None)).values(content=None)
    return {"messages": changed, "copies": db.execute(objects).rowcount}


def _history(db: Connection, jobs: list[str], limit: float) -> Mapping[str, int]:
    d, tries = t.deliveries.c, t.delivery_tries.c
    of_jobs = select(d.id).where(d.job_id.in_(jobs), d.state.in_(_SETTLED))
    gone = (
        delete(t.stamps).where(t.stamps.c.job_id.in_(jobs)),
        delete(t.attempts).where(t.attempts.c.job_id.in_(jobs)),
        delete(t.outside_uids).where(t.outside_uids.c.job_id.in_(jobs)),
        delete(t.delivery_tries).where(tries.delivery_id.in_(of_jobs), tries.last_at < limit),
    )
    return {"history": sum(db.execute(each).rowcount for each in gone)}


def _details(db: Connection, jobs: list[str], limit: float) -> Mapping[str, int]:
    c, d, edited = t.jobs.c, t.deliveries.c, t.edits.c
    nothing = {"measurements": null(), "warnings": null(), "plausibility": null(), "figures": null()}
    there = or_(*(c[name].is_not(None) for name in nothing))
    compared = select(edited.id).where(edited.job_id.in_(jobs), edited.compared_at < limit)
    settled = and_(d.job_id.in_(jobs), d.state.in_(_SETTLED), func.coalesce(d.done_at, 0.0) < limit)
    gone = (
        update(t.jobs).where(c.id.in_(jobs), there).values(**nothing),
        update(t.deliveries).where(settled, d.payload.is_not(None)).values(payload=None),
        delete(t.usefulness_answers).where(
            t.usefulness_answers.c.job_id.in_(jobs), t.usefulness_answers.c.answered_at < limit
        ),
        delete(t.edit_comparisons).where(t.edit_comparisons.c.edit_id.in_(compared)),
    )
    return {"details": sum(db.execute(each).rowcount for each in gone)}


def _forget(db: Connection, studies: list[int], limit: float) -> int:
    """All of studies that the archive has not had for long; the newest number stays: none is given twice."""
    c, w = t.studies.c, t.workitems.c
    erased_there = and_(c.study_uid == "", ~c.orthanc_id.startswith(ERASED))  # the archive has it: it is not to be read
    asked = exists().where(w.study_id == c.id, w.state.in_([state.value for state in UNDER_WAY]))
    newest = select(func.max(c.id)).scalar_subquery()
    where = and_(c.id.in_(studies), c.deleted_at < limit, c.due_at.is_(None), c.id != newest, ~erased_there, ~asked)
    query = select(c.id).where(where, ~_unsettled(c.id)).with_for_update()
    gone = [int(number) for number in db.execute(query).scalars()]
    if gone:
        db.execute(delete(t.held_orders).where(t.held_orders.c.study_id.in_(gone)))
        db.execute(delete(t.jobs).where(t.jobs.c.study_id.in_(gone)))
        db.execute(delete(t.studies).where(c.id.in_(gone)))
    return len(gone)
