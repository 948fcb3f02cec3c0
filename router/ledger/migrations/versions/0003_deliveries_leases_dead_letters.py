"""Deliveries of their own, dead letters, a leader among routers

Readings that were stored and still owed something wait for their deliveries now, not for a worker. The job's table is
never made anew: on SQLite that would delete what hangs on it; nothing hangs on the delivery's.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("job", recreate="never") as job:
        job.add_column(sa.Column("lease_beat", sa.Integer(), server_default="0", nullable=False))
        job.add_column(sa.Column("lease_process", sa.String(160), server_default="", nullable=False))
        job.add_column(sa.Column("failure", sa.String(16), server_default="", nullable=False))
        job.add_column(sa.Column("retried_at", sa.Float(), nullable=True))
        job.add_column(sa.Column("salt", sa.String(80), server_default="", nullable=False))
        job.add_column(sa.Column("content_digest", sa.String(64), server_default="", nullable=False))
    with op.batch_alter_table("study", recreate="never") as study:
        study.add_column(sa.Column("resent_at", sa.Float(), nullable=True))
    with op.batch_alter_table("result_object", recreate="never") as result:
        result.add_column(sa.Column("content", sa.LargeBinary(), nullable=True))
    with op.batch_alter_table("worker", recreate="never") as worker:
        worker.add_column(sa.Column("models", sa.JSON(), nullable=True))
        worker.add_column(sa.Column("alarm", sa.Text(), server_default="", nullable=False))
    with op.batch_alter_table("delivery") as delivery:
        delivery.add_column(sa.Column("kind", sa.String(16), server_default="result", nullable=False))
        delivery.add_column(sa.Column("refusals", sa.Integer(), server_default="0", nullable=False))
        delivery.add_column(sa.Column("created_at", sa.Float(), server_default="0", nullable=False))
        delivery.add_column(sa.Column("next_try_at", sa.Float(), server_default="0", nullable=False))
        delivery.drop_constraint("uq_delivery_job_id_destination", type_="unique")
        delivery.create_unique_constraint("uq_delivery_job_id_destination_kind", ["job_id", "destination", "kind"])
        delivery.create_index("ix_delivery_state_destination", ["state", "destination"])
    _new_tables()
    op.execute(
        "UPDATE job SET state = 'delivering', lease_token = NULL, lease_until = NULL "
        "WHERE stored_at IS NOT NULL AND state IN ('pending', 'running')"
    )
    op.execute("UPDATE delivery SET state = 'parked' WHERE state = 'failed'")


def _new_tables() -> None:
    op.create_table(
        "delivery_try",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("delivery_id", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_at", sa.Float(), nullable=False),
        sa.Column("last_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["delivery.id"], name="fk_delivery_try_delivery_id_delivery", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_delivery_try_delivery_id", "delivery_try", ["delivery_id"])
    op.create_table(
        "destination",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("next_try_at", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("holder", sa.String(160), nullable=False),
        sa.Column("token", sa.String(36), nullable=False),
        sa.Column("beat", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
    )
    op.create_table(
        "patient_alias",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("prior_id", sa.String(128), nullable=False),
        sa.Column("prior_authority", sa.String(128), nullable=False),
        sa.Column("patient_id", sa.String(128), nullable=False),
        sa.Column("patient_authority", sa.String(128), nullable=False),
        sa.Column("control_id", sa.String(64), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.UniqueConstraint("prior_id", "prior_authority", name="uq_patient_alias_prior_id_prior_authority"),
    )


def downgrade() -> None:
    """Undo; what waits for a destination goes back to the workers."""
    op.execute("UPDATE job SET state = 'pending', sent_at = NULL WHERE state = 'delivering'")
    op.execute("DELETE FROM delivery WHERE destination = 'archive' OR kind <> 'result'")
    op.execute("UPDATE delivery SET state = 'failed' WHERE state NOT IN ('pending', 'done')")
    for table in ("patient_alias", "lease", "destination", "delivery_try"):
        op.drop_table(table)
    with op.batch_alter_table("delivery") as delivery:
        delivery.drop_index("ix_delivery_state_destination")
        delivery.drop_constraint("uq_delivery_job_id_destination_kind", type_="unique")
        for column in ("next_try_at", "created_at", "refusals", "kind"):
            delivery.drop_column(column)
        delivery.create_unique_constraint("uq_delivery_job_id_destination", ["job_id", "destination"])
    with op.batch_alter_table("worker", recreate="never") as worker:
        worker.drop_column("alarm")
        worker.drop_column("models")
    with op.batch_alter_table("result_object", recreate="never") as result:
        result.drop_column("content")
    with op.batch_alter_table("study", recreate="never") as study:
        study.drop_column("resent_at")
    with op.batch_alter_table("job", recreate="never") as job:
        for column in ("content_digest", "salt", "retried_at", "failure", "lease_process", "lease_beat"):
            job.drop_column(column)
