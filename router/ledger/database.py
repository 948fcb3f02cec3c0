"""The ledger's database: how it is opened, migrated and written to. Next: studies.py, __init__.py.

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
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, Float, Table, bindparam, create_engine, event, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from medai.router import private
from medai.router.errors import LedgerFull, LedgerNewer, LedgerUnreachable
from medai.router.ledger import schema as t
from medai.router.ledger.trail import PENDING, Trail

log = structlog.get_logger(__name__)


class Database:
    """One database; safe to share between threads. ``now`` is given by the caller: time is data here."""

    def __init__(self, url: str, *, audit_folder: str = "") -> None:
        self.url = url
        self.engine = make_engine(url)
        self.trail = _trail(make_url(url), audit_folder)
        self._reader = self.engine.execution_options(reads_only=True)
        self._writer = self.engine.execution_options(audit_trail=self.trail)

    # -- set-up

    def migrate(self) -> None:
        """Bring the schema to the newest revision (Alembic); harmless when it is there already.

        An SQLite file that other users could read is closed to them first.
        """
        if self.engine.url.get_backend_name() == "sqlite" and self.engine.url.database:
            private.mend_database(Path(self.engine.url.database))
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["engine"] = self.engine
        try:
            command.upgrade(config, "head")
        except CommandError as error:  # Alembic does not know the revision that it finds
            raise LedgerNewer("the ledger was made by a newer Med-AI: update this one") from error
        except (DBAPIError, PoolExhausted) as error:
            problem = translated(error)
            if problem is None:
                raise
            raise problem from error

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    @staticmethod
    def knows(revision: str) -> bool:
        """Whether this program knows a revision of the schema; one that it doesn't is a newer program's."""
        folder = ScriptDirectory(str(Path(__file__).parent / "migrations"))
        return revision in {each.revision for each in folder.walk_revisions()}

    @contextmanager
    def begin(self, *, reads_only: bool = False) -> Iterator[Connection]:
        """One transaction; a database that is away, locked or full is a TemporaryError."""
        try:
            with (self._reader if reads_only else self._writer).begin() as connection:
                kept = connection.info
                kept.pop(PENDING, None)
                yield connection
            self.trail.keep(kept.pop(PENDING, None))
        except (DBAPIError, PoolExhausted) as error:
            problem = translated(error)
            if problem is None:
                raise
            raise problem from error

    @contextmanager
    def wiping(self) -> Iterator[Connection]:
        """A transaction after which an SQLite file holds nothing more of what was deleted or overwritten in it."""
        with self.begin() as db:
            if db.dialect.name != "sqlite":
                yield db
                return
            db.exec_driver_sql("PRAGMA secure_delete=ON")
            try:
                yield db
            finally:
                db.exec_driver_sql("PRAGMA secure_delete=OFF")
        raw = self.engine.raw_connection()
        try:
            cursor = raw.cursor()
            cursor.execute("PRAGMA busy_timeout=2000")  # writers wait for it: where somebody reads on, it is done later
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            cursor.execute("PRAGMA busy_timeout=30000")
        finally:
            raw.close()

    def setting(self, key: str, default: str) -> str:
        """A value that is made once and kept (the log key, the first start); the first writer wins."""
        with self.begin() as db:
            db.execute(upsert(db, t.meta).values(key=key, value=default).on_conflict_do_nothing())
            return str(db.execute(select(t.meta.c.value).where(t.meta.c.key == key)).scalar_one())

    def log_key(self) -> str:
        """The key of the pseudonyms in the logs, made with the ledger."""
        return self.setting("log_key", secrets.token_hex(16))


def _trail(url: URL, audit_folder: str) -> Trail:
    """Beside an SQLite ledger, unless a folder is named; a database elsewhere has no place of its own."""
    beside = (
        Path(url.database)
        if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
        else None
    )
    name = beside.name if beside else str(url.database or "ledger")
    if audit_folder:
        return Trail(Path(audit_folder), name)
    return Trail(beside.parent if beside else None, name)


class Part:
    """A part of the ledger: what it does on the one database."""

    def __init__(self, database: Database) -> None:
        self._database = database


def translated(error: DBAPIError | PoolExhausted) -> LedgerUnreachable | None:
    """A database that is away or full, as a temporary error; None for anything else, which is a fault of ours."""
    if isinstance(error, PoolExhausted):
        return LedgerUnreachable("the ledger does not answer (all connections are busy)")
    name = type(error.orig).__name__
    if name == "DiskFull" or "disk is full" in str(error.orig):
        return LedgerFull("the disk of the ledger is full: free some space")
    if getattr(error.orig, "sqlite_errorname", "") == "SQLITE_ERROR":
        return None  # SQLite's driver calls a wrong statement operational, too
    if isinstance(error, (OperationalError, InterfaceError)) or error.connection_invalidated:
        return LedgerUnreachable(f"the ledger does not answer ({name})")
    return None


PATIENCE = {
    "connect_timeout": 5,
    "tcp_user_timeout": 15_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "options": "-c statement_timeout=60000 -c idle_in_transaction_session_timeout=60000",
}
"""A PostgreSQL that is cut off is noticed within seconds, and a frozen client's locks are let go."""


def upsert(db: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that may say what happens where the row is there already (``on_conflict_do_update``)."""
    return postgresql.insert(table) if db.dialect.name == "postgresql" else sqlite.insert(table)


NOW, LONGEST_S = bindparam("now", type_=Float()), bindparam("longest_s", type_=Float())
"""Of questions that are asked ten times a second: they are put together once, since that costs more than the answer."""


def due_by(column: Any, now: Any, longest_s: Any) -> Any:
    """Whether a planned moment has come; one that lies further ahead than any wait was written by another clock."""
    return or_(column <= now, column > now + longest_s + 1.0)


def make_engine(url: str) -> Engine:
    """An engine whose SQLite is durable (WAL, synchronous FULL) and whose write transactions never dead-lock."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, json_serializer=_json, connect_args=PATIENCE)
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
