"""What scanners (MPPS) and archives (IAN) announce of a study, by the objects' UIDs"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "announcement",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("uid", sa.String(64), nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_announcement")),
        sa.UniqueConstraint("kind", "uid", "study_uid", name=op.f("uq_announcement_kind_uid_study_uid")),
    )
    op.create_index(op.f("ix_announcement_study_uid"), "announcement", ["study_uid"])
    op.create_index(op.f("ix_announcement_at"), "announcement", ["at"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("announcement")
