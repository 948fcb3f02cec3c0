"""Roles by their names of now, and accounts of people who sign in at a provider (OpenID Connect)"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

NOW = {"viewer": "reader", "admin": "administrator"}
"""Role of before -> role of now; "operator" stays."""


def upgrade() -> None:
    """Apply."""
    op.add_column("account", sa.Column("issuer", sa.String(255), nullable=True))
    op.add_column("account", sa.Column("subject", sa.String(255), nullable=True))
    op.add_column("account", sa.Column("signed_in_at", sa.Float(), nullable=True))
    op.create_index(op.f("ix_account_issuer_subject"), "account", ["issuer", "subject"], unique=True)
    _rename(NOW)


def downgrade() -> None:
    """Undo; services, and people of a provider, whom nobody could let in any more, are gone with their tokens."""
    accounts = sa.table("account", sa.column("name"), sa.column("role"), sa.column("issuer"))
    tokens = sa.table("access_token", sa.column("account"), sa.column("role"))
    gone = sa.or_(accounts.c.role == "service", accounts.c.issuer.is_not(None))
    of_gone = tokens.c.account.in_(sa.select(accounts.c.name).where(gone))
    op.execute(sa.delete(tokens).where(sa.or_(tokens.c.role == "service", of_gone)))
    op.execute(sa.delete(accounts).where(gone))
    _rename({new: old for old, new in NOW.items()})
    op.drop_index(op.f("ix_account_issuer_subject"), "account")
    op.drop_column("account", "signed_in_at")
    op.drop_column("account", "subject")
    op.drop_column("account", "issuer")


def _rename(names: dict[str, str]) -> None:
    for table in (sa.table("account", sa.column("role")), sa.table("access_token", sa.column("role"))):
        for old, new in names.items():
            op.execute(sa.update(table).where(table.c.role == old).values(role=new))
