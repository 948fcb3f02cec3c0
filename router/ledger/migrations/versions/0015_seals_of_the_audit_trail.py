"""Seals of the audit trail: each line's holds the one before it"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("audit", sa.Column("seal", sa.String(64), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("audit", "seal")
