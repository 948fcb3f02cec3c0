"""``ledger.audit``: the lines of the audit trail with what they are about, and how far each receiver has them.

A receiver's cursor moves when it has a line, and lines have their numbers in the order in which they were sealed: so
each goes out at least once, in order, whatever ends in between. Next: audit/exporter.py (who sends).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select

from medai.router.contract import RIS
from medai.router.hl7 import oru_edit
from medai.router.ledger import schema as t
from medai.router.ledger.database import Part, upsert
from medai.router.ledger.orders import as_order

PAGE = 100
"""Lines that are read at a time."""


@dataclass(frozen=True, kw_only=True)
class TrailLine:
    """A line of the trail, and the study that it is about; texts are empty where it is about none."""

    id: int
    at: float
    account: str
    action: str
    detail: str
    study_id: int | None
    job_id: str | None
    study_uid: str
    orthanc_id: str
    accession: str
    address: str = ""
    """Where a person acted from; empty for what a command or the system did."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Whose record it is; empty where nobody knows. ``name`` as in the images (PN) or an order (XPN)."""

    identifier: str = ""
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Lag:
    """How far behind a receiver is."""

    waiting: int
    oldest_at: float | None


@dataclass(frozen=True, kw_only=True)
class AuditFigure:
    """How it goes with a receiver of the audit trail: lines that wait, since when, and how often sending failed."""

    waiting: int
    oldest_at: float | None
    failures: int


class AuditLines(Part):
    """The trail as it is sent on."""

    def after(self, line: int, *, since: float = 0.0, limit: int = PAGE) -> list[TrailLine]:
        """The lines that follow one, in their order; ``since``: none that is older."""
        s = t.studies.c
        columns: list[Any] = [
            t.audit.c[name] for name in ("id", "at", "account", "action", "detail", "study_id", "job_id")
        ]
        study = [func.coalesce(s[name], "").label(name) for name in ("study_uid", "orthanc_id", "accession")]
        columns.append(func.coalesce(t.audit.c.address, "").label("address"))
        query = select(*columns, *study).outerjoin(t.studies, s.id == t.audit.c.study_id)
        query = query.where(t.audit.c.id > line, t.audit.c.at >= since).order_by(t.audit.c.id).limit(limit)
        with self._database.begin(reads_only=True) as db:
            return [TrailLine(**row) for row in db.execute(query).mappings()]

    def all(self, *, since: float = 0.0) -> Iterator[TrailLine]:
        """Every line that is not older, page by page."""
        last = 0
        while page := self.after(last, since=since):
            yield from page
            last = page[-1].id

    def cursor(self, receiver: str) -> int:
        """The last line that a receiver has; 0: none yet."""
        with self._database.begin(reads_only=True) as db:
            return _cursor(db, receiver)

    def has(self, receiver: str, line: int, now: float) -> None:
        """A receiver has every line up to this one."""
        values = {"value": line, "at": now}
        with self._database.begin() as db:
            statement = upsert(db, t.cursor).values(name=_name(receiver), **values)
            db.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))

    def lag(self, receiver: str) -> Lag:
        """What a receiver has not got yet."""
        with self._database.begin(reads_only=True) as db:
            query = select(func.count(), func.min(t.audit.c.at)).where(t.audit.c.id > _cursor(db, receiver))
            waiting, oldest = db.execute(query).one()
        return Lag(waiting=int(waiting), oldest_at=None if oldest is None else float(oldest))

    # -- whose record it is, as far as the ledger knows

    def told_of(self, study_id: int) -> Subject:
        """Whom the newest result of a study named, where one went, or goes, to the RIS."""
        d, j = t.deliveries.c, t.jobs.c
        query = select(d.payload).join(t.jobs, j.id == d.job_id)
        query = query.where(j.study_id == study_id, d.destination == RIS, d.payload.is_not(None))
        with self._database.begin(reads_only=True) as db:
            payload = db.execute(query.order_by(d.id.desc()).limit(1)).scalar()
        try:
            patients = oru_edit.patients_of(bytes(payload)) if payload else ()
        except ValueError:  # no message of ours: an older version's, or a file that was mended by hand
            patients = ()
        return Subject(identifier=patients[0].identifier) if patients else Subject()

    def ordered_for(self, number: str) -> Subject:
        """Whom an order of this placer (or filler) number is for."""
        o = t.orders.c
        query = select(o.content).where(or_(o.placer == number, and_(o.placer == "", o.filler == number)))
        with self._database.begin(reads_only=True) as db:
            content = db.execute(query.order_by(o.id.desc()).limit(1)).scalar()
        if not number or content is None:
            return Subject()
        order = as_order(content)
        return Subject(identifier=order.patient_id, name=order.patient_name)


def had_by_all(db: Connection, receivers: Sequence[str]) -> int | None:
    """The last line that each of these receivers has; None: there are none."""
    return min((_cursor(db, receiver) for receiver in receivers), default=None)


def _name(receiver: str) -> str:
    return f"audit:{receiver}"


def _cursor(db: Connection, receiver: str) -> int:
    value: Any = db.execute(select(t.cursor.c.value).where(t.cursor.c.name == _name(receiver))).scalar()
    return int(value or 0)
