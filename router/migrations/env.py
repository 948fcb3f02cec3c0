"""Alembic's environment: runs the migrations on the engine that the ledger hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine

from router.schema import metadata

engine = context.config.attributes.get("engine") or create_engine(
    context.config.get_main_option("sqlalchemy.url") or "sqlite:///medai-ledger.sqlite"
)
with engine.connect() as connection:
    # Two processes may start at once: the lock makes the second wait and find nothing to do.
    # (SQLite needs none: the engine begins every transaction with the write lock.)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_lock(6513249)")
    try:
        context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    finally:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_unlock(6513249)")
