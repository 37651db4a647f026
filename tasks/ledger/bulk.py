"""INSERT of many rows at once, in the driver's own words: this is the way of every message into the ledger.

On SQLite a statement for each row would let go of Python's interpreter lock once a row, and getting it back from a busy
event loop may take its whole switch interval: with sixteen rows that is longer than the fsync. SQLAlchemy's processing of
each value would cost as much as all else that accepting does; callers give values as the database takes them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import sqlalchemy as sa

from tasks.errors import Unavailable
from tasks.ledger.engine import Database
from tasks.texts import dump_json

MOST_ROWS = 500
"""Per statement: SQLite takes 32,766 values in one."""


class BulkInsert:
    """Inserts rows into the given columns of one table; those that break a unique rule are left out."""

    def __init__(self, database: Database, table: sa.Table, columns: Sequence[str]) -> None:
        self._is_sqlite = database.is_sqlite
        mark = "?" if self._is_sqlite else "%s"
        head = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES "  # noqa: S608  # names from the schema
        one = f"({', '.join([mark] * len(columns))})"
        self._sql = lru_cache(MOST_ROWS)(lambda number: head + ", ".join([one] * number) + " ON CONFLICT DO NOTHING")

    def statement(self, rows: int) -> str:
        """The SQL that inserts so many rows on SQLite, with a mark for each value."""
        return self._sql(rows)

    def run(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Insert `rows`, at most MOST_ROWS; how many were inserted, or -1 where the driver does not tell."""
        if self._is_sqlite:
            return connection.exec_driver_sql(self._sql(len(rows)), tuple(chain.from_iterable(rows))).rowcount
        return connection.exec_driver_sql(self._sql(1), list(rows)).rowcount


def json_text(value: dict[str, Any] | list[Any]) -> str:
    """`value` as a JSON column takes it; what is empty, which is most of it, at a tenth of the cost."""
    if value:
        return dump_json(value)
    return "{}" if isinstance(value, dict) else "[]"


class OwnConnection:
    """Inserts rows on SQLite through a connection of its own, from one thread: one statement, which is its own transaction.

    It is the way of all that is new, without what SQLAlchemy adds to it, which is half of what a commit costs; and the
    interpreter lock, which a busy event loop is slow to give back, is let go of only once.
    """

    def __init__(self, database: Database, insert: BulkInsert) -> None:
        self._database = database
        self._insert = insert
        self._connection: sqlite3.Connection | None = None

    def store(self, rows: Sequence[tuple[Any, ...]]) -> int:
        """Store `rows`, without those that break a unique rule; how many are stored. Raises Unavailable: then none is."""
        try:
            if self._connection is None:
                self._connection = self._database.own_connection()
            values = tuple(chain.from_iterable(rows))
            return self._connection.execute(self._insert.statement(len(rows)), values).rowcount
        except BaseException as error:
            self.close()
            if isinstance(error, sqlite3.OperationalError):
                raise Unavailable("ledger", f"the ledger does not answer: {error}") from error
            raise

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
