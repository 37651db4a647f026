"""How many jobs and deliveries stand where, for /metrics: each query looks only into an index, or at a few rows.

What is open, in review or failed is counted each time it is asked. The archive (done, cancelled) is a matter of its own:
counting it walks as much of an index as there are such jobs, so its asker does it rarely.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tasks.clock import now_ms
from tasks.ledger.backlog import unpublished
from tasks.ledger.engine import Database
from tasks.ledger.schema import UNSENT, deliveries, jobs
from tasks.models import RESTING, State

ARCHIVE = (State.CANCELLED, State.DONE)
"""The states in which a job takes no more work and nobody has to look at it."""
BUSY = tuple(state for state in State if state not in ARCHIVE)
OPEN = tuple(state for state in State if state not in RESTING)
MOST_BACKLOG = 10_000
"""What is counted of the rescue's backlog; more is as bad."""
LATE_MS = 30_000
"""The rescue's backlog is what it has not published for so long."""


class Census:
    """Questions that stay cheap however many jobs there are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def number(self, state: State) -> int:
        """Jobs in this state. Walks that part of an index, and no row."""
        with self._database.read() as connection:
            return int(connection.execute(_number(state)).scalar_one())

    def oldest(self, state: State) -> int | None:
        """When the oldest job in this state came (milliseconds). One look into an index."""
        with self._database.read() as connection:
            at: int | None = connection.execute(_oldest(state)).scalar_one()
        return at

    def backlog(self) -> int:
        """Jobs that are due and wait for the rescue to publish them; MOST_BACKLOG at most."""
        with self._database.read() as connection:
            return int(connection.execute(_backlog(now_ms())).scalar_one())

    def unsent(self) -> dict[str, int]:
        """Deliveries that are `pending` and that `failed`. Walks the index of those only."""
        with self._database.read() as connection:
            found = {state: int(number) for state, number in connection.execute(_unsent())}
        return {"pending": 0, "failed": 0} | found

    def size(self) -> int:
        """Bytes that the database takes on its disk; of SQLite with its log, and without blobs."""
        if self._database.is_sqlite:
            base = Path(self._database.url.database or "")
            files = (base, base.with_name(f"{base.name}-wal"))
            return sum(file.stat().st_size for file in files if file.is_file())
        with self._database.read() as connection:
            return int(connection.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one())


def queries() -> dict[str, sa.Select[Any]]:
    """What a scrape asks, by name, for whoever wants to see how the database would go about it."""
    return {
        "number": _number(State.FAILED),
        "oldest": _oldest(State.WAITING),
        "backlog": _backlog(now_ms()),
        "unsent": _unsent(),
    }


def _number(state: State) -> sa.Select[Any]:
    return sa.select(sa.func.count()).select_from(jobs).where(jobs.c.state == state.value)


def _oldest(state: State) -> sa.Select[Any]:
    return sa.select(sa.func.min(jobs.c.received_at)).where(jobs.c.state == state.value)


def _backlog(now: int) -> sa.Select[Any]:
    waiting = unpublished(now, older_than_ms=LATE_MS).order_by(None).limit(MOST_BACKLOG)
    return sa.select(sa.func.count()).select_from(waiting.subquery())


def _unsent() -> sa.Select[Any]:
    return sa.select(deliveries.c.state, sa.func.count()).where(UNSENT).group_by(deliveries.c.state)
