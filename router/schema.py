"""The ledger's tables. Their history is in migrations/; a test holds both equal. Next: ledger.py.

Times are seconds since the epoch (float). The ledger is the one place that may hold identifiers; logs may not.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

cursor = Table(
    "change_cursor",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Integer, nullable=False),
    Column("at", Float, nullable=False),
)

orders = Table(
    "imaging_order",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("placer", String(128), nullable=False, unique=True),
    Column("accession", String(64), nullable=False, index=True),
    Column("study_uid", String(64), nullable=False, index=True),
    Column("status", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("ordered_at", Float),
    Column("received_at", Float, nullable=False),
    Column("control_id", String(64), nullable=False),
    Column("content", JSON, nullable=False),
)

studies = Table(
    "study",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_uid", String(64), nullable=False, index=True),
    Column("orthanc_id", String(64), nullable=False, unique=True),
    Column("accession", String(64), nullable=False, server_default="", index=True),
    Column("modality", String(16), nullable=False, server_default=""),
    Column("instances", Integer, nullable=False),
    Column("expected", JSON, nullable=False),
    Column("acquired_at", Float),
    Column("first_instance_at", Float, nullable=False),
    Column("last_instance_at", Float, nullable=False),
    Column("complete_at", Float),
    Column("due_at", Float, index=True),
    Column("deleted_at", Float),
    Column("archive_update", String(32), nullable=False, server_default=""),
    Column("outcome_hash", String(64), nullable=False, server_default=""),
)

series = Table(
    "series",
    metadata,
    Column("orthanc_id", String(64), primary_key=True),
    Column("study_id", ForeignKey("study.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("series_uid", String(64), nullable=False),
    Column("instances", Integer, nullable=False),
    Column("expected", JSON, nullable=False),
    Column("last_instance_at", Float, nullable=False),
)

jobs = Table(
    "job",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("route", String(40), nullable=False),
    Column("slot", String(64), nullable=False, server_default=""),
    Column("model", String(64), nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("modality", String(16), nullable=False, server_default=""),
    Column("series", JSON, nullable=False),
    Column("sources_hash", String(64), nullable=False),
    Column("sources_count", Integer, nullable=False),
    Column("queue", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("predecessor", ForeignKey("job.id")),
    Column("destinations", JSON, nullable=False),
    Column("quiet_s", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("crashes", Integer, nullable=False, server_default="0"),
    Column("not_before", Float, nullable=False, server_default="0"),
    Column("sent_at", Float),
    Column("lease_owner", String(128)),
    Column("lease_token", String(36)),
    Column("lease_until", Float),
    Column("storing_at", Float),
    Column("stored_at", Float),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("results", JSON),
    Column("measurements", JSON),
    Column("warnings", JSON),
    Column("verdict", String(16)),
    Column("plausibility", JSON),
    Index(None, "state", "priority", "created_at"),
    Index(None, "study_id", "route", "slot", "revision"),
    Index(None, "created_at"),
)

stamps = Table(
    "stamp",
    metadata,
    Column("job_id", ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(24), primary_key=True),
    Column("at", Float, nullable=False),
)

attempts = Table(
    "attempt",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("job.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("worker", String(128), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("outcome", String(16), nullable=False),
    Column("error", Text, nullable=False, server_default=""),
)

decisions = Table(
    "decision",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("job_id", String(36)),
    Column("at", Float, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("route", String(40)),
    Column("reason", Text, nullable=False),
)

result_objects = Table(
    "result_object",
    metadata,
    Column("orthanc_id", String(64), primary_key=True),
    Column("job_id", ForeignKey("job.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("kind", String(8), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("sop_uid", String(64), nullable=False),
)

deliveries = Table(
    "delivery",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    Column("destination", String(40), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("control_id", String(20), nullable=False, server_default=""),
    Column("payload", LargeBinary),
    Column("receipt", Text, nullable=False, server_default=""),
    Column("error", Text, nullable=False, server_default=""),
    Column("first_try_at", Float),
    Column("done_at", Float),
    UniqueConstraint("job_id", "destination"),
)

workers = Table(
    "worker",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("queues", JSON, nullable=False),
    Column("device", String(64), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False, index=True),
    Column("job_id", String(36)),
)

models = Table(
    "model",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("version", String(64), nullable=False),
    Column("available", Boolean, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("seen_at", Float, nullable=False),
)
