"""INSERT of many rows as one statement.

On SQLite a statement for each row would let go of Python's interpreter lock once a row, and getting it back from a busy
event loop may take its whole switch interval: with sixteen rows that is longer than the fsync.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from tasks.ledger.engine import Database
from tasks.texts import dump_json

MOST_ROWS = 500
"""Per statement: SQLite takes 32,766 values in one."""

_EMPTY: dict[type, str] = {dict: "{}", list: "[]"}


class BulkInsert:
    """Inserts rows into the given columns of one table; with `ignoring`, rows that break a unique rule are left out."""

    def __init__(self, database: Database, table: sa.Table, columns: Sequence[str], *, ignoring: bool = False) -> None:
        self._is_sqlite = database.is_sqlite
        self._statement = database.insert_ignoring(table) if ignoring else sa.insert(table)
        self._columns = [(name, _processor(table.c[name].type, database.engine.dialect)) for name in columns]
        head = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES "  # noqa: S608  # names from the schema
        one, tail = f"({', '.join('?' * len(columns))})", " ON CONFLICT DO NOTHING" if ignoring else ""
        self._sql = lru_cache(MOST_ROWS)(lambda number: head + ", ".join([one] * number) + tail)

    def run(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> int:
        """Insert `rows`, at most MOST_ROWS; how many were inserted, or -1 where the driver does not tell."""
        if not self._is_sqlite:
            return connection.execute(self._statement, rows).rowcount
        values = tuple([into(row[name]) if into else row[name] for row in rows for name, into in self._columns])
        return connection.exec_driver_sql(self._sql(len(rows)), values).rowcount


def _processor(kind: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> Callable[[Any], Any] | None:
    """What SQLAlchemy would do to a value of this type on its way into a statement; None: nothing."""
    if isinstance(kind, sa.JSON):
        return _json
    if isinstance(kind, sa.types.TypeDecorator):
        return lambda value: kind.process_bind_param(value, dialect)
    return None


def _json(value: Any) -> str:
    """What is empty, which is most of it, at a tenth of the cost."""
    return dump_json(value) if value else _EMPTY[type(value)]
