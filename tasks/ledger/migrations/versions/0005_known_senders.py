"""An index of those who have written before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    done = sa.text("state = 'done' AND sender <> ''")
    op.create_index("ix_jobs_known", "jobs", [sa.text("lower(sender)")], sqlite_where=done, postgresql_where=done)


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_jobs_known", "jobs")
