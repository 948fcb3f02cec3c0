"""Orders that contradict the images they name: held until a person decides"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "held_order",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=True),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("placer", sa.String(427), nullable=False),
        sa.Column("accession", sa.String(64), nullable=False),
        sa.Column("differs", sa.String(80), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("decided_at", sa.Float(), nullable=True),
        sa.Column("decided_by", sa.String(64), nullable=False, server_default=""),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_held_order")),
        sa.UniqueConstraint("key", name=op.f("uq_held_order_key")),
    )
    op.create_index(op.f("ix_held_order_study_uid"), "held_order", ["study_uid"])
    op.create_index(op.f("ix_held_order_state"), "held_order", ["state"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("held_order")
