"""Statements on one table in the driver's own words, for what every stage of every job writes.

SQLAlchemy takes several times as long to put such a statement together as SQLite takes to run it. Values pass through the
schema's types, as they would there; names and conditions come from the code, never from data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from tasks.ledger.engine import Database


class Direct:
    """One table of one database."""

    def __init__(self, database: Database, table: sa.Table) -> None:
        self._table = table.name
        self._is_sqlite = database.is_sqlite
        self._made: dict[tuple[Any, ...], str] = {}
        dialect = database.engine.dialect
        types = {column.name: column.type.dialect_impl(dialect) for column in table.columns}
        self._bind = {name: made for name, one in types.items() if (made := one.bind_processor(dialect))}
        documents = {name: one for name, one in types.items() if isinstance(one, sa.JSON)}
        self._load = {name: made for name, one in documents.items() if (made := one.result_processor(dialect, None))}

    def update(
        self,
        connection: sa.Connection,
        values: Mapping[str, Any],
        where: str,
        given: Mapping[str, Any],
        *,
        also: str = "",
        returning: Sequence[str] = (),
    ) -> tuple[Any, ...] | None:
        """Set `values`, and what `also` says in SQL, in the row for which `where` holds; None when it does for none.

        `where` has marks (`:name`) for `given`. Returns the row's columns `returning` as they are then.
        """
        key = ("update", *values, where, also, *returning)
        if key not in self._made:
            sets = ", ".join([f"{name} = :to_{name}" for name in values] + [also] * bool(also))
            told = ", ".join(returning) or "1"
            self._made[key] = self._sql(f"UPDATE {self._table} SET {sets} WHERE {where} RETURNING {told}")  # noqa: S608
        bind, load = self._bind, self._load
        bound = {f"to_{name}": bind[name](value) if name in bind else value for name, value in values.items()}
        found = connection.exec_driver_sql(self._made[key], {**bound, **given}).one_or_none()
        if found is None:
            return None
        columns = zip(returning, found, strict=False)
        return tuple(load[name](value) if name in load else value for name, value in columns)

    def insert(self, connection: sa.Connection, values: Mapping[str, Any], *, key: Sequence[str] = ()) -> None:
        """Insert a row; where one with the same `key` is there, it takes its place."""
        made = ("insert", *values, *key)
        if made not in self._made:
            sql = f"INSERT INTO {self._table} ({', '.join(values)}) VALUES (:{', :'.join(values)})"  # noqa: S608
            if key:
                rest = ", ".join(f"{name} = excluded.{name}" for name in values if name not in key)
                sql += f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {rest}"
            self._made[made] = self._sql(sql)
        bind = self._bind
        bound = {name: bind[name](value) if name in bind else value for name, value in values.items()}
        connection.exec_driver_sql(self._made[made], bound)

    def _sql(self, text: str) -> str:
        return text if self._is_sqlite else re.sub(r":(\w+)", r"%(\1)s", text)
