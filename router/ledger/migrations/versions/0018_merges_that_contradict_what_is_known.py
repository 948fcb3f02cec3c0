"""Merges of patients that contradict what is known, and of whom each told; where people act from (audit trail)"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "held_merge",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("prior_id", sa.String(128), nullable=False),
        sa.Column("prior_authority", sa.String(128), nullable=False),
        sa.Column("patient_id", sa.String(128), nullable=False),
        sa.Column("patient_authority", sa.String(128), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("differs", sa.String(80), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("decided_at", sa.Float(), nullable=True),
        sa.Column("decided_by", sa.String(64), nullable=False, server_default=""),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_held_merge")),
        sa.UniqueConstraint("key", name=op.f("uq_held_merge_key")),
    )
    op.create_index(op.f("ix_held_merge_state"), "held_merge", ["state"])
    op.add_column("patient_alias", sa.Column("told", sa.JSON(), nullable=True))
    op.add_column("audit", sa.Column("address", sa.String(64), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("audit", "address")
    op.drop_column("patient_alias", "told")
    op.drop_index(op.f("ix_held_merge_state"), "held_merge")
    op.drop_table("held_merge")
