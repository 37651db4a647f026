"""Who reads a watched folder, where its messages are on their way to, and the keys of those that were taken."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TEXT, _NUMBER = sa.Text(), sa.BigInteger()


def upgrade() -> None:
    """Apply."""
    for name, kind in (("owner", _TEXT), ("beat", _NUMBER), ("canary_at", _NUMBER)):
        op.add_column("imap_folders", _column(name, kind))
    for name, kind in (("key", _TEXT), ("to_folder", _TEXT), ("to_validity", _NUMBER), ("to_uid", _NUMBER)):
        op.add_column("imap_messages", _column(name, kind))
    op.create_index(
        "ix_imap_messages_key",
        "imap_messages",
        ["account", "key"],
        sqlite_where=sa.text("key <> ''"),
        postgresql_where=sa.text("key <> ''"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_imap_messages_key", "imap_messages")
    with op.batch_alter_table("imap_messages", schema=None) as batch_op:
        for name in ("to_uid", "to_validity", "to_folder", "key"):
            batch_op.drop_column(name)
    with op.batch_alter_table("imap_folders", schema=None) as batch_op:
        for name in ("canary_at", "beat", "owner"):
            batch_op.drop_column(name)


def _column(name: str, kind: sa.Text | sa.BigInteger) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False, server_default="" if kind is _TEXT else "0")
