"""What the rescue asks: which jobs want a worker and have none on the way."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from tasks.clock import now_ms
from tasks.ledger.engine import Database
from tasks.ledger.jobs import Open
from tasks.ledger.schema import jobs
from tasks.models import RESTING, Stage

_RESTING = [state.value for state in RESTING]


class Backlog:
    """Open jobs and whether the broker knows of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def not_enqueued(self, limit: int, *, older_than_ms: int) -> list[Open]:
        """Due jobs that nobody has published, oldest first; the very newest are left to the one who accepted them."""
        now = now_ms()
        query = self._open(now).where(jobs.c.enqueued_at.is_(None), jobs.c.updated_at <= now - older_than_ms)
        return self._opens(query.limit(limit))

    def lost(self, limit: int, *, enqueued_before: int) -> list[Open]:
        """Jobs that were published before `enqueued_before` (milliseconds) and that no worker has taken."""
        return self._opens(self._open(now_ms()).where(jobs.c.enqueued_at < enqueued_before).limit(limit))

    def stages_of(self, job_ids: Sequence[str]) -> list[Open]:
        """The open ones among these, with the stage that each waits for."""
        query = sa.select(jobs.c.id, jobs.c.stage).where(jobs.c.id.in_(job_ids), jobs.c.stage.is_not(None))
        return self._opens(query.order_by(jobs.c.received_at)) if job_ids else []

    def mark_enqueued(self, job_ids: Sequence[str]) -> None:
        """Remember that these were published."""
        if not job_ids:
            return
        with self._database.write() as connection:
            connection.execute(
                sa.update(jobs).where(jobs.c.id.in_(job_ids), jobs.c.stage.is_not(None)).values(enqueued_at=now_ms())
            )

    def waiting(self) -> tuple[int, int | None]:
        """How many jobs are open and when the oldest came (milliseconds)."""
        query = sa.select(sa.func.count(), sa.func.min(jobs.c.received_at)).where(jobs.c.stage.is_not(None))
        with self._database.read() as connection:
            number, oldest = connection.execute(query.where(jobs.c.state.not_in(_RESTING))).one()
        return number, oldest

    @staticmethod
    def _open(now: int) -> sa.Select[tuple[str, str]]:
        return (
            sa.select(jobs.c.id, jobs.c.stage)
            .where(jobs.c.stage.is_not(None), jobs.c.state.not_in(_RESTING), jobs.c.lease_owner == "")
            .where(sa.or_(jobs.c.due_at.is_(None), jobs.c.due_at <= now))
            .order_by(jobs.c.received_at)
        )

    def _opens(self, query: sa.Select[tuple[str, str]]) -> list[Open]:
        with self._database.read() as connection:
            return [Open(row.id, Stage(row.stage)) for row in connection.execute(query)]
