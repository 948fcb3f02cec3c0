"""Readings by AI outside: what was sent under which pseudonyms"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "outside_job",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("sent_at", sa.Float(), nullable=True),
        sa.Column("seen", sa.String(length=64), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_outside_job_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_outside_job")),
    )
    op.create_table(
        "outside_uid",
        sa.Column("uid", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("original", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_outside_uid_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_outside_uid")),
    )
    op.create_index(op.f("ix_outside_uid_job_id"), "outside_uid", ["job_id"])


def downgrade() -> None:
    """Undo."""
    op.drop_index(op.f("ix_outside_uid_job_id"), "outside_uid")
    op.drop_table("outside_uid")
    op.drop_table("outside_job")
