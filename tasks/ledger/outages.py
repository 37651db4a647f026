"""Outages of what all jobs depend on: since when, until when, and whether people were told. Shared by all processes."""

from __future__ import annotations

import sqlalchemy as sa

from tasks.ledger.engine import Database
from tasks.ledger.schema import outages
from tasks.models import Noun

REASON = 500


class Outage(Noun):
    """The last outage of one dependency. Times are milliseconds since the epoch."""

    name: str
    """`ollama:http://...`, `model:NAME at http://...`, `smtp:host:port`, `redis`, `ledger`, `blobs:s3://...`."""
    since: int
    last_failure_at: int
    reason: str
    open_until: int | None = None
    """Until then a breaker lets nobody ask; after it one call at a time does."""
    ended_at: int | None = None
    told_at: int | None = None
    end_told_at: int | None = None


class Outages:
    """One row a dependency that was ever away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Outage]:
        """The last outage of each, by name."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(outages).order_by(outages.c.name))
            return [Outage(**row._mapping) for row in rows]

    def failed(
        self, name: str, since: int, at: int, reason: str, *, settle_ms: int, open_until: int | None = None
    ) -> None:
        """It failed at `at` and has, as the caller knows, since `since`.

        An outage that ended less than `settle_ms` ago, and whose end nobody was told, goes on; after that a new one
        begins. A failure from before the end changes nothing.
        """
        row = {"name": name, "since": since, "last_failure_at": at, "reason": reason[:REASON]}
        is_over = sa.and_(
            outages.c.ended_at.is_not(None),
            sa.or_(outages.c.end_told_at.is_not(None), outages.c.ended_at < at - settle_ms),
        )
        began = sa.case((outages.c.ended_at > since, outages.c.ended_at), else_=since)
        values = {
            "since": sa.case((is_over, began), else_=outages.c.since),
            "told_at": sa.case((is_over, sa.null()), else_=outages.c.told_at),
            "end_told_at": None,
            "ended_at": None,
            "last_failure_at": at,
            "reason": reason[:REASON],
            "open_until": open_until,
        }
        still = sa.or_(outages.c.ended_at.is_(None), outages.c.ended_at < at)
        with self._database.write() as connection:
            connection.execute(self._database.insert_ignoring(outages).values(row))
            connection.execute(sa.update(outages).where(outages.c.name == name, still).values(values))

    def worked(self, name: str, at: int) -> bool:
        """It did its work at `at`: whether that ended an outage."""
        still = (outages.c.name == name) & outages.c.ended_at.is_(None) & (outages.c.last_failure_at <= at)
        with self._database.write() as connection:
            changed = connection.execute(sa.update(outages).where(still).values(ended_at=at, open_until=None))
        return bool(changed.rowcount)

    def passed(self, name: str, since: int, until: int, reason: str) -> None:
        """An outage that could not be written while it lasted; one that overlaps is the same, whoever saw it."""
        row = {"name": name, "since": since, "last_failure_at": until, "ended_at": until, "reason": reason[:REASON]}
        new = {"told_at": None, "end_told_at": None, **row}
        with self._database.write() as connection:
            connection.execute(self._database.insert_ignoring(outages).values(row))
            earlier = (outages.c.name == name) & (outages.c.ended_at < since)
            connection.execute(sa.update(outages).where(earlier).values(new))

    def told(self, outage: Outage, at: int, *, end: bool) -> None:
        """People know of it, or of its end."""
        same = (outages.c.name == outage.name) & (outages.c.since == outage.since)
        if end:
            same &= outages.c.ended_at == outage.ended_at
        with self._database.write() as connection:
            connection.execute(sa.update(outages).where(same).values({"end_told_at" if end else "told_at": at}))
