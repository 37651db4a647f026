"""Alembic's entry: runs on the connection of the Database that asks for it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from tasks.ledger.engine import Database
from tasks.ledger.schema import metadata

MIGRATION_LOCK = 7_078_001  # any number, the same in every Postroom

database: Database = context.config.attributes["database"]
with database.write() as connection:
    if not database.is_sqlite:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
