"""``ledger.announcements``: what scanners and archives said of a study by name, also before its first image.

A step has a row for each study that it names, a notice has one. The newest N-SET of a step wins; of notices the newest
word on each object. Old rows go when new ones come. Next: announcements/read.py (what is said),
routing/completeness.py (what follows).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, insert, select, update

from medai.router.announcements.read import (
    DUPLICATE,
    MISSING_ATTRIBUTE,
    NO_LONGER_CHANGED,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    Notice,
    Refused,
    Series,
    StepBegun,
    StepChange,
    StepState,
)
from medai.router.ledger import schema as t
from medai.router.ledger.database import Part
from medai.router.ledger.rows import rows
from medai.router.routing.completeness import IAN, MPPS, Announced

ENDED = (StepState.COMPLETED, StepState.DISCONTINUED)


@dataclass(frozen=True, kw_only=True)
class _Row:
    id: int
    kind: str
    uid: str
    study_uid: str
    state: str
    content: Mapping[str, Sequence[tuple[str, Sequence[str]]]]
    at: float


class Announcements(Part):
    """Performed procedure steps, and instances that are available elsewhere."""

    def step_begun(self, step: StepBegun, now: float, *, keep_s: float) -> None:
        """Keep a step that is in progress; raises Refused where it is known."""
        content = {"here": _content(step.series)}
        rows = [(MPPS, step.uid, study, StepState.IN_PROGRESS.value, content) for study in step.studies]
        self._add(rows, now, keep_s)

    def notice(self, notice: Notice, now: float, *, keep_s: float) -> None:
        """Keep what an archive said; raises Refused where it is known."""
        content = {"here": _content(notice.online), "away": _content(notice.away)}
        self._add([(IAN, notice.uid, notice.study, "", content)], now, keep_s)

    def step_changed(self, change: StepChange, now: float) -> StepState:
        """Keep what is new of a step and return its state; raises Refused where it is unknown or has ended."""
        c = t.announcements.c
        mine = and_(c.kind == MPPS, c.uid == change.uid)
        with self._database.begin() as db:
            known = rows(db, select(t.announcements).where(mine).order_by(c.id).with_for_update(), _Row)
            if not known:
                raise Refused(NO_SUCH_INSTANCE, "no such step")
            if known[0].state in ENDED:
                text = "the step has ended: it may no longer be updated"
                raise Refused(PROCESSING_FAILURE, text, error_id=NO_LONGER_CHANGED)
            content = known[0].content if change.series is None else {"here": _content(change.series)}
            if change.state is StepState.COMPLETED and change.series is None and not content["here"]:
                raise Refused(MISSING_ATTRIBUTE, "a completed step must name its series")
            state = change.state or StepState(known[0].state)
            values: dict[str, Any] = {"state": state.value, "content": content}
            if state in ENDED:  # a step that goes on and on holds its study no longer
                values["at"] = now
            db.execute(update(t.announcements).where(mine).values(**values))
            _ring(db, [row.study_uid for row in known], now)
        return state

    def of_study(self, study_uid: str) -> Announced:
        """All that was said of a study, without our own results."""
        c = t.announcements.c
        query = select(t.announcements).where(c.study_uid == study_uid).order_by(c.at, c.id)
        with self._database.begin(reads_only=True) as db:
            found = rows(db, query, _Row)
            if not found:
                return Announced()
            elsewhere = _series_of_others(db, found, study_uid)
            ours = _own_results(db, study_uid)
        named: dict[str, set[str]] = {MPPS: set(), IAN: set()}
        for row in found:
            if row.kind == IAN or row.state == StepState.COMPLETED:
                named[row.kind] |= _uids(row.content["here"], elsewhere) - ours
            named[IAN] -= _uids(row.content.get("away", ()), set())
        counted = [row for row in found if row.state != StepState.DISCONTINUED]
        return Announced(
            instances={name: frozenset(uids) for name, uids in named.items()},
            open_steps=sum(row.state == StepState.IN_PROGRESS for row in found),
            said_at=max((row.at for row in counted), default=0.0),
        )

    def _add(self, new: Sequence[tuple[str, str, str, str, Mapping[str, Any]]], now: float, keep_s: float) -> None:
        c = t.announcements.c
        kind, uid = new[0][:2]
        columns = ("kind", "uid", "study_uid", "state", "content")
        with self._database.begin() as db:
            db.execute(t.announcements.delete().where(c.at < now - keep_s))
            if db.execute(select(c.id).where(c.kind == kind, c.uid == uid)).first():
                raise Refused(DUPLICATE, "this was announced before")
            values = [{**dict(zip(columns, row, strict=True)), "at": now} for row in new]
            db.execute(insert(t.announcements), values)
            _ring(db, [row[2] for row in new], now)


def _ring(db: Connection, study_uids: Iterable[str], now: float) -> None:
    """Studies that wait are looked at again; one that was decided on is left alone until an image comes."""
    waiting = and_(t.studies.c.study_uid.in_(set(study_uids)), t.studies.c.due_at.is_not(None))
    db.execute(update(t.studies).where(waiting).values(due_at=now))


def _series_of_others(db: Connection, found: Sequence[_Row], study_uid: str) -> set[str]:
    """Series that lie in another study of a step that names several: the step does not say which is whose."""
    steps = {row.uid for row in found if row.kind == MPPS}
    a, s = t.announcements.c, t.series.c
    query = select(a.study_uid).where(a.kind == MPPS, a.uid.in_(steps), a.study_uid != study_uid)
    others = {str(uid) for uid in db.execute(query).scalars()}
    if not others:
        return set()
    of_others = select(t.studies.c.id).where(t.studies.c.study_uid.in_(others))
    return {str(uid) for uid in db.execute(select(s.series_uid).where(s.study_id.in_(of_others))).scalars()}


def _own_results(db: Connection, study_uid: str) -> set[str]:
    """An archive that announces our results, too, makes nobody wait for them."""
    of_study = t.jobs.c.study_id.in_(select(t.studies.c.id).where(t.studies.c.study_uid == study_uid))
    query = select(t.result_objects.c.sop_uid).join(t.jobs, t.jobs.c.id == t.result_objects.c.job_id).where(of_study)
    return {str(uid) for uid in db.execute(query).scalars()}


def _content(series: Sequence[Series]) -> list[tuple[str, tuple[str, ...]]]:
    return [(each.uid, each.instances) for each in series]


def _uids(series: Iterable[tuple[str, Sequence[str]]], without: set[str]) -> set[str]:
    return {uid for name, instances in series if name not in without for uid in instances}
