"""What each rescue last found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "rescues",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("tick_ms", sa.Integer(), nullable=False),
        sa.Column("slowest_ms", sa.Integer(), nullable=False),
        sa.Column("looks", sa.BigInteger(), nullable=False),
        sa.Column("published", sa.BigInteger(), nullable=False),
        sa.Column("taken_back", sa.BigInteger(), nullable=False),
        sa.Column("open_jobs", sa.Integer(), nullable=False),
        sa.Column("oldest_at", sa.BigInteger()),
        sa.Column("unpublished", sa.Integer(), nullable=False),
        sa.Column("queued", sa.Integer()),
        sa.Column("longest_since", sa.BigInteger()),
        sa.PrimaryKeyConstraint("owner"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("rescues")
