"""What a person asks who looks for one message: the times of its stages, and where else its name is known."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tasks.ledger.engine import Database
from tasks.ledger.imap_messages import imap_messages
from tasks.ledger.rows import job_of
from tasks.ledger.schema import deliveries, jobs, results
from tasks.models import Job, Stage

NEWEST = 2000
"""Jobs whose names are compared with a name that nobody knows."""
ALIKE = 0.8
_JOB = [jobs.c[name] for name in Job.model_fields]


@dataclass(frozen=True)
class Timed:
    """When the stage ran that made the value in the ledger; milliseconds."""

    stage: Stage
    started_at: int
    ended_at: int


@dataclass(frozen=True)
class Seen:
    """A message that a watched mailbox has, and what became of it there."""

    account: str
    folder: str
    uid: int
    state: str
    reason: str
    job_id: str
    seen_at: int


class Traces:
    """Questions about one message."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def stages(self, job_id: str) -> list[Timed]:
        """The last run of each stage that came to an end, in order of time."""
        query = sa.select(results.c.stage, results.c.started_at, results.c.ended_at).where(results.c.job_id == job_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(results.c.started_at)).all()
        return [Timed(Stage(row.stage), row.started_at, row.ended_at) for row in rows]

    def named(self, message_id: str) -> list[Job]:
        """Jobs of this Message-ID, with or without its angle brackets, and those that sent something under it."""
        with self._database.read() as connection:
            found = set(connection.execute(ids_named(message_id)).scalars())
            rows = connection.execute(sa.select(*_JOB).where(jobs.c.id.in_(found)).order_by(jobs.c.received_at)).all()
        return [job_of(row) for row in rows]

    def seen(self, message_id: str) -> list[Seen]:
        """Where watched mailboxes have a message of this Message-ID. Goes through all that is known of them."""
        columns = [imap_messages.c[name] for name in Seen.__dataclass_fields__]
        known = imap_messages.c.message_id.in_(_with_brackets(message_id))
        query = sa.select(*columns).where(known).order_by(imap_messages.c.seen_at).limit(50)
        with self._database.read() as connection:
            return [Seen(**row._mapping) for row in connection.execute(query)]

    def alike(self, text: str, limit: int = 5) -> list[Job]:
        """Of the newest jobs, those whose id or Message-ID looks like `text` or holds it, the likest first."""
        query = sa.select(*_JOB).order_by(jobs.c.received_at.desc()).limit(NEWEST)
        with self._database.read() as connection:
            found = [job_of(row) for row in connection.execute(query)]
        names = {name: job for job in reversed(found) for name in (job.id, job.message_id.strip("<>")) if name}
        bare = text.strip().strip("<>")
        close: Sequence[str] = difflib.get_close_matches(bare, names, limit, ALIKE) if bare else []
        holding = [name for name in reversed(names) if len(bare) > 3 and bare.lower() in name.lower()]
        unique = {names[name].id: names[name] for name in (*close, *holding)}
        return list(unique.values())[:limit]


def ids_named(message_id: str) -> sa.CompoundSelect[Any]:
    """The query for the ids of `Traces.named`: two looks into indexes."""
    names = _with_brackets(message_id)
    # the index of Message-IDs leaves out those who have none, and is taken only where the query says so too
    came = sa.select(jobs.c.id).where(jobs.c.message_id.in_(names), sa.text("jobs.message_id <> ''"))
    sent = sa.select(deliveries.c.job_id).where(deliveries.c.key.in_(names))
    return came.union(sent).limit(50)


def _with_brackets(message_id: str) -> list[str]:
    bare = message_id.strip().strip("<>")
    return [bare, f"<{bare}>"] if bare else []
