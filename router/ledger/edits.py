"""``ledger.edits``: what readers made of our results. Which object, of which reading, and how far from it.

A row is a SEG or SR that somebody else stored on the images that we read; it is compared by a worker. A message and a
claim may come twice: only the claim's token can write the outcome, and a comparison done twice says the same.
Next: intake/reader_edits.py (which objects these are), workers/feedback/runner.py (who compares),
reports/agreement.py (the sums).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Float, Integer, Select, and_, bindparam, delete, insert, or_, select, update

from medai.router.contract import FINAL_STATES
from medai.router.ledger import schema as t
from medai.router.ledger.database import NOW, Part, due_by, upsert
from medai.router.ledger.jobs import CLOCK_SLACK_S
from medai.router.ledger.rows import rows
from medai.router.ledger.transitions import GONE

CLAIM_S = 900.0
"""A worker that has not answered for so long about a comparison has lost it."""
MAX_TRIES = 5
"""A comparison that was begun so often and never ended is not begun again."""
LONGEST_WAIT_S = 3600.0
TEXT = 64


class EditState(StrEnum):
    """Where an edit stands. ``UNRELATED``: it holds nothing of what we read, and names no result of ours."""

    PENDING = "pending"
    COMPARED = "compared"
    UNRELATED = "unrelated"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class EditSeen:
    """A SEG or SR of somebody else on the images of a reading, as the router found it in the archive."""

    study_orthanc_id: str
    job_id: str
    orthanc_id: str
    series_uid: str
    sop_uid: str
    kind: str
    """``seg`` or ``sr``."""
    named: bool
    """It refers to an object of that very reading, not to its images alone."""
    digest: str
    """MD5 of its file: other content under the same UID is compared again."""
    tool: str
    """Manufacturer and model name of what wrote it."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A reading with a result that stands: what an edit may be an edit of."""

    job_id: str
    route: str
    slot: str
    model: str
    series: frozenset[str]
    """Orthanc ids of the series that were read."""
    series_uids: frozenset[str]
    objects: frozenset[str]
    """SOP and Series Instance UIDs of its results."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One structure or measurement of an edit beside ours. Volumes are in ml, as ``unit`` says."""

    structure: str
    outcome: str
    """``matched``, ``added`` (only the reader has it) or ``removed`` (only we have it)."""
    quantity: str = "volume"
    unit: str = "ml"
    ours: float | None = None
    theirs: float | None = None
    dice: float | None = None
    hd95_mm: float | None = None
    segment: int | None = None
    """Our segment number."""
    edited_segment: int | None = None
    """The reader's segment number."""


@dataclass(frozen=True, kw_only=True)
class UnsentEdit:
    """An edit whose comparison is to be asked for."""

    id: int
    queue: str


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A reading that an edit may be an edit of."""

    job_id: str
    objects: Mapping[str, str]
    """Kind -> Orthanc id of its results."""
    names: Mapping[int, str]
    """Segment number -> name of the structures that it measured."""
    stored: bool
    """Whether the archive has its results, or never will."""


@dataclass(frozen=True, kw_only=True)
class EditClaim:
    """An edit in a worker's hands, with the readings that it may be an edit of, the likeliest first."""

    edit_id: int
    token: str
    orthanc_id: str
    kind: str
    named: bool
    tries: int
    readings: tuple[Candidate, ...]


