"""The ledger's tables. Their history is in migrations/; a test holds both equal. Next: __init__.py.

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

ADDRESS_MAX = 64
"""Characters of the address that somebody acts from: an IPv6 address with its zone has fewer."""

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
    Column("placer", String(427), nullable=False, index=True),
    Column("filler", String(427), nullable=False, server_default="", index=True),
    Column("accession", String(64), nullable=False, index=True),
    Column("study_uid", String(64), nullable=False, index=True),
    Column("status", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("ordered_at", Float),
    Column("received_at", Float, nullable=False),
    Column("control_id", String(64), nullable=False),
    Column("content", JSON, nullable=False),
    Column("said", JSON, nullable=False),
)

held_orders = Table(
    "held_order",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(64), nullable=False, unique=True),
    Column("study_id", Integer),
    Column("study_uid", String(64), nullable=False, index=True),
    Column("placer", String(427), nullable=False),
    Column("accession", String(64), nullable=False),
    Column("differs", String(80), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("seen_at", Float, nullable=False),
    Column("decided_at", Float),
    Column("decided_by", String(64), nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default=""),
)

held_merges = Table(
    "held_merge",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(64), nullable=False, unique=True),
    Column("prior_id", String(128), nullable=False),
    Column("prior_authority", String(128), nullable=False),
    Column("patient_id", String(128), nullable=False),
    Column("patient_authority", String(128), nullable=False),
    Column("content", JSON, nullable=False),
    Column("differs", String(80), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("seen_at", Float, nullable=False),
    Column("decided_at", Float),
    Column("decided_by", String(64), nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default=""),
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
    Column("resent_at", Float),
    Column("archive_update", String(32), nullable=False, server_default=""),
    Column("outcome_hash", String(64), nullable=False, server_default=""),
    Index(None, "last_instance_at", "id"),
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

announcements = Table(
    "announcement",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("uid", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("content", JSON, nullable=False),
    Column("at", Float, nullable=False, index=True),
    UniqueConstraint("kind", "uid", "study_uid"),
)

workitems = Table(
    "workitem",
    metadata,
    Column("uid", String(64), primary_key=True),
    Column("lock_uid", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False, index=True),
    Column("study_id", Integer, index=True),
    Column("route", String(40), nullable=False),
    Column("codes", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("job_id", String(36)),
    Column("reason", Text, nullable=False, server_default=""),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("seen_at", Float, nullable=False),
    Column("claimed_at", Float),
    Column("ended_at", Float),
    Column("next_try_at", Float, nullable=False, server_default="0"),
    Index(None, "state", "next_try_at"),
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
    Column("failure", String(16), nullable=False, server_default=""),
    Column("retried_at", Float),
    Column("salt", String(80), nullable=False, server_default=""),
    Column("content_digest", String(64), nullable=False, server_default=""),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("crashes", Integer, nullable=False, server_default="0"),
    Column("not_before", Float, nullable=False, server_default="0"),
    Column("sent_at", Float),
    Column("lease_owner", String(128)),
    Column("lease_token", String(36)),
    Column("lease_until", Float),
    Column("lease_beat", Integer, nullable=False, server_default="0"),
    Column("lease_process", String(160), nullable=False, server_default=""),
    Column("storing_at", Float),
    Column("stored_at", Float),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("results", JSON),
    Column("measurements", JSON),
    Column("warnings", JSON),
    Column("verdict", String(16)),
    Column("plausibility", JSON),
    Column("figures", JSON(none_as_null=True)),
    Index(None, "state", "priority", "created_at"),
    Index(None, "model", "model_version", "created_at"),
    Index(None, "study_id", "route", "slot", "revision"),
    Index(None, "created_at"),
    Index(None, "finished_at"),
    Index(None, "model", "verdict"),
    Index(None, "state", "finished_at"),
)

stamps = Table(
    "stamp",
    metadata,
    Column("job_id", ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(24), primary_key=True),
    Column("at", Float, nullable=False),
)

outside_jobs = Table(
    "outside_job",
    metadata,
    Column("job_id", ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("study_uid", String(64), nullable=False),
    Column("sent_at", Float),
    Column("seen", String(64), nullable=False, server_default=""),
)

outside_uids = Table(
    "outside_uid",
    metadata,
    Column("uid", String(64), primary_key=True),
    Column("job_id", ForeignKey("job.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("original", String(64), nullable=False),
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
    Column("outcome", String(16), nullable=False, index=True),
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
    Column("content", LargeBinary),
)

deliveries = Table(
    "delivery",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    Column("destination", String(40), nullable=False),
    Column("kind", String(16), nullable=False, server_default="result"),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("refusals", Integer, nullable=False, server_default="0"),
    Column("control_id", String(20), nullable=False, server_default=""),
    Column("payload", LargeBinary),
    Column("receipt", Text, nullable=False, server_default=""),
    Column("error", Text, nullable=False, server_default=""),
    Column("created_at", Float, nullable=False, server_default="0"),
    Column("first_try_at", Float),
    Column("next_try_at", Float, nullable=False, server_default="0"),
    Column("done_at", Float),
    UniqueConstraint("job_id", "destination", "kind"),
    Index(None, "state", "destination"),
)

delivery_tries = Table(
    "delivery_try",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("delivery_id", ForeignKey("delivery.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("outcome", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("first_at", Float, nullable=False),
    Column("last_at", Float, nullable=False),
)

destinations = Table(
    "destination",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("open", Boolean, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("since", Float, nullable=False),
    Column("next_try_at", Float, nullable=False),
    Column("reason", Text, nullable=False),
)

leases = Table(
    "lease",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("holder", String(160), nullable=False),
    Column("token", String(36), nullable=False),
    Column("beat", Integer, nullable=False),
    Column("at", Float, nullable=False),
)

patient_aliases = Table(
    "patient_alias",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("prior_id", String(128), nullable=False),
    Column("prior_authority", String(128), nullable=False),
    Column("patient_id", String(128), nullable=False),
    Column("patient_authority", String(128), nullable=False),
    Column("control_id", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("told", JSON(none_as_null=True)),
    UniqueConstraint("prior_id", "prior_authority"),
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
    Column("models", JSON),
    Column("load", JSON),
    Column("alarm", Text, nullable=False, server_default=""),
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

model_cards = Table(
    "model_card",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("text", Text, nullable=False),
    Column("figures", Text, nullable=False),
    Column("reference", JSON(none_as_null=True)),
    Column("missing", Text, nullable=False),
    Column("seen_at", Float, nullable=False),
)

accounts = Table(
    "account",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("password", String(200), nullable=False),
    Column("role", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("issuer", String(255)),
    Column("subject", String(255)),
    Column("signed_in_at", Float),
    Index(None, "issuer", "subject", unique=True),
)

tokens = Table(
    "access_token",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("account", ForeignKey("account.name", ondelete="CASCADE"), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("label", String(80), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("role", String(16)),
    Column("used_at", Float),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("account", String(64), nullable=False),
    Column("action", String(40), nullable=False),
    Column("study_id", Integer, index=True),
    Column("job_id", String(36)),
    Column("detail", Text, nullable=False),
    Column("seal", String(64)),
    Column("address", String(ADDRESS_MAX)),
)

survey_readers = Table(
    "survey_reader",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("account", String(64), nullable=False, unique=True),
)

usefulness_answers = Table(
    "usefulness_answer",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("reader_id", ForeignKey("survey_reader.id"), nullable=False),
    Column("job_id", ForeignKey("job.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("answered_at", Float, nullable=False),
    Column("correct", Integer),
    Column("time", Integer),
    Column("changed", Integer),
    Column("contours", Integer),
    Column("again", Integer),
    Column("comment", Text, nullable=False, server_default=""),
    UniqueConstraint("reader_id", "job_id"),
)

sus_answers = Table(
    "sus_answer",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("reader_id", ForeignKey("survey_reader.id"), nullable=False, index=True),
    Column("answered_at", Float, nullable=False),
    *(Column(f"q{number}", Integer, nullable=False) for number in range(1, 11)),
)

edits = Table(
    "edit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id", ondelete="CASCADE"), nullable=False),
    Column("job_id", ForeignKey("job.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("orthanc_id", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("sop_uid", String(64), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("named", Boolean, nullable=False),
    Column("digest", String(32), nullable=False),
    Column("tool", String(160), nullable=False, server_default=""),
    Column("seen_at", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("verdict", String(16), nullable=False, server_default=""),
    Column("sent_at", Float),
    Column("not_before", Float, nullable=False, server_default="0"),
    Column("token", String(36)),
    Column("claimed_at", Float),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("compared_at", Float),
    UniqueConstraint("study_id", "sop_uid"),
    Index(None, "state", "compared_at"),
)

edit_comparisons = Table(
    "edit_comparison",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("edit_id", ForeignKey("edit.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("structure", String(64), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("quantity", String(64), nullable=False),
    Column("unit", String(32), nullable=False),
    Column("ours", Float),
    Column("theirs", Float),
    Column("dice", Float),
    Column("hd95_mm", Float),
    Column("segment", Integer),
    Column("edited_segment", Integer),
)
