"""What documents mean, as vectors of a model, for the search by meaning."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "vectors",
        sa.Column("job_id", sa.String(26), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("dims", sa.Integer(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("characters", sa.Integer(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "ordinal"),
        sa.ForeignKeyConstraint(["job_id", "ordinal"], ["documents.job_id", "documents.ordinal"], ondelete="CASCADE"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("vectors")