class Edits(Part):
    """Edits: seen by the router, compared by a worker, counted by everybody."""

    # -- seen

    def readings_with_results(self, orthanc_study: str) -> list[Reading]:
        """The readings of a study whose results stand, newest first."""
        with self._database.begin(reads_only=True) as db:
            return _readings(db, t.studies.c.orthanc_id == orthanc_study)

    def digests(self, orthanc_ids: Sequence[str]) -> dict[str, str]:
        """Orthanc id -> MD5 of the edits among these instances that are known."""
        query = select(t.edits.c.orthanc_id, t.edits.c.digest).where(t.edits.c.orthanc_id.in_(list(orthanc_ids)))
        with self._database.begin(reads_only=True) as db:
            return {str(row[0]): str(row[1]) for row in db.execute(query)}

    def see(self, seen: EditSeen, now: float, db: Connection) -> bool:
        """Record an edit, once; other content under its UID makes it new. Whether there is something to compare."""
        study = select(t.studies.c.id).where(t.studies.c.orthanc_id == seen.study_orthanc_id)
        study_id = db.execute(study).scalar()
        if study_id is None:
            return False
        known = db.execute(
            select(t.edits.c.id, t.edits.c.digest, t.edits.c.orthanc_id).where(
                t.edits.c.study_id == study_id, t.edits.c.sop_uid == seen.sop_uid
            )
        ).first()
        values: dict[str, Any] = {k: v for k, v in asdict(seen).items() if k != "study_orthanc_id"}
        values |= {"tool": seen.tool[:160], "seen_at": now, "state": EditState.PENDING.value, "reason": ""}
        if known is None:
            made = upsert(db, t.edits).values(study_id=study_id, **values).on_conflict_do_nothing()
            return bool(db.execute(made).rowcount)
        if known.digest == seen.digest:
            if known.orthanc_id != seen.orthanc_id:  # the archive gave the study another patient
                db.execute(update(t.edits).where(t.edits.c.id == known.id).values(orthanc_id=seen.orthanc_id))
            return False
        values |= {"verdict": "", "sent_at": None, "not_before": 0.0, "token": None, "claimed_at": None}
        values |= {"tries": 0, "compared_at": None}
        db.execute(update(t.edits).where(t.edits.c.id == known.id).values(**values))
        db.execute(delete(t.edit_comparisons).where(t.edit_comparisons.c.edit_id == known.id))
        return True

    # -- sent

    def unsent(self, now: float, *, resend_before: float, limit: int = 500) -> list[UnsentEdit]:
        """Edits that wait, are in nobody's hands, and whose message never went or went before ``resend_before``."""
        values = {"now": now, "resend_before": resend_before, "many": limit}
        with self._database.begin(reads_only=True) as db:
            return rows(db, _UNSENT, UnsentEdit, values)

    def mark_sent(self, sent: Mapping[int, float]) -> None:
        """The messages of these edits are with the broker since these moments."""
        with self._database.begin() as db:
            for edit_id, at in sent.items():
                db.execute(update(t.edits).where(t.edits.c.id == edit_id).values(sent_at=at))

    # -- compared

    def claim(self, edit_id: int, now: float) -> EditClaim | None:
        """Take an edit; None where there is nothing to do, or somebody else does it.

        One that was begun MAX_TRIES times and never ended fails here: it may be what ends its workers.
        """
        token = str(uuid.uuid4())
        waits = and_(t.edits.c.id == edit_id, t.edits.c.state == EditState.PENDING.value, _free(now))
        with self._database.begin() as db:
            row = db.execute(select(t.edits).where(waits)).first()
            if row is None:
                return None
            if row.tries >= MAX_TRIES:
                reason = f"begun {row.tries} times and never finished"
                values = {"state": EditState.FAILED.value, "reason": reason, "token": None}
                db.execute(update(t.edits).where(waits).values(**values))
                return None
            taken = {"token": token, "claimed_at": now, "tries": row.tries + 1}
            if db.execute(update(t.edits).where(waits).values(**taken)).rowcount != 1:
                return None
            readings = _candidates(db, row.study_id, row.job_id, named=row.named)
        return EditClaim(
            edit_id=edit_id, token=token, orthanc_id=str(row.orthanc_id), kind=str(row.kind),
            named=bool(row.named), tries=int(row.tries) + 1, readings=tuple(readings),
        )  # fmt: skip

    def compared(
        self, claim: EditClaim, job_id: str, rows: Sequence[Compared], now: float, *, verdict: str = ""
    ) -> bool:
        """Keep what came of it; False where the claim is no longer this worker's (the edit was stored anew)."""
        values = {"job_id": job_id, "verdict": verdict, "compared_at": now}
        with self._database.begin() as db:
            if not _ended(db, claim, EditState.COMPARED, "", values):
                return False
            db.execute(delete(t.edit_comparisons).where(t.edit_comparisons.c.edit_id == claim.edit_id))
            for row in rows:
                content = asdict(row) | {"structure": row.structure[:TEXT], "quantity": row.quantity[:TEXT]}
                db.execute(insert(t.edit_comparisons).values(edit_id=claim.edit_id, **content))
        return True

    def ended(self, claim: EditClaim, state: EditState, reason: str) -> bool:
        """It can't be compared, or is none: why."""
        with self._database.begin() as db:
            return _ended(db, claim, state, reason, {})

    def put_off(self, claim: EditClaim, reason: str, not_before: float) -> None:
        """Give it back: another try may help. It does not count as a try."""
        values = {"reason": reason, "not_before": not_before, "token": None, "claimed_at": None, "sent_at": None}
        mine = and_(t.edits.c.id == claim.edit_id, t.edits.c.token == claim.token)
        with self._database.begin() as db:
            db.execute(update(t.edits).where(mine).values(**values, tries=claim.tries - 1))


