"""Orders by their whole number, with when each of their fields was said

One placer number may stand for several orders, and two placers may count alike: nothing is unique about its first
component, by which orders were kept until now. What is kept already counts as said, by no message that is newer.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ORDERS = sa.table("imaging_order", sa.column("id"), sa.column("content", sa.JSON()), sa.column("said", sa.JSON()))


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("imaging_order") as order:
        order.drop_constraint("uq_imaging_order_placer", type_="unique")
        order.alter_column("placer", type_=sa.String(427), existing_type=sa.String(128), existing_nullable=False)
        order.add_column(sa.Column("filler", sa.String(427), nullable=False, server_default=""))
        order.add_column(sa.Column("said", sa.JSON(), nullable=True))
    op.create_index(op.f("ix_imaging_order_placer"), "imaging_order", ["placer"])
    op.create_index(op.f("ix_imaging_order_filler"), "imaging_order", ["filler"])
    _as_said()
    with op.batch_alter_table("imaging_order") as order:
        order.alter_column("said", nullable=False, existing_type=sa.JSON())


def _as_said() -> None:
    db = op.get_bind()
    for row in db.execute(sa.select(_ORDERS.c.id, _ORDERS.c.content)).all():
        content = dict(row.content)
        guessed = content.get("accession") == content.get("filler")
        at = {"accession": [0.0, 0]} if content.get("accession") and not guessed else {}
        db.execute(sa.update(_ORDERS).where(_ORDERS.c.id == row.id).values(said={"at": at, "copies": []}))


def downgrade() -> None:
    """Undo: of several orders with one number the newest stays."""
    op.execute("DELETE FROM imaging_order WHERE id NOT IN (SELECT max(id) FROM imaging_order GROUP BY placer)")
    op.drop_index(op.f("ix_imaging_order_filler"), table_name="imaging_order")
    op.drop_index(op.f("ix_imaging_order_placer"), table_name="imaging_order")
    with op.batch_alter_table("imaging_order") as order:
        order.drop_column("said")
        order.drop_column("filler")
        order.create_unique_constraint("uq_imaging_order_placer", ["placer"])
