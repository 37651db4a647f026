"""Who looks at the pages: sessions, and what people did there."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from tasks.clock import now_ms
from tasks.ledger.engine import Database
from tasks.ledger.schema import metadata
from tasks.ledger.types import Text
from tasks.models import Noun

FAILED_LOGIN = "login failed"

sessions = sa.Table(
    "page_sessions",
    metadata,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("who", Text, nullable=False),
    sa.Column("stamp", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
)
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("who", Text, nullable=False),
    sa.Column("address", Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("job_id", sa.Text, nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Index(None, "action", "at"),
)


class Session(Noun):
    """One log-in. The ledger holds a SHA-256 of its cookie, never the cookie."""

    who: str
    stamp: str
    """Tells the password that was used from a later one: changing it ends the session."""
    expires_at: int


class Deed(Noun):
    """One line of the audit log."""

    at: int
    who: str
    address: str
    action: str
    job_id: str
    detail: dict[str, Any]


class Visitors:
    """The rows of sessions and of the audit log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open_session(self, sha256: str, who: str, stamp: str, expires_at: int) -> None:
        """Begin a session; those that have run out are removed on the way."""
        now = now_ms()
        row = {"sha256": sha256, "who": who, "stamp": stamp, "created_at": now, "expires_at": expires_at}
        with self._database.write() as connection:
            connection.execute(sa.delete(sessions).where(sessions.c.expires_at < now))
            connection.execute(sa.insert(sessions).values(row))

    def session(self, sha256: str) -> Session | None:
        """The session of this cookie, while it lasts."""
        query = sa.select(sessions.c.who, sessions.c.stamp, sessions.c.expires_at)
        query = query.where(sessions.c.sha256 == sha256, sessions.c.expires_at >= now_ms())
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return Session(**row._mapping) if row else None

    def close_session(self, sha256: str) -> None:
        """End a session, in every process at once."""
        with self._database.write() as connection:
            connection.execute(sa.delete(sessions).where(sessions.c.sha256 == sha256))

    def note(self, who: str, address: str, action: str, job_id: str = "", **detail: Any) -> None:
        """Write down what somebody did."""
        row = {"at": now_ms(), "who": who[:200], "address": address, "action": action, "job_id": job_id}
        with self._database.write() as connection:
            connection.execute(sa.insert(audit).values(**row, detail=detail))

    def failed_logins(self, since: int, who: str, address: str) -> tuple[int, int]:
        """Failed log-ins since then (milliseconds), under this name and from this address."""
        recent = sa.select(sa.func.count()).where(audit.c.action == FAILED_LOGIN, audit.c.at >= since)
        with self._database.read() as connection:
            by_name = connection.execute(recent.where(audit.c.who == who[:200])).scalar_one()
            by_address = connection.execute(recent.where(audit.c.address == address)).scalar_one()
        return by_name, by_address

    def deeds(self, before: int | None = None, limit: int = 100) -> list[tuple[int, Deed]]:
        """The audit log, newest first, with the id of each line."""
        query = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(audit.c.id < before)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [(row.id, Deed(**{name: getattr(row, name) for name in Deed.model_fields})) for row in rows]