def _free(now: Any) -> Any:
    """In nobody's hands: never claimed, or so long ago (or so far ahead: a stepped clock) that it was lost."""
    c = t.edits.c
    return or_(c.token.is_(None), c.claimed_at < now - CLAIM_S, c.claimed_at > now + CLAIM_S)


def _unsent() -> Select[Any]:
    """See ``Edits.unsent``."""
    c = t.edits.c
    resend_before = bindparam("resend_before", type_=Float())
    ripe = and_(
        c.state == EditState.PENDING.value,
        _free(NOW),
        due_by(c.not_before, NOW, LONGEST_WAIT_S),
        or_(c.sent_at.is_(None), c.sent_at < resend_before, c.sent_at > NOW + CLOCK_SLACK_S),
    )
    query = select(c.id, t.jobs.c.queue).join(t.jobs, t.jobs.c.id == c.job_id).where(ripe)
    return query.order_by(c.seen_at, c.id).limit(bindparam("many", type_=Integer()))


_UNSENT = _unsent()


def _ended(db: Connection, claim: EditClaim, state: EditState, reason: str, more: Mapping[str, Any]) -> bool:
    mine = and_(t.edits.c.id == claim.edit_id, t.edits.c.token == claim.token)
    values = {"state": state.value, "reason": reason, "token": None, "claimed_at": None, **more}
    return db.execute(update(t.edits).where(mine).values(**values)).rowcount == 1


def _readings(db: Connection, of_study: Any) -> list[Reading]:
    j = t.jobs
    stands = and_(of_study, j.c.storing_at.is_not(None), j.c.failure.not_in(tuple(GONE)))
    columns = (j.c.id, j.c.route, j.c.slot, j.c.model, j.c.series, j.c.study_id)
    query = select(*columns).join(t.studies, t.studies.c.id == j.c.study_id).where(stands)
    found = db.execute(query.order_by(j.c.created_at.desc(), j.c.revision.desc(), j.c.id)).all()
    if not found:
        return []
    uids = {
        str(row.orthanc_id): str(row.series_uid)
        for row in db.execute(select(t.series).where(t.series.c.study_id == found[0].study_id))
    }
    objects: dict[str, set[str]] = {}
    o = t.result_objects.c
    for row in db.execute(select(o.job_id, o.sop_uid, o.series_uid).where(o.job_id.in_([row.id for row in found]))):
        objects.setdefault(str(row.job_id), set()).update((str(row.sop_uid), str(row.series_uid)))
    return [
        Reading(
            job_id=str(row.id),
            route=str(row.route),
            slot=str(row.slot),
            model=str(row.model),
            series=frozenset(row.series),
            series_uids=frozenset(uids[name] for name in row.series if name in uids),
            objects=frozenset(objects.get(str(row.id), set())),
        )
        for row in found
    ]


def _candidates(db: Connection, study_id: int, job_id: str, *, named: bool) -> list[Candidate]:
    """The reading that an edit was put to and, unless it names that one, the newest others of the same series."""
    found = _readings(db, t.studies.c.id == study_id)
    first = [reading for reading in found if reading.job_id == job_id]
    others: dict[tuple[str, str], Reading] = {(one.route, one.slot): one for one in first}
    for reading in found if first and not named else []:
        if reading.series & first[0].series:
            others.setdefault((reading.route, reading.slot), reading)
    o = t.result_objects.c
    out = []
    for reading in others.values():
        stored_as = db.execute(select(o.kind, o.orthanc_id).where(o.job_id == reading.job_id))
        objects = {str(row.kind): str(row.orthanc_id) for row in stored_as}
        columns = (t.jobs.c.measurements, t.jobs.c.stored_at, t.jobs.c.state)
        job = db.execute(select(*columns).where(t.jobs.c.id == reading.job_id)).one()
        names = {int(m["segment_number"]): str(m["segment_name"]) for m in job.measurements or []}
        stored = job.stored_at is not None or job.state in FINAL_STATES
        out.append(Candidate(job_id=reading.job_id, objects=objects, names=names, stored=stored))
    return out
