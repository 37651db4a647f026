"""Sending again: which deliveries are meant, which can be, and putting their jobs back in one commit with them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from tasks.clock import now_ms
from tasks.ledger.deliveries import REOPENED
from tasks.ledger.engine import Database
from tasks.ledger.jobs import put_back
from tasks.ledger.rows import event_row
from tasks.ledger.schema import UNSENT, deliveries, events, jobs
from tasks.models import Stage, State

BATCH = 200
"""Jobs put back in one commit."""
_HELD = "a worker holds it; try again later"


@dataclass(frozen=True)
class Wanted:
    """What shall be sent again. An empty text or None means: whichever."""

    transport: str
    target: str
    states: tuple[str, ...]
    """`failed` and `sent`; what is still under way goes out by itself."""
    since: int | None = None
    until: int | None = None
    """When it failed or was sent: milliseconds since the epoch, both inclusive."""
    limit: int | None = None
    """Deliveries at most, those of the oldest jobs first."""


@dataclass(frozen=True)
class Redelivery:
    """The deliveries of one job that are wanted."""

    job_id: str
    ordinals: tuple[int, ...]
    states: tuple[str, ...]
    """States in which each of them was wanted; one that has left them meanwhile is left alone."""
    obstacle: str
    """Why they cannot be sent again now; empty when they can."""


class Redeliveries:
    """Bulk moves over many jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, wanted: Wanted) -> list[Redelivery]:
        """Every job with something that is wanted, oldest first."""
        ended = {"failed": deliveries.c.failed_at, "sent": deliveries.c.sent_at}
        query = (
            sa.select(jobs.c.id, deliveries.c.ordinal, jobs.c.state, jobs.c.stage, jobs.c.lease_owner)
            .join(deliveries, deliveries.c.job_id == jobs.c.id)
            .where(deliveries.c.target == wanted.target, deliveries.c.transport == wanted.transport)
            .where(sa.or_(*(_ended(state, ended[state], wanted) for state in wanted.states)))
            .order_by(jobs.c.received_at, jobs.c.id, deliveries.c.ordinal)
            .limit(wanted.limit)
        )
        if "sent" not in wanted.states:
            query = query.where(UNSENT)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [
            Redelivery(job_id, tuple(row.ordinal for row in group), tuple(wanted.states), obstacle(group[0]))
            for job_id, found in itertools.groupby(rows, key=lambda row: str(row.id))
            if (group := list(found))
        ]

    def again(self, found: Sequence[Redelivery], why: str) -> list[Redelivery]:
        """Put jobs back before deliver, with these deliveries pending; each as it came to stand.

        A job that a worker took meanwhile, or that moved on, is left and has an obstacle now.
        """
        told = []
        free = [one for one in found if not one.obstacle]
        for start in range(0, len(free), BATCH):
            with self._database.write() as connection:
                told += [_again(connection, one, why) for one in free[start : start + BATCH]]
        return told + [one for one in found if one.obstacle]


def obstacle(job: Any) -> str:
    """Why nothing of a job (its state, stage and lease's owner) can be sent again now; empty when it can."""
    if job.state == State.CANCELLED:
        return f"it was cancelled; `postroom retry {job.id} --from deliver` runs it again"
    if job.state == State.REVIEW or job.stage not in {None, Stage.DELIVER}:
        return f"it is {State(job.state).value} and what it sends may still change; let it come to deliver first"
    return _HELD if job.lease_owner else ""


def _ended(state: str, at: sa.Column[Any], wanted: Wanted) -> sa.ColumnElement[bool]:
    times = [at >= wanted.since] if wanted.since is not None else []
    times += [at <= wanted.until] if wanted.until is not None else []
    return sa.and_(deliveries.c.state == state, *times)


def _again(connection: sa.Connection, one: Redelivery, why: str) -> Redelivery:
    now = now_ms()
    mine = sa.select(jobs.c.id, jobs.c.state, jobs.c.stage, jobs.c.lease_owner).where(jobs.c.id == one.job_id)
    job = connection.execute(mine.with_for_update()).one_or_none()
    found = obstacle(job) if job else "it is not there any more"
    if found:
        return replace(one, obstacle=found)
    chosen = (deliveries.c.job_id == one.job_id) & deliveries.c.ordinal.in_(one.ordinals)
    still = connection.execute(sa.update(deliveries).where(chosen, deliveries.c.state.in_(one.states)).values(REOPENED))
    if not still.rowcount:
        return replace(one, obstacle="somebody else has sent it again meanwhile")
    connection.execute(sa.update(jobs).where(jobs.c.id == one.job_id).values(put_back(Stage.DELIVER, now)))
    detail = {"why": why, "deliveries": list(one.ordinals)}
    connection.execute(sa.insert(events).values(event_row(one.job_id, "redeliver", Stage.DELIVER, detail, now)))
    return one
