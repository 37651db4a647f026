"""What each running rescue last found: how long a look takes, and what waits. Written every few seconds, for people and metrics."""

from __future__ import annotations

import sqlalchemy as sa

from tasks.clock import now_ms
from tasks.ledger.engine import Database
from tasks.ledger.schema import rescues
from tasks.models import Noun

KEPT_MS = 86_400_000
"""For so long the row of a rescue that was killed tells when that was."""


class Look(Noun):
    """One rescue. Times are milliseconds since the epoch, durations milliseconds, counts since it started."""

    owner: str
    started_at: int
    at: int
    """The last look that was written down."""
    tick_ms: int
    """How long a look took lately, on average."""
    slowest_ms: int
    """The longest one since the last time that this was written."""
    looks: int
    published: int
    taken_back: int
    """Leases of dead or frozen workers."""
    open_jobs: int
    oldest_at: int | None
    """When the oldest open job came."""
    unpublished: int
    """Open jobs that are due and that the broker has not been given: they wait for room in the queues."""
    queued: int | None
    """Messages in the broker's queues; None while it does not answer."""
    longest_since: int | None
    """When the stage that has been running longest was claimed."""


class Rescues:
    """One row for each rescue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def tell(self, look: Look) -> None:
        """Write what a rescue found, and forget those that have not looked for a day."""
        with self._database.write() as connection:
            gone = (rescues.c.owner == look.owner) | (rescues.c.at < now_ms() - KEPT_MS)
            connection.execute(sa.delete(rescues).where(gone))
            connection.execute(sa.insert(rescues).values(look.model_dump()))

    def leave(self, owner: str) -> None:
        """A rescue ends in order."""
        with self._database.write() as connection:
            connection.execute(sa.delete(rescues).where(rescues.c.owner == owner))

    def all(self) -> list[Look]:
        """Every rescue that runs, and those that were killed within a day; the last to look first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(rescues).order_by(rescues.c.at.desc())).all()
        return [Look(**row._mapping) for row in rows]
