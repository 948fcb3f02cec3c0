"""Indexes for the first page: counts of verdicts and attempts, and the newest readings of a state"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index(op.f("ix_job_model_verdict"), "job", ["model", "verdict"])
    op.create_index(op.f("ix_job_state_finished_at"), "job", ["state", "finished_at"])
    op.create_index(op.f("ix_attempt_outcome"), "attempt", ["outcome"])


def downgrade() -> None:
    """Undo."""
    op.drop_index(op.f("ix_attempt_outcome"), table_name="attempt")
    op.drop_index(op.f("ix_job_state_finished_at"), table_name="job")
    op.drop_index(op.f("ix_job_model_verdict"), table_name="job")
