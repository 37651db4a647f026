"""What documents were read to, kept as long as some job has the document: the same file is read once."""

from __future__ import annotations

import hashlib

import sqlalchemy as sa

from tasks.clock import now_ms
from tasks.ledger.direct import Direct
from tasks.ledger.engine import Database
from tasks.ledger.schema import documents, metadata
from tasks.ledger.together import Together
from tasks.ledger.types import Name

readings = sa.Table(
    "readings",
    metadata,
    sa.Column("key", Name(64), primary_key=True),
    sa.Column("sha256", Name(64), nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Column("checksum", Name(64), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Index(None, "at"),
)


class Readings:
    """Values by key; `sha256` is the file that a value was read from."""

    def __init__(self, database: Database, together: Together) -> None:
        self._database = database
        self._together = together
        self._rows = Direct(database, readings)

    def get(self, key: str) -> bytes | None:
        """The value; None when there is none, or when it is not as it was written."""
        query = sa.select(readings.c.value, readings.c.checksum).where(readings.c.key == key)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return row.value if row and row.checksum == _checksum(key, row.value) else None

    def put(self, key: str, sha256: str, value: bytes) -> None:
        """Write a value; one that is there already is replaced."""
        row = {"key": key, "sha256": sha256, "value": value, "checksum": _checksum(key, value), "at": now_ms()}
        self._together.run(lambda connection: self._rows.insert(connection, row, key=("key",)))

    def unneeded(self, before: int) -> int:
        """How many were written before a time (milliseconds) and are of files that no job has any more."""
        query = sa.select(sa.func.count()).select_from(readings).where(_unneeded(before))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def forget(self, before: int, limit: int) -> int:
        """Remove some of those; how many. What may take long, the looking for them, keeps no writer waiting."""
        query = sa.select(readings.c.key).where(_unneeded(before)).limit(limit)
        with self._database.read() as connection:
            keys = connection.execute(query).scalars().all()
        if not keys:
            return 0
        with self._database.write() as connection:
            return connection.execute(sa.delete(readings).where(readings.c.key.in_(keys))).rowcount


def _unneeded(before: int) -> sa.ColumnElement[bool]:
    had = sa.exists().where(documents.c.sha256 == readings.c.sha256)
    return sa.and_(readings.c.at < before, sa.not_(had))


def _checksum(key: str, value: bytes) -> str:
    return hashlib.sha256(key.encode() + value).hexdigest()
