"""What a token may do, and when it was last used"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("access_token", sa.Column("role", sa.String(16), nullable=True))
    op.add_column("access_token", sa.Column("used_at", sa.Float(), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("access_token", "used_at")
    op.drop_column("access_token", "role")
