"""Alembic's environment: runs the migrations on the engine that the ledger hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine

from medai.router.ledger.schema import metadata

engine = context.config.attributes.get("engine") or create_engine(
    context.config.get_main_option("sqlalchemy.url") or "sqlite:///medai-ledger.sqlite"
)
# One transaction for all of it: a migration that dies half-way leaves the ledger as it was. (Alembic would commit each
# statement on SQLite; given a transaction of ours, it leaves that alone.)
with engine.begin() as connection:
    # Two processes may start at once: the lock makes the second wait and find nothing to do. SQLite needs none: the
    # engine begins every transaction with the write lock.
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(6513249)")
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
