"""``ledger.fleet``: who works here. Workers and their models, and which of several routers leads.

Whether a holder still lives is never read off a clock: each renewal counts ``beat`` up, and whoever watches sees it
stand still for long enough on a clock of its own. A stepped clock or two machines' different ones change nothing.
Next: daemon/leader.py, queue/sweeper.py.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, and_, select, text, update
from sqlalchemy.exc import ProgrammingError

from medai.router.ledger import schema as t
from medai.router.ledger.database import Part, upsert
from medai.router.ledger.rows import first

FORGET_WORKER_S = 3600.0
ALIVE_S = 60.0
"""A worker that was last heard of longer ago counts as gone, for routing and on every page.

It speaks every five seconds, but loading a model, a busy machine or a ledger that was away may keep it silent for
longer; who counts it as gone too early refuses studies. A job of one that died is taken back by its lease, sooner.
"""


@dataclass(frozen=True, kw_only=True)
class LeaseSeen:
    """A lease as it stands: whose it is and how often it was renewed."""

    holder: str
    token: str
    beat: int


@dataclass(frozen=True, kw_only=True)
class OwnCard:
    """What a bundle says of itself (models/format/own_card.py); ``missing``: why it says nothing."""

    text: str
    figures: str
    reference: Mapping[str, Any] | None
    missing: str


@dataclass(frozen=True, kw_only=True)
class Announced:
    """What a worker says of a model; ``reason``: why it can't run where it is not available."""

    name: str
    version: str
    available: bool
    reason: str
    own: OwnCard | None = None


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """What the workers said last of a model."""

    name: str
    version: str
    available: bool
    reason: str
    seen_at: float


class Fleet(Part):
    """Workers, models and leases."""

    # -- leases

    def lease(self, name: str) -> LeaseSeen | None:
        """Who holds a lease; None before anybody did."""
        columns = (t.leases.c.holder, t.leases.c.token, t.leases.c.beat)
        with self._database.begin(reads_only=True) as db:
            row = db.execute(select(*columns).where(t.leases.c.name == name)).mappings().first()
        return LeaseSeen(**row) if row else None

    def take_lease(self, name: str, holder: str, now: float, *, seen: LeaseSeen | None) -> str | None:
        """Take a lease that stands exactly as ``seen``; the token, or None when another was faster."""
        token = str(uuid.uuid4())
        values = {"holder": holder, "token": token, "beat": 0, "at": now}
        with self._database.begin() as db:
            if seen is None:
                db.execute(upsert(db, t.leases).values(name=name, **values).on_conflict_do_nothing())
                held = db.execute(select(t.leases.c.token).where(t.leases.c.name == name)).scalar()
                return token if held == token else None
            same = and_(t.leases.c.name == name, t.leases.c.token == seen.token, t.leases.c.beat == seen.beat)
            return token if db.execute(update(t.leases).where(same).values(**values)).rowcount == 1 else None

    def renew_lease(self, name: str, token: str, now: float) -> bool:
        """Hold it longer; False when another has taken it."""
        mine = and_(t.leases.c.name == name, t.leases.c.token == token)
        values = {"beat": t.leases.c.beat + 1, "at": now}
        with self._database.begin() as db:
            return db.execute(update(t.leases).where(mine).values(**values)).rowcount == 1

    def give_lease(self, name: str, token: str, now: float) -> None:
        """Let it go: the next one need not wait."""
        mine = and_(t.leases.c.name == name, t.leases.c.token == token)
        with self._database.begin() as db:
            db.execute(update(t.leases).where(mine).values(holder="", beat=t.leases.c.beat + 1, at=now))

    # -- workers and models

    def worker_seen(
        self, name: str, *, queues: Sequence[str], device: str, started_at: float, job_id: str | None, now: float,
        models: Mapping[str, str] | None = None, alarm: str = "", load: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        """A worker says that it lives, what it does, which models it holds and what it needs a person for.

        ``load`` is what it uses, with the unit in each name (workers/load.py).
        """
        values = {
            "queues": list(queues),
            "device": device,
            "started_at": started_at,
            "seen_at": now,
            "job_id": job_id,
            "models": dict(models or {}),
            "alarm": alarm,
            "load": dict(load or {}),
        }
        with self._database.begin() as db:
            statement = upsert(db, t.workers).values(name=name, **values)
            db.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))
            db.execute(t.workers.delete().where(t.workers.c.seen_at < now - FORGET_WORKER_S))  # the killed ones

    def worker_gone(self, name: str) -> None:
        """A worker stops in good order."""
        with self._database.begin() as db:
            db.execute(t.workers.delete().where(t.workers.c.name == name))

    def announce(self, cards: Sequence[Announced], now: float) -> None:
        """A worker says which models it knows of, and why one cannot run; see ``held_models`` for who has which."""
        with self._database.begin() as db:
            for card in cards:
                values = {"seen_at": now, "version": card.version, "available": card.available, "reason": card.reason}
                statement = upsert(db, t.models).values(name=card.name, **values)
                db.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))
                if card.own is not None:
                    self._keep_card(db, card, card.own, now)

    @staticmethod
    def _keep_card(db: Connection, card: Announced, own: OwnCard, now: float) -> None:
        """What a version says of itself stays, also when another one has taken its place."""
        key = {"name": card.name, "version": card.version}
        values = {**asdict(own), "seen_at": now}
        statement = upsert(db, t.model_cards).values(**key, **values)
        db.execute(statement.on_conflict_do_update(index_elements=["name", "version"], set_=values))

    def model(self, name: str) -> ModelRow | None:
        """What the workers said of a model."""
        with self._database.begin(reads_only=True) as db:
            return first(db, select(t.models).where(t.models.c.name == name), ModelRow)

    def held_models(self, now: float) -> dict[str, set[str]]:
        """Model -> the versions of it that living workers can run."""
        out: dict[str, set[str]] = {}
        with self._database.begin(reads_only=True) as db:
            for models, seen_at in db.execute(select(t.workers.c.models, t.workers.c.seen_at)):
                for name, version in (models or {}).items() if is_alive(seen_at, now) else ():
                    out.setdefault(str(name), set()).add(str(version))
        return out

    # -- versions

    def fits(self) -> bool:
        """Whether the ledger has exactly the tables that this program knows: an older program must write nothing."""
        try:
            with self._database.begin(reads_only=True) as db:
                return db.execute(text("SELECT version_num FROM alembic_version")).scalar() == newest_revision()
        except ProgrammingError:
            return False


def is_alive(seen_at: float, now: float) -> bool:
    """Whether a worker that was last heard of at ``seen_at`` counts as alive; its clock may be ahead."""
    return abs(now - seen_at) < ALIVE_S


def newest_revision() -> str:
    """The newest revision of the ledger's tables that this program knows."""
    if not _newest:
        _newest.append(str(ScriptDirectory(str(Path(__file__).parent / "migrations")).get_current_head()))
    return _newest[0]


_newest: list[str] = []


def newest_version(versions: set[str]) -> str:
    """The newest of several versions: numbers by value, texts by letter ("1.10.0" after "1.9.2")."""
    return max(
        versions, key=lambda text: [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"[.+-]", text)]
    )
