"""Counts for people: what came, what was answered, how long it took. Each looks into an index only, or at a sample."""

from __future__ import annotations

import sqlalchemy as sa

from tasks.ledger.engine import Database
from tasks.ledger.schema import jobs
from tasks.models import OWN_SOURCE, State

SAMPLE = 2000
"""Ended jobs whose time to answer is looked at."""
LOOKED = 20_000
"""Jobs whose rows are read for a count."""


class Figures:
    """Asks for numbers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def arrivals(self, since: int, step: int, state: State | None = None) -> dict[int, int]:
        """Jobs received since then, by number of the step of time (both in milliseconds) in which they came.

        With `state`, only those that are so now.
        """
        number = (jobs.c.received_at - since) // step
        query = sa.select(number.label("n"), sa.func.count()).where(jobs.c.received_at >= since).group_by("n")
        if state:
            query = query.where(jobs.c.state == state.value)
        with self._database.read() as connection:
            return {int(row[0]): int(row[1]) for row in connection.execute(query)}

    def ended(self, since: int) -> list[int]:
        """How long each of the newest SAMPLE jobs took that came since then and are done, in milliseconds."""
        query = (
            sa.select(jobs.c.updated_at - jobs.c.received_at)
            .where(jobs.c.state == State.DONE.value, jobs.c.received_at >= since, jobs.c.source != OWN_SOURCE)
            .order_by(jobs.c.received_at.desc())
            .limit(SAMPLE)
        )
        with self._database.read() as connection:
            return [int(took) for took in connection.execute(query).scalars()]

    def labels(self, since: int) -> dict[str, int]:
        """Jobs received since then, by label."""
        query = (
            sa.select(jobs.c.label, sa.func.count())
            .where(jobs.c.label.is_not(None), jobs.c.received_at >= since)
            .group_by(jobs.c.label)
        )
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def routes(self, since: int) -> dict[str, tuple[int, int]]:
        """By route, how many jobs received since then it took, and when the last of them came; of the newest LOOKED."""
        newest = (
            sa.select(jobs.c.route, jobs.c.received_at)
            .where(jobs.c.received_at >= since)
            .order_by(jobs.c.received_at.desc())
            .limit(LOOKED)
            .subquery()
        )
        query = sa.select(newest.c.route, sa.func.count(), sa.func.max(newest.c.received_at))
        with self._database.read() as connection:
            rows = connection.execute(query.where(newest.c.route.is_not(None)).group_by(newest.c.route)).all()
        return {row[0]: (row[1], row[2]) for row in rows}

    def states(self, since: int) -> dict[str, int]:
        """Jobs received since then, by state."""
        query = sa.select(jobs.c.state, sa.func.count()).where(jobs.c.received_at >= since).group_by(jobs.c.state)
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}
