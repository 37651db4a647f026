"""How each endpoint does, and since when a delivery was tried or has failed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# the times of deliveries that had failed already; one that waits is as old as its next attempt
FAILED_AT = """
UPDATE deliveries SET failed_at = coalesce(
    (SELECT max(ended_at) FROM attempts WHERE attempts.job_id = deliveries.job_id AND delivery = deliveries.ordinal),
    (SELECT updated_at FROM jobs WHERE jobs.id = deliveries.job_id)
) WHERE state = 'failed'
"""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "endpoints",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("last_failure", sa.Text(), nullable=False),
        sa.Column("last_failure_at", sa.BigInteger(), nullable=True),
        sa.Column("last_success_at", sa.BigInteger(), nullable=True),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column("disabled_because", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.add_column("deliveries", sa.Column("tried_since", sa.BigInteger(), nullable=True))
    op.add_column("deliveries", sa.Column("failed_at", sa.BigInteger(), nullable=True))
    op.execute(FAILED_AT)
    unsent = sa.text("state <> 'sent'")
    op.create_index(
        "ix_deliveries_unsent", "deliveries", ["target", "state"], sqlite_where=unsent, postgresql_where=unsent
    )


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_deliveries_unsent", "deliveries")
    op.drop_column("deliveries", "failed_at")
    op.drop_column("deliveries", "tried_since")
    op.drop_table("endpoints")
