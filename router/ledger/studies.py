"""``ledger.studies``: what was seen in Orthanc, and what was decided about it.

Next: jobs.py (what follows), intake/changes.py and daemon/loop.py (who writes here).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Select, and_, bindparam, func, insert, select, update

from medai.router.contract import Decision, DeliveryState, JobState
from medai.router.ledger import schema as t
from medai.router.ledger.database import LONGEST_S, NOW, Part, due_by, upsert
from medai.router.ledger.history import decide
from medai.router.ledger.rows import SeriesRow, StudyRow, first, rows


@dataclass(frozen=True, kw_only=True)
class SeriesSeen:
    """What the router read of one series in Orthanc: its count without our own results."""

    orthanc_id: str
    series_uid: str
    instances: int
    expected: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class StudySeen:
    """What the router read of one study in Orthanc."""

    study_uid: str
    orthanc_id: str
    accession: str
    modality: str
    expected: Mapping[str, int]
    series: tuple[SeriesSeen, ...]
    archive_update: str
    acquired_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class DueStudy:
    """A study whose completeness is to be decided now."""

    id: int
    orthanc_id: str
    study_uid: str


@dataclass(frozen=True, kw_only=True)
class KnownStudy(StudyRow):
    """A study with its series."""

    series: tuple[SeriesRow, ...]


class Studies(Part):
    """Studies, series, decisions and the cursor in Orthanc's change log."""

    # -- the cursor in Orthanc's change log

    def read_cursor(self, name: str) -> int | None:
        """The last change that was taken in; None at the very first start."""
        with self._database.begin(reads_only=True) as db:
            value = db.execute(select(t.cursor.c.value).where(t.cursor.c.name == name)).scalar()
        return None if value is None else int(value)

    def write_cursor(self, name: str, value: int, now: float, db: Connection | None = None) -> None:
        """Move the cursor; with ``db``, in the transaction that records what was seen up to it."""
        if db is None:
            with self._database.begin() as own:
                return self.write_cursor(name, value, now, own)
        values = {"value": value, "at": now}
        statement = upsert(db, t.cursor).values(name=name, **values)
        db.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))
        return None

    # -- studies

    def see(self, seen: StudySeen, *, at: float, due_at: float | None, db: Connection, heard: bool = False) -> int:
        """Record a study as Orthanc has it now; returns its row id.

        Its clock (``last_instance_at``) moves only for series that grew or shrank, so our own results and repeated
        events leave it alone. ``heard``: Orthanc told of new images just now. Where none are, they were sent again
        and overwrote what was there: the study is looked at again, for other content under the same UIDs.
        """
        row = first(db, select(t.studies).where(t.studies.c.orthanc_id == seen.orthanc_id), StudyRow)
        common: dict[str, Any] = {
            "study_uid": seen.study_uid,
            "accession": seen.accession,
            "archive_update": seen.archive_update,
            "deleted_at": None,
        }
        if seen.modality or row is None:  # a lone report or presentation state says nothing of the images
            common |= {"modality": seen.modality, "expected": dict(seen.expected), "acquired_at": seen.acquired_at}
        if row is None:
            fresh = {**common, "orthanc_id": seen.orthanc_id, "instances": 0, "first_instance_at": at}
            made = db.execute(insert(t.studies).values(**fresh, last_instance_at=at, due_at=due_at))
            assert made.inserted_primary_key is not None
            study_id = int(made.inserted_primary_key[0])
        else:
            study_id = row.id
            db.execute(update(t.studies).where(t.studies.c.id == study_id).values(**common))
        if self._see_series(db, study_id, seen.series, at) or row is None or row.deleted_at is not None:
            self._restart_clock(db, study_id, at, due_at)
        elif heard and row.last_instance_at != at:
            db.execute(update(t.studies).where(t.studies.c.id == study_id).values(resent_at=at))
            self._restart_clock(db, study_id, at, due_at)
        return study_id

    def resend_judged(self, study_id: int, resent_at: float) -> None:
        """The images that were sent again have been compared."""
        mine = and_(t.studies.c.id == study_id, t.studies.c.resent_at == resent_at)
        with self._database.begin() as db:
            db.execute(update(t.studies).where(mine).values(resent_at=None))

    def _see_series(self, db: Connection, study_id: int, seen: Sequence[SeriesSeen], at: float) -> bool:
        rows = db.execute(select(t.series.c.orthanc_id, t.series.c.instances).where(t.series.c.study_id == study_id))
        known = {str(row.orthanc_id): int(row.instances) for row in rows}
        changed = False
        for item in seen:
            if known.get(item.orthanc_id) == item.instances:
                continue
            changed = True
            values = {"instances": item.instances, "expected": dict(item.expected), "last_instance_at": at}
            keys = {"orthanc_id": item.orthanc_id, "study_id": study_id, "series_uid": item.series_uid}
            statement = upsert(db, t.series).values(**keys, **values)
            db.execute(statement.on_conflict_do_update(index_elements=["orthanc_id"], set_=values))
        return changed

    def _restart_clock(self, db: Connection, study_id: int, at: float, due_at: float | None) -> None:
        total = select(func.coalesce(func.sum(t.series.c.instances), 0)).where(t.series.c.study_id == study_id)
        values = {"instances": total.scalar_subquery(), "last_instance_at": at, "due_at": due_at, "complete_at": None}
        db.execute(update(t.studies).where(t.studies.c.id == study_id).values(**values))

    def forget_series(self, study_id: int, keep: Iterable[str], db: Connection) -> None:
        """Drop the rows of series that are no longer in Orthanc."""
        gone = and_(t.series.c.study_id == study_id, t.series.c.orthanc_id.not_in(list(keep)))
        db.execute(t.series.delete().where(gone))

    def due(self, now: float, *, longest_s: float = 86_400.0, limit: int = 200) -> list[DueStudy]:
        """Studies whose completeness is to be decided now, longest due first.

        One that is due later than any wait lasts (``longest_s``) was planned by a clock that has been put back since.
        """
        with self._database.begin(reads_only=True) as db:
            return rows(db, _DUE, DueStudy, {"now": now, "longest_s": longest_s, "many": limit})

    def next_due(self) -> float | None:
        """When the next study is to be looked at."""
        with self._database.begin(reads_only=True) as db:
            value = db.execute(_NEXT_DUE).scalar()
        return None if value is None else float(value)

    def set_due(self, study_id: int, due_at: float | None) -> None:
        """Plan the next look."""
        self._set_due(t.studies.c.id == study_id, due_at)

    def set_due_as_seen(self, seen: StudyRow, due_at: float | None) -> None:
        """Plan the next look, unless a newer image restarted the clock, or an announcement called, meanwhile."""
        c = t.studies.c
        unchanged = c.due_at.is_(None) if seen.due_at is None else c.due_at == seen.due_at
        self._set_due(and_(c.id == seen.id, c.last_instance_at == seen.last_instance_at, unchanged), due_at)

    def _set_due(self, where: ColumnElement[bool], due_at: float | None) -> None:
        with self._database.begin() as db:
            db.execute(update(t.studies).where(where).values(due_at=due_at))

    def find(self, orthanc_id: str) -> KnownStudy | None:
        """A study with its series, by Orthanc id."""
        with self._database.begin(reads_only=True) as db:
            row = db.execute(select(t.studies).where(t.studies.c.orthanc_id == orthanc_id)).mappings().first()
            if row is None:
                return None
            series = rows(db, select(t.series).where(t.series.c.study_id == row["id"]), SeriesRow)
            return KnownStudy(**row, series=tuple(series))

    def archive_updates(self, orthanc_ids: Sequence[str]) -> dict[str, str]:
        """LastUpdate as it was when each of these studies was last looked at; unknown ones are left out."""
        query = select(t.studies.c.orthanc_id, t.studies.c.archive_update).where(
            t.studies.c.orthanc_id.in_(orthanc_ids)
        )
        with self._database.begin(reads_only=True) as db:
            return {str(row[0]): str(row[1]) for row in db.execute(query)}

    def shift_waits(self, step_s: float) -> None:
        """The clock was stepped: move every planned moment with it, so that no wait is cut short or drawn out."""
        waiting = t.studies.c.due_at.is_not(None)
        moments = {c: t.studies.c[c] + step_s for c in ("due_at", "first_instance_at", "last_instance_at")}
        of_waiting = t.series.c.study_id.in_(select(t.studies.c.id).where(waiting))
        pending, later = t.jobs.c.state == JobState.PENDING.value, t.jobs.c.not_before > 0
        owed = and_(t.deliveries.c.state == DeliveryState.PENDING.value, t.deliveries.c.next_try_at > 0)
        asked = {c: t.workitems.c[c] + step_s for c in ("seen_at", "claimed_at", "next_try_at")}
        last, sent = t.series.c.last_instance_at + step_s, t.jobs.c.sent_at + step_s
        with self._database.begin() as db:
            db.execute(update(t.series).where(of_waiting).values(last_instance_at=last))
            db.execute(update(t.studies).where(waiting).values(**moments))
            db.execute(update(t.announcements).values(at=t.announcements.c.at + step_s))
            db.execute(update(t.workitems).where(t.workitems.c.ended_at.is_(None)).values(**asked))
            db.execute(update(t.jobs).where(pending, later).values(not_before=t.jobs.c.not_before + step_s))
            db.execute(update(t.jobs).where(pending, t.jobs.c.sent_at.is_not(None)).values(sent_at=sent))
            db.execute(update(t.deliveries).where(owed).values(next_try_at=t.deliveries.c.next_try_at + step_s))

    def record(self, study_id: int, decisions: Sequence[Decision], now: float, *, outcome: str) -> bool:
        """Keep decisions, once: the same ``outcome`` as last time writes nothing and returns False."""
        with self._database.begin() as db:
            same = db.execute(select(t.studies.c.outcome_hash).where(t.studies.c.id == study_id)).scalar() == outcome
            if same:
                return False
            for decision in decisions:
                decide(db, study_id, decision, now)
            values = {"outcome_hash": outcome}
            db.execute(update(t.studies).where(t.studies.c.id == study_id).values(**values))
        return True

    def set_complete(self, study_id: int, now: float) -> float:
        """Stamp the study complete (once per arrival of images) and return that moment."""
        with self._database.begin() as db:
            empty = and_(t.studies.c.id == study_id, t.studies.c.complete_at.is_(None))
            db.execute(update(t.studies).where(empty).values(complete_at=now))
            value = db.execute(select(t.studies.c.complete_at).where(t.studies.c.id == study_id)).scalar_one()
        return float(value)


def _due() -> Select[Any]:
    """See ``Studies.due``."""
    c = t.studies.c
    query = select(c.id, c.orthanc_id, c.study_uid).where(due_by(c.due_at, NOW, LONGEST_S))
    return query.order_by(c.due_at).limit(bindparam("many", type_=Integer()))


_DUE = _due()
_NEXT_DUE = select(func.min(t.studies.c.due_at))


def twin_of(db: Connection, study: StudyRow) -> int:
    """How many studies with the same UID were known before this one: Orthanc keeps each patient's apart."""
    before = and_(t.studies.c.study_uid == study.study_uid, t.studies.c.id < study.id)
    return int(db.execute(select(func.count()).where(before)).scalar_one())
