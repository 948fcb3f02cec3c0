"""What models say of themselves, and the figures of each reading that are compared with it"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "model_card",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("version", sa.String(64), primary_key=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("figures", sa.Text(), nullable=False),
        sa.Column("reference", sa.JSON()),
        sa.Column("missing", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
    )
    op.add_column("job", sa.Column("figures", sa.JSON()))
    op.create_index(op.f("ix_job_model_model_version_created_at"), "job", ["model", "model_version", "created_at"])


def downgrade() -> None:
    """Undo."""
    op.drop_index(op.f("ix_job_model_model_version_created_at"), table_name="job")
    op.drop_column("job", "figures")
    op.drop_table("model_card")
