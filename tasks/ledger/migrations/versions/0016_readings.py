"""What documents were read to, by what was asked, and an index that tells which documents some job still has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "readings",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("checksum", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_readings_at", "readings", ["at"])
    op.create_index("ix_documents_sha256", "documents", ["sha256"])


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_documents_sha256", "documents")
    op.drop_table("readings")
