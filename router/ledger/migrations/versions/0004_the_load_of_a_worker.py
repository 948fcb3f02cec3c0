"""The load of a worker: memory, CPU, GPU and scratch disk, as it last said"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("worker", schema=None, recreate="never") as batch_op:
        batch_op.add_column(sa.Column("load", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("worker", schema=None, recreate="never") as batch_op:
        batch_op.drop_column("load")
