"""The ledger's database: how it is opened, migrated and written to. Next: studies.py, ledger.py.

SQLite is durable (WAL, synchronous FULL) and its writers never dead-lock; PostgreSQL is taken by URL.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError

from router import schema as t
from router.contract import Decision
from router.errors import TemporaryError

log = structlog.get_logger(__name__)


class Database:
    """One database; safe to share between threads. ``now`` is given by the caller: time is data here."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = make_engine(url)
        self._reader = self.engine.execution_options(reads_only=True)
        self._insert = postgresql.insert if self.engine.dialect.name == "postgresql" else sqlite.insert

    # -- set-up

    def migrate(self) -> None:
        """Bring the schema to the newest revision (Alembic); harmless when it is there already."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["engine"] = self.engine
        try:
            command.upgrade(config, "head")
        except OperationalError as error:
            raise TemporaryError(f"the ledger does not answer ({type(error.orig).__name__})") from error

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    @contextmanager
    def begin(self, *, reads_only: bool = False) -> Iterator[Connection]:
        """One transaction; a database that is away or locked is a TemporaryError."""
        try:
            with (self._reader if reads_only else self.engine).begin() as connection:
                yield connection
        except OperationalError as error:
            raise TemporaryError(f"the ledger does not answer ({type(error.orig).__name__})") from error

    def setting(self, key: str, default: str) -> str:
        """A value that is made once and kept (the log key, the first start); the first writer wins."""
        with self.begin() as db:
            db.execute(self._insert(t.meta).values(key=key, value=default).on_conflict_do_nothing())
            return str(db.execute(select(t.meta.c.value).where(t.meta.c.key == key)).scalar_one())

    def log_key(self) -> str:
        """The key of the pseudonyms in the logs, made with the ledger."""
        return self.setting("log_key", secrets.token_hex(16))


def make_engine(url: str) -> Engine:
    """An engine whose SQLite is durable (WAL, synchronous FULL) and whose write transactions never dead-lock."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, json_serializer=_json)
    engine = create_engine(url, json_serializer=_json, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself: _begin does
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer that takes its lock late can dead-lock with another; readers need none.
        reads = connection.get_execution_options().get("reads_only", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def decide(db: Connection, study_id: int, decision: Decision, now: float, *, job_id: str | None = None) -> None:
    """Record a decision in an open transaction."""
    db.execute(
        insert(t.decisions).values(
            study_id=study_id,
            job_id=job_id,
            at=now,
            verdict=decision.verdict.value,
            route=decision.route,
            reason=decision.reason,
        )
    )
