"""INSERT of many rows as one statement.

On SQLite a statement for each row would let go of Python's interpreter lock once a row, and getting it back from a busy
event loop may take its whole switch interval: with sixteen rows that is longer than the fsync.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from tasks.ledger.engine import Database

MOST_ROWS = 500
"""Per statement: SQLite takes 32,766 values in one."""

_EMPTY: dict[type, str] = {dict: "{}", list: "[]"}


class BulkInsert:
    """Inserts rows into the given columns of one table; with `ignoring`, rows that break a unique rule are left out."""

    def __init__(self, database: Database, table: sa.Table, columns: Sequence[str], *, ignoring: bool = False) -> None:
        self._is_sqlite = database.is_sqlite
        self._statement = database.insert_ignoring(table) if ignoring else sa.insert(table)
        self._columns = [(name, isinstance(table.c[name].type, sa.JSON)) for name in columns]
        head = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES "  # noqa: S608  # names from the schema
        one, tail = f"({', '.join('?' * len(columns))})", " ON CONFLICT DO NOTHING" if ignoring else ""
        self._sql = lru_cache(MOST_ROWS)(lambda number: head + ", ".join([one] * number) + tail)

    def run(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> int:
        """Insert `rows`, at most MOST_ROWS; how many were inserted, or -1 where the driver does not tell."""
        if not self._is_sqlite:
            return connection.execute(self._statement, rows).rowcount
        values = tuple([_json(row[name]) if is_json else row[name] for row in rows for name, is_json in self._columns])
        return connection.exec_driver_sql(self._sql(len(rows)), values).rowcount


def _json(value: Any) -> str:
    """As SQLAlchemy writes it; what is empty, which is most of it, at a tenth of the cost."""
    return json.dumps(value) if value else _EMPTY[type(value)]
