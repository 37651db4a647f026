"""Since when a dependency fails, and who was told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "outages",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("last_failure_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("open_until", sa.BigInteger()),
        sa.Column("ended_at", sa.BigInteger()),
        sa.Column("told_at", sa.BigInteger()),
        sa.Column("end_told_at", sa.BigInteger()),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("outages")
