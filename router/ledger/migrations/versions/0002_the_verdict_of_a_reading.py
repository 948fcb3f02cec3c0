"""The verdict of a reading

The table is never made anew: on SQLite that would delete what hangs on its jobs.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("job", schema=None, recreate="never") as batch_op:
        batch_op.add_column(sa.Column("verdict", sa.String(length=16), nullable=True))
        batch_op.add_column(sa.Column("plausibility", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("job", schema=None, recreate="never") as batch_op:
        batch_op.drop_column("plausibility")
        batch_op.drop_column("verdict")
