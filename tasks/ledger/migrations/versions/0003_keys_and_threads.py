"""How long a key is kept, and which conversation a mail belongs to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("key_until", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("thread", sa.Text(), nullable=False, server_default=""))
    some = sa.text("thread <> ''")
    op.create_index("ix_jobs_thread", "jobs", ["thread"], sqlite_where=some, postgresql_where=some)


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_jobs_thread", "jobs")
    op.drop_column("jobs", "thread")
    op.drop_column("jobs", "key_until")
