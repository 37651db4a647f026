"""How long a key is kept, and which conversation a mail belongs to, which blobs a job needs."""

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
    op.create_table(
        "job_blobs",
        sa.Column("job_id", sa.String(length=26), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "sha256"),
    )
    op.create_index("ix_job_blobs_sha256", "job_blobs", ["sha256"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("job_blobs")
    op.drop_index("ix_jobs_thread", "jobs")
    op.drop_column("jobs", "thread")
    op.drop_column("jobs", "key_until")
