"""``ledger.outside``: what went to an AI outside under which pseudonyms, and how far its answer is.

A row for a reading, and one for each UID that was sent: the way back. Both go with their reading, and the UIDs as soon
as history does. Next: workers/outside/exchange.py.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import insert, select, update

from medai.router.ledger import schema as t
from medai.router.ledger.database import Part, upsert
from medai.router.ledger.history import ROUTER, noted

_KEY = "outside_key"


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A reading outside. ``seen``: what its answer held when it was looked at last."""

    study_uid: str
    sent_at: float | None
    seen: str


class Outside(Part):
    """Readings outside."""

    def key(self) -> bytes:
        """The site's key of pseudonyms, made when first needed."""
        return bytes.fromhex(self._database.setting(_KEY, secrets.token_hex(32)))

    def exchange(self, job_id: str) -> Exchange | None:
        """How far a reading is; None before anything was to be sent."""
        c = t.outside_jobs.c
        with self._database.begin(reads_only=True) as db:
            row = db.execute(select(c.study_uid, c.sent_at, c.seen).where(c.job_id == job_id)).mappings().first()
        return Exchange(**row) if row else None

    def originals(self, job_id: str) -> dict[str, str]:
        """Pseudonym of each UID that was sent for a reading -> what it stands for."""
        c = t.outside_uids.c
        with self._database.begin(reads_only=True) as db:
            return {str(row[0]): str(row[1]) for row in db.execute(select(c.uid, c.original).where(c.job_id == job_id))}

    def begin(self, job_id: str, study_uid: str, originals: Mapping[str, str]) -> None:
        """Keep the way back before anything leaves; the same again is harmless."""
        with self._database.begin() as db:
            row = upsert(db, t.outside_jobs).values(job_id=job_id, study_uid=study_uid)
            db.execute(row.on_conflict_do_nothing())
            known = set(db.execute(select(t.outside_uids.c.uid).where(t.outside_uids.c.job_id == job_id)).scalars())
            rows = [{"job_id": job_id, "uid": uid, "original": each} for uid, each in originals.items()
                    if uid not in known]  # fmt: skip
            if rows:
                db.execute(insert(t.outside_uids), rows)

    def sent(self, job_id: str, to: str, now: float) -> None:
        """All of it has left; the audit trail says so."""
        c = t.outside_jobs.c
        with self._database.begin() as db:
            db.execute(update(t.outside_jobs).where(c.job_id == job_id).values(sent_at=now))
            study_id = db.execute(select(t.jobs.c.study_id).where(t.jobs.c.id == job_id)).scalar_one()
            noted(db, ROUTER, "sent outside", now, study_id=study_id, job_id=job_id, detail=to)

    def saw(self, job_id: str, what: str) -> None:
        """An answer that may not be whole yet."""
        c = t.outside_jobs.c
        with self._database.begin() as db:
            db.execute(update(t.outside_jobs).where(c.job_id == job_id).values(seen=what))
