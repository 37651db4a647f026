"""Lists of jobs for people, page by page: each page costs the same, however many jobs there are.

State and label have an index of their own; whatever else is asked for is looked for in the newest WINDOW (with words: FOUND)
jobs below the cursor, and the answer says where to go on.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import sqlalchemy as sa

from tasks.ids import is_job_id
from tasks.ledger.engine import Database
from tasks.ledger.rows import JOB_COLUMNS, job_of
from tasks.ledger.schema import jobs
from tasks.ledger.search import Search
from tasks.models import Job, State

WINDOW = 10_000
"""Jobs that one page looks at, at most."""
FOUND = 4_000
"""Jobs found by words that one page looks at, at most, when more than words is asked for."""
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

    def queued(self) -> int:
        """How many jobs wait for a decision."""
        query = sa.select(sa.func.count()).where(jobs.c.state == State.REVIEW.value)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def by_name(self, text: str) -> Job | None:
        """The job whose id or Message-ID this is."""
        if is_job_id(text.lower()):
            same: list[sa.ColumnElement[bool] | sa.TextClause] = [jobs.c.id == text.lower()]
        elif "@" in text:  # the first condition is that of the index, in its own words
            same = [sa.text("message_id <> ''"), jobs.c.message_id.in_([text, f"<{text}>"])]
        else:
            return None
        with self._database.read() as connection:
            row = connection.execute(sa.select(*_COLUMNS).where(*same).limit(1)).first()
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
        places = _newest(_between(sa.select(jobs.c.received_at, jobs.c.id), wanted, before), WINDOW).offset(WINDOW - 1)
        query = _between(sa.select(*_COLUMNS), wanted, before).where(*_fits(wanted))
        with self._database.read() as connection:
            last = connection.execute(places.limit(1)).one_or_none()
            if last:
                query = query.where(jobs.c.received_at >= last.received_at)
            found = [job_of(row) for row in connection.execute(_newest(query, limit + 1))]
        if len(found) > limit:
            return Page(tuple(found[:limit]), _place(found[limit - 1]))
        return Page(tuple(found), (last.received_at, last.id) if last else None, WINDOW if last else 0)

    def _found(self, wanted: Wanted, before: Place | None, limit: int) -> Page:
        last = before[0] if before else None
        fits = [*_since(wanted), *_fits(wanted)]
        most = FOUND if fits else limit + 1
        found = self._search.matching(wanted.words, last, most, fits, limit + 1)
        if len(found) > limit:
            return Page(self._whole(found[:limit]), (found[limit - 1][0], ""))
        end = self._search.last_of(wanted.words, last, most) if fits else None
        return Page(self._whole(found), None if end is None else (end, ""), 0 if end is None else most)

    def _whole(self, found: list[tuple[int, str]]) -> tuple[Job, ...]:
        known = self._search.jobs([job_id for _, job_id in found])
        return tuple(known[job_id] for _, job_id in found if job_id in known)


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
    return query.where(*_since(wanted))


def _since(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = [] if wanted.since is None else [jobs.c.received_at >= wanted.since]
    return found if wanted.until is None else [*found, jobs.c.received_at < wanted.until]


def _fits(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    """The conditions for which the walk along received_at shall not be left: `|| ''` keeps other indexes out of it."""
    asked = ((jobs.c.label, wanted.label), (jobs.c.source, wanted.source), (jobs.c.route, wanted.route))
    found: list[sa.ColumnElement[bool]] = [column.op("||")("") == value for column, value in asked if value]
    if wanted.states:
        found.append(jobs.c.state.op("||")("").in_([state.value for state in wanted.states]))
    return found
