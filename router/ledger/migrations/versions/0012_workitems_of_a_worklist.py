"""Workitems of a worklist (UPS-RS): what it asks for, and how far that is"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "workitem",
        sa.Column("uid", sa.String(64), nullable=False),
        sa.Column("lock_uid", sa.String(64), nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=True),
        sa.Column("route", sa.String(40), nullable=False),
        sa.Column("codes", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("job_id", sa.String(36), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("claimed_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("next_try_at", sa.Float(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_workitem")),
    )
    op.create_index(op.f("ix_workitem_study_uid"), "workitem", ["study_uid"])
    op.create_index(op.f("ix_workitem_study_id"), "workitem", ["study_id"])
    op.create_index(op.f("ix_workitem_state_next_try_at"), "workitem", ["state", "next_try_at"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("workitem")
