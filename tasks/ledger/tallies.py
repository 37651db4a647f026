"""What all processes have counted, added up; how each of them stands; and how many messages came, counted once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tasks.clock import now_ms
from tasks.ledger.engine import Database
from tasks.ledger.schema import jobs, metadata
from tasks.ledger.types import Name
from tasks.models import OWN_SOURCE

FRESH_MS = 60_000
"""A gauge that was not told for so long is of a process that has ended."""
LATE_MS = 30_000
"""How long ago a message came that is counted: those that are younger may not be committed yet."""
LEAST_MS = 10_000
"""The shortest time whose messages are counted at once,"""
STRIDE_MS = 600_000
"""and the longest."""
_UNTIL = "arrivals counted until"

tallies = sa.Table(
    "tallies",
    metadata,
    sa.Column("name", Name, primary_key=True),
    sa.Column("labels", Name, primary_key=True),
    sa.Column("part", Name, primary_key=True),
    sa.Column("value", sa.Double, nullable=False),
)

gauges = sa.Table(
    "gauges",
    metadata,
    sa.Column("name", Name, primary_key=True),
    sa.Column("labels", Name, primary_key=True),
    sa.Column("owner", Name, primary_key=True),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True)
class Tally:
    """A sum. `labels` is a JSON object; `part`: a bucket's upper bound or `sum` of a histogram, empty for a counter."""

    name: str
    labels: str
    part: str
    value: float


@dataclass(frozen=True)
class Gauge:
    """How something stands in one process."""

    name: str
    labels: str
    value: float


class Tallies:
    """Two small tables; their size does not grow with the archive."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, counted: Sequence[Tally], standing: Sequence[Gauge], owner: str) -> None:
        """Add what one process has counted, and put down how it stands. Raises Unavailable."""
        now = now_ms()
        with self._database.write() as connection:
            for one in sorted(counted, key=lambda tally: (tally.name, tally.labels, tally.part)):  # one order for all
                self._more(connection, one)
            for gauge in standing:
                key = {"name": gauge.name, "labels": gauge.labels, "owner": owner}
                mine = sa.and_(*(gauges.c[name] == value for name, value in key.items()))
                new = self._database.insert_ignoring(gauges).values(value=0, at=0, **key)
                connection.execute(new)
                connection.execute(sa.update(gauges).where(mine).values(value=gauge.value, at=now))
            if standing:
                connection.execute(sa.delete(gauges).where(gauges.c.owner != "", gauges.c.at < now - FRESH_MS))

    def forget(self, owner: str) -> None:
        """Take back how a process stood: it ends. Raises Unavailable."""
        with self._database.write() as connection:
            connection.execute(sa.delete(gauges).where(gauges.c.owner == owner))

    def all(self) -> list[Tally]:
        """Every sum. Raises Unavailable."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(tallies).order_by(*tallies.primary_key.columns)).all()
        return [Tally(**row._mapping) for row in rows]

    def standing(self) -> list[Gauge]:
        """How things stand in the processes that live, the highest where several tell. Raises Unavailable."""
        query = (
            sa.select(gauges.c.name, gauges.c.labels, sa.func.max(gauges.c.value).label("value"))
            .where(gauges.c.owner != "", gauges.c.at >= now_ms() - FRESH_MS)
            .group_by(gauges.c.name, gauges.c.labels)
            .order_by(gauges.c.name, gauges.c.labels)
        )
        with self._database.read() as connection:
            return [Gauge(**row._mapping) for row in connection.execute(query)]

    def count_arrivals(self, name: str) -> int:
        """Add the messages that came since the last call to the tally `name` by `source`; how many. Raises Unavailable.

        Any number of processes may call it: each stretch of time is counted by one of them. It begins with the first
        call. Accepting a message does nothing for it.
        """
        mark = (gauges.c.name == _UNTIL) & (gauges.c.owner == "")
        youngest = now_ms() - LATE_MS
        with self._database.read() as connection:
            begin = connection.execute(sa.select(gauges.c.value).where(mark)).scalar_one_or_none()
            if begin is not None and youngest < begin + LEAST_MS:
                return 0
            end = min(youngest, int(begin) + STRIDE_MS) if begin is not None else youngest
            came = [] if begin is None else connection.execute(_arrivals(int(begin), end)).all()
        with self._database.write() as connection:
            if begin is None:
                new = {"name": _UNTIL, "labels": "", "owner": "", "value": end, "at": now_ms()}
                connection.execute(self._database.insert_ignoring(gauges).values(new))
                return 0
            moved = sa.update(gauges).where(mark, gauges.c.value == begin).values(value=end, at=now_ms())
            if not connection.execute(moved).rowcount:
                return 0  # somebody else has counted them
            told = sorted((json.dumps({"source": source}, ensure_ascii=False), number) for source, number in came)
            for labels, number in told:
                self._more(connection, Tally(name, labels, "", number))
        return sum(number for _, number in came)

    def _more(self, connection: sa.Connection, one: Tally) -> None:
        key = {"name": one.name, "labels": one.labels, "part": one.part}
        mine = sa.and_(*(tallies.c[name] == value for name, value in key.items()))
        if not connection.execute(sa.update(tallies).where(mine).values(value=tallies.c.value + one.value)).rowcount:
            connection.execute(self._database.insert_ignoring(tallies).values(value=0, **key))
            connection.execute(sa.update(tallies).where(mine).values(value=tallies.c.value + one.value))


def _arrivals(begin: int, end: int) -> sa.Select[Any]:
    within = (jobs.c.received_at > begin) & (jobs.c.received_at <= end) & (jobs.c.source != OWN_SOURCE)
    return sa.select(jobs.c.source, sa.func.count()).where(within).group_by(jobs.c.source)
