"""What a day's digest tells: counts of what came, and lists of what a person has to look at."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from tasks.ledger.engine import Database
from tasks.ledger.notices import REVIEWS
from tasks.ledger.schema import deliveries, jobs
from tasks.models import OWN_SOURCE, Noun, State

_SHOWN = (jobs.c.id, jobs.c.received_at, jobs.c.source, jobs.c.label, jobs.c.subject, jobs.c.reason)


class Listed(Noun):
    """A job in a list."""

    id: str
    received_at: int
    source: str
    label: str | None
    subject: str
    reason: str


class Day(Noun):
    """What came between two times (milliseconds) and what became of it, and what waits for a person now."""

    since: int
    until: int
    came: dict[str, int]
    """Messages by way in."""
    states: dict[str, int]
    """The same by where they stand now."""
    labels: dict[str, int]
    replies: int
    """Answers by mail that were sent to them."""
    webhooks: int
    """Results of them that endpoints took."""
    review: int
    review_oldest: tuple[Listed, ...]
    failed: int
    """Jobs that failed in that time, whenever they came."""
    failed_newest: tuple[Listed, ...]
    alerts: tuple[Listed, ...]
    """The newest alerts of that time."""


class Digests:
    """Queries over one stretch of time, by the index of arrivals."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def last(self, prefix: str) -> int | None:
        """When the last digest was made: the newest job of our own whose key begins so."""
        mine = (jobs.c.source == OWN_SOURCE) & jobs.c.key.startswith(prefix, autoescape=True)
        with self._database.read() as connection:
            at: int | None = connection.execute(sa.select(sa.func.max(jobs.c.received_at)).where(mine)).scalar_one()
        return at

    def day(self, since: int, until: int, listed: int, prefix: str) -> Day:
        """What there is to tell; lists have `listed` entries at most. Digests (keys with `prefix`) are no alerts."""
        came = (jobs.c.received_at >= since) & (jobs.c.received_at < until) & (jobs.c.source != OWN_SOURCE)
        own = (jobs.c.received_at >= since) & (jobs.c.received_at < until) & (jobs.c.source == OWN_SOURCE)
        review = jobs.c.state == State.REVIEW.value
        failed = (jobs.c.state == State.FAILED.value) & (jobs.c.updated_at >= since) & (jobs.c.updated_at < until)
        alerts = own & ~jobs.c.key.startswith(prefix, autoescape=True) & ~REVIEWS
        with self._database.read() as connection:

            def by(column: sa.Column[Any]) -> dict[str, int]:
                query = sa.select(column, sa.func.count()).where(came, column.is_not(None)).group_by(column)
                rows = connection.execute(query.order_by(sa.func.count().desc(), column)).all()
                return {row[0]: int(row[1]) for row in rows}

            def number(where: sa.ColumnElement[bool]) -> int:
                return int(connection.execute(sa.select(sa.func.count()).select_from(jobs).where(where)).scalar_one())

            def some(where: sa.ColumnElement[bool], order: sa.ColumnElement[Any]) -> tuple[Listed, ...]:
                rows = connection.execute(sa.select(*_SHOWN).where(where).order_by(order).limit(listed))
                return tuple(Listed(**row._mapping) for row in rows)

            sent = (
                sa.select(deliveries.c.transport, sa.func.count())
                .join(jobs, jobs.c.id == deliveries.c.job_id)
                .where(came, deliveries.c.state == "sent")
                .group_by(deliveries.c.transport)
            )
            told = {row[0]: int(row[1]) for row in connection.execute(sent)}
            return Day(
                since=since,
                until=until,
                came=by(jobs.c.source),
                states=by(jobs.c.state),
                labels=by(jobs.c.label),
                replies=told.get("smtp", 0),
                webhooks=told.get("webhook", 0),
                review=number(review),
                review_oldest=some(review, jobs.c.received_at.asc()),
                failed=number(failed),
                failed_newest=some(failed, jobs.c.updated_at.desc()),
                alerts=some(alerts, jobs.c.received_at.desc()),
            )
