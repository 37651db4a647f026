"""What the pages need: a search index over jobs, sessions, decisions of people, and who did what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_LABELLED = sa.text("label IS NOT NULL")


def upgrade() -> None:
    """Apply."""
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_index(
        "ix_jobs_label_received_at",
        "jobs",
        ["label", "received_at"],
        sqlite_where=_LABELLED,
        postgresql_where=_LABELLED,
    )
    op.create_table(
        "search_docs",
        sa.Column("n", row_id, autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(26), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sa.PrimaryKeyConstraint("n"),
        sa.UniqueConstraint("job_id", name="uq_search_docs_job_id"),
    )
    op.create_table(
        "page_sessions",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("stamp", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("id", row_id, autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_audit_action_at", "audit", ["action", "at"])
    op.create_table(
        "decisions",
        sa.Column("id", row_id, autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(26), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("label_before", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("fields_before", sa.JSON(), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("reply_text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_decisions_job_id", "decisions", ["job_id"])
    for statement in _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    """Take back."""
    op.execute("DROP TABLE search_words")
    for name in ("decisions", "audit", "page_sessions", "search_docs"):
        op.drop_table(name)
    op.drop_index("ix_jobs_label_received_at", "jobs")


_SQLITE = (
    "CREATE VIRTUAL TABLE search_words USING fts5(words, columnsize=0)",
    # a job that is removed takes its row in search_docs along (ON DELETE CASCADE), and that its words
    "CREATE TRIGGER search_docs_gone AFTER DELETE ON search_docs"
    " BEGIN DELETE FROM search_words WHERE rowid = old.n; END",
)
_POSTGRESQL = (
    "CREATE TABLE search_words (n bigint PRIMARY KEY REFERENCES search_docs (n) ON DELETE CASCADE,"
    " words tsvector NOT NULL)",
    "CREATE INDEX ix_search_words_words ON search_words USING gin (words)",
)
