"""Lists of jobs for people, page by page: each page costs the same, however many jobs there are.

State and label have an index of their own; whatever else is asked for is looked for in the newest WINDOW jobs below the
cursor, and the answer says where to go on.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tasks.ledger.engine import Database
from tasks.ledger.rows import JOB_COLUMNS, job_of
from tasks.ledger.schema import jobs
from tasks.ledger.search import Search
from tasks.models import Job, State

WINDOW = 20_000
"""Jobs that one page looks at, at most."""
_COLUMNS = [jobs.c[name] for name in JOB_COLUMNS]
Place = tuple[int, str]
"""When a job was received (milliseconds) and its id; with words: its place in the index and an empty text."""


@dataclass(frozen=True)
class Wanted:
    """What a list shows. Empty means: all."""

    states: tuple[State, ...] = ()
    label: str = ""
    source: str = ""
    route: str = ""
    words: str = ""
    since: int | None = None
    """Received then or later, in milliseconds since the epoch."""
    until: int | None = None


@dataclass(frozen=True)
class Page:
    """Some jobs, newest first, and where the next page begins (None: there is none)."""

    jobs: tuple[Job, ...]
    following: Place | None
    looked_at: int = 0
    """How many were looked at, when the page is short because the window ended."""


class Listing:
    """Asks for pages."""

    def __init__(self, database: Database, search: Search) -> None:
        self._database = database
        self._search = search

    def page(self, wanted: Wanted, before: Place | None = None, limit: int = 50) -> Page:
        """The newest jobs that fit, below `before`."""
        if wanted.words.strip():
            return self._found(wanted, before, limit)
        if wanted.source or wanted.route or (wanted.label and wanted.states):
            return self._sifted(wanted, before, limit)
        found = self._indexed(wanted, before, limit + 1)
        following = _place(found[limit - 1]) if len(found) > limit else None
        return Page(tuple(found[:limit]), following)

    def queue(self, after: Place | None = None, limit: int = 50) -> list[Job]:
        """What waits for a decision, oldest first, above `after`."""
        query = sa.select(*_COLUMNS).where(jobs.c.state == State.REVIEW.value)
        if after is not None:
            above = sa.tuple_(sa.literal(after[0]), sa.literal(after[1]))
            query = query.where(jobs.c.received_at >= after[0], sa.tuple_(jobs.c.received_at, jobs.c.id) > above)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(jobs.c.received_at, jobs.c.id).limit(limit)).all()
        return [job_of(row) for row in rows]

    def by_name(self, text: str) -> Job | None:
        """The job whose id or Message-ID this is."""
        same = sa.or_(jobs.c.id == text.lower(), jobs.c.message_id.in_([text, f"<{text}>"]))
        with self._database.read() as connection:
            row = connection.execute(sa.select(*_COLUMNS).where(same).limit(1)).first()
        return job_of(row) if row else None

    def _indexed(self, wanted: Wanted, before: Place | None, limit: int) -> list[Job]:
        """By state, by label or all: one walk along an index for each state, and the newest of them."""
        base = _between(sa.select(*_COLUMNS), wanted, before)
        if wanted.label:
            base = base.where(jobs.c.label == wanted.label)
        walks = [base.where(jobs.c.state == state.value) for state in wanted.states] or [base]
        with self._database.read() as connection:
            found = [[job_of(row) for row in connection.execute(_newest(walk, limit))] for walk in walks]
        merged = heapq.merge(*found, key=_place, reverse=True)
        return [job for job, _ in zip(merged, range(limit), strict=False)]

    def _sifted(self, wanted: Wanted, before: Place | None, limit: int) -> Page:
        columns = (jobs.c.id, jobs.c.received_at, jobs.c.state, jobs.c.label, jobs.c.source, jobs.c.route)
        window = _newest(_between(sa.select(*columns), wanted, before), WINDOW).subquery()
        with self._database.read() as connection:
            rows = connection.execute(sa.select(window).where(*_fits(window.c, wanted))).all()
            last = connection.execute(
                sa.select(sa.func.count(), sa.func.min(window.c.received_at), sa.func.min(window.c.id))
            ).one()
        rows = sorted(rows, key=lambda row: (row.received_at, row.id), reverse=True)
        kept = self._search.jobs([row.id for row in rows[:limit]])
        found = tuple(kept[row.id] for row in rows[:limit] if row.id in kept)
        if len(rows) > limit:
            return Page(found, _place(found[-1]))
        more = last[0] == WINDOW
        return Page(found, (last[1], last[2]) if more else None, last[0] if more else 0)

    def _found(self, wanted: Wanted, before: Place | None, limit: int) -> Page:
        plain = not (wanted.states or wanted.label or wanted.source or wanted.route or wanted.since or wanted.until)
        most = limit + 1 if plain else WINDOW
        matches = self._search.matching(wanted.words, before[0] if before else None, most)
        found: list[Job] = []
        last = 0
        for start in range(0, len(matches), 500):
            part = matches[start : start + 500]
            known = self._search.jobs([job_id for _, job_id in part])
            for place, job_id in part:
                job = known.get(job_id)
                if job is None or not _keeps(job, wanted):
                    continue
                if len(found) == limit:
                    return Page(tuple(found), (last, ""))
                found.append(job)
                last = place
        if len(matches) == most:
            return Page(tuple(found), (matches[-1][0], ""), 0 if plain else most)
        return Page(tuple(found), None)


def _place(job: Job) -> Place:
    return job.received_at, job.id


def _newest(query: sa.Select[tuple[object, ...]], limit: int) -> sa.Select[tuple[object, ...]]:
    return query.order_by(jobs.c.received_at.desc(), jobs.c.id.desc()).limit(limit)


def _between(
    query: sa.Select[tuple[object, ...]], wanted: Wanted, before: Place | None
) -> sa.Select[tuple[object, ...]]:
    if before is not None:
        below = sa.tuple_(sa.literal(before[0]), sa.literal(before[1]))
        # the first condition says it again for planners that use no index for a row of values
        query = query.where(jobs.c.received_at <= before[0], sa.tuple_(jobs.c.received_at, jobs.c.id) < below)
    if wanted.since is not None:
        query = query.where(jobs.c.received_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(jobs.c.received_at < wanted.until)
    return query


def _fits(columns: Any, wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    asked = {"label": wanted.label, "source": wanted.source, "route": wanted.route}
    found: list[sa.ColumnElement[bool]] = [columns[name] == value for name, value in asked.items() if value]
    if wanted.states:
        found.append(columns.state.in_([state.value for state in wanted.states]))
    return found


def _keeps(job: Job, wanted: Wanted) -> bool:
    asked = ((wanted.label, job.label), (wanted.source, job.source), (wanted.route, job.route))
    in_time = (wanted.since or 0) <= job.received_at and (wanted.until is None or job.received_at < wanted.until)
    return in_time and all(not want or want == has for want, has in asked) and _in(job.state, wanted.states)


def _in(state: State, states: Sequence[State]) -> bool:
    return not states or state in states
