"""What the rescue asks: which jobs want a worker and have none on the way."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from tasks.clock import now_ms
from tasks.ledger.engine import Database
from tasks.ledger.jobs import Open
from tasks.ledger.rows import JOB_COLUMNS, job_of
from tasks.ledger.schema import jobs
from tasks.models import OWN_SOURCE, RESTING, Job, Stage, State

FUTURE_MS = 60_000
"""What was written so far ahead of now was written before the clock was set back: it tells nothing."""
_RESTING = [state.value for state in RESTING]


class Backlog:
    """Open jobs and whether the broker knows of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def not_enqueued(self, limit: int, *, older_than_ms: int) -> list[Open]:
        """Due jobs that nobody has published, oldest first; the very newest are left to the one who accepted them."""
        return self._opens(unpublished(now_ms(), older_than_ms=older_than_ms).limit(limit))

    def lost(self, limit: int, *, enqueued_before: int) -> list[Open]:
        """Jobs that were published before `enqueued_before` (milliseconds) and that no worker has taken."""
        now = now_ms()
        return self._opens(_open(now).where(_before(jobs.c.enqueued_at, enqueued_before, now)).limit(limit))

    def own(self, limit: int) -> list[str]:
        """Alerts that are due, oldest first."""
        query = _open(now_ms()).where(jobs.c.source == OWN_SOURCE, jobs.c.stage == Stage.DELIVER.value)
        return [one.job_id for one in self._opens(query.limit(limit))]

    def take(self, job_ids: Sequence[str], *, enqueued_before: int) -> list[str]:
        """Mark these as published, and tell which are ours to publish, in order of arrival.

        Not those that another rescue, the nudger or a worker has taken since `enqueued_before` (milliseconds), or is
        taking at this very moment.
        """
        if not job_ids:
            return []
        ours = (
            sa.select(jobs.c.id)
            .where(jobs.c.id.in_(job_ids), jobs.c.stage.is_not(None), jobs.c.lease_owner == "")
            .where(sa.or_(jobs.c.enqueued_at.is_(None), _before(jobs.c.enqueued_at, enqueued_before, now_ms())))
            .order_by(jobs.c.id)
            .with_for_update(skip_locked=True)  # PostgreSQL; SQLite has one writer at a time
        )
        with self._database.write() as connection:
            taken = sorted(connection.execute(ours).scalars())
            self._mark(connection, taken, now_ms())
        return taken

    def give_back(self, job_ids: Sequence[str]) -> None:
        """The broker did not take these after all: they are published at the next look."""
        with self._database.write() as connection:
            self._mark(connection, sorted(job_ids), None)

    def mark_enqueued(self, job_ids: Sequence[str]) -> None:
        """Remember that these new jobs were published; not of those that a worker has taken in hand meanwhile."""
        if not job_ids:
            return
        with self._database.write() as connection:
            new = (jobs.c.state == State.RECEIVED.value) & (jobs.c.lease_owner == "")
            here = sa.select(jobs.c.id).where(jobs.c.id.in_(job_ids), new).order_by(jobs.c.id)
            self._mark(connection, connection.execute(here.with_for_update(skip_locked=True)).scalars().all(), now_ms())

    def waiting(self) -> tuple[int, int | None]:
        """How many jobs are open and when the oldest came (milliseconds)."""
        query = sa.select(sa.func.count(), sa.func.min(jobs.c.received_at)).where(jobs.c.stage.is_not(None))
        with self._database.read() as connection:
            number, oldest = connection.execute(query.where(jobs.c.state.not_in(_RESTING))).one()
        return number, oldest

    def unpublished(self) -> int:
        """How many jobs are due that the broker has not been given, and that no worker has."""
        query = _open(now_ms()).order_by(None).where(jobs.c.enqueued_at.is_(None))
        with self._database.read() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(query.subquery())).scalar_one())

    def longest_since(self) -> int | None:
        """When the stage was claimed that has been running longest (milliseconds); a beat does not count."""
        query = sa.select(sa.func.min(jobs.c.updated_at)).where(jobs.c.lease_owner != "")
        with self._database.read() as connection:
            since: int | None = connection.execute(query).scalar_one()
        return since

    def running(self, limit: int) -> list[Job]:
        """Jobs that a worker has in hand, then those that are next."""
        columns = [jobs.c[name] for name in JOB_COLUMNS]
        held = sa.select(*columns).where(jobs.c.lease_owner != "").limit(limit)
        following = sa.select(*columns).where(jobs.c.stage.is_not(None), jobs.c.lease_owner == "")
        following = following.where(jobs.c.state.not_in(_RESTING)).order_by(jobs.c.due_at, jobs.c.received_at)
        with self._database.read() as connection:
            found = [job_of(row) for row in connection.execute(held)]
            found.sort(key=lambda job: (job.received_at, job.id))
            more = connection.execute(following.limit(limit - len(found))) if len(found) < limit else ()
            return [*found, *(job_of(row) for row in more)]

    @staticmethod
    def _mark(connection: sa.Connection, job_ids: Sequence[str], at: int | None) -> None:
        if job_ids:
            connection.execute(
                sa.update(jobs).where(jobs.c.id.in_(job_ids), jobs.c.stage.is_not(None)).values(enqueued_at=at)
            )

    def _opens(self, query: sa.Select[tuple[str, str]]) -> list[Open]:
        with self._database.read() as connection:
            return [Open(row.id, Stage(row.stage)) for row in connection.execute(query)]


def unpublished(now: int, *, older_than_ms: int) -> sa.Select[tuple[str, str]]:
    """Id and stage of jobs that are due at `now` (milliseconds) and that nobody has published, oldest first."""
    return _open(now).where(jobs.c.enqueued_at.is_(None), _before(jobs.c.updated_at, now - older_than_ms + 1, now))


def _open(now: int) -> sa.Select[tuple[str, str]]:
    return (
        sa.select(jobs.c.id, jobs.c.stage)
        .where(jobs.c.stage.is_not(None), jobs.c.state.not_in(_RESTING), jobs.c.lease_owner == "")
        .where(sa.or_(jobs.c.due_at.is_(None), jobs.c.due_at <= now))
        # + 0: or SQLite reads the index of received_at, with all that has ended, to save itself the sorting
        .order_by(jobs.c.received_at + 0)
    )


def _before(column: sa.Column[int], moment: int, now: int) -> sa.ColumnElement[bool]:
    return sa.or_(column < moment, column > now + FUTURE_MS)
