"""What people say: of a reading's usefulness, and of the system's usability"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "survey_reader",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_survey_reader")),
        sa.UniqueConstraint("account", name=op.f("uq_survey_reader_account")),
    )
    op.create_table(
        "usefulness_answer",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("reader_id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("answered_at", sa.Float(), nullable=False),
        *(sa.Column(name, sa.Integer()) for name in ("correct", "time", "changed", "contours", "again")),
        sa.Column("comment", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["reader_id"], ["survey_reader.id"], name=op.f("fk_usefulness_answer_reader_id_survey_reader")
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name=op.f("fk_usefulness_answer_job_id_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usefulness_answer")),
        sa.UniqueConstraint("reader_id", "job_id", name=op.f("uq_usefulness_answer_reader_id_job_id")),
    )
    op.create_index(op.f("ix_usefulness_answer_job_id"), "usefulness_answer", ["job_id"])
    op.create_table(
        "sus_answer",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("reader_id", sa.Integer(), nullable=False),
        sa.Column("answered_at", sa.Float(), nullable=False),
        *(sa.Column(f"q{number}", sa.Integer(), nullable=False) for number in range(1, 11)),
        sa.ForeignKeyConstraint(
            ["reader_id"], ["survey_reader.id"], name=op.f("fk_sus_answer_reader_id_survey_reader")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sus_answer")),
    )
    op.create_index(op.f("ix_sus_answer_reader_id"), "sus_answer", ["reader_id"])


def downgrade() -> None:
    """Undo."""
    for name in ("sus_answer", "usefulness_answer", "survey_reader"):
        op.drop_table(name)
