"""What reviewers were asked by mail: each is a job of our own, whose key says about which state of which job it is."""

from __future__ import annotations

import sqlalchemy as sa

from tasks.ledger.engine import Database
from tasks.ledger.rows import JOB_COLUMNS, job_of
from tasks.ledger.schema import jobs
from tasks.models import OWN_SOURCE, Job, State

ASKED, NOTED = "review:", "review-note:"
"""How the keys begin: of a question, and of a short mail to somebody whose answer did not decide."""


class Questions:
    """Which jobs nobody was asked about yet."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def unasked(self, limit: int) -> list[Job]:
        """Jobs in review as nobody was asked about them, oldest first. One that was judged anew counts as another."""
        own = jobs.alias("own")
        key = sa.literal(ASKED) + jobs.c.id + ":" + sa.cast(jobs.c.lease_token, sa.Text)
        asked = sa.exists().where(own.c.source == OWN_SOURCE, own.c.key == key)
        query = sa.select(*(jobs.c[name] for name in JOB_COLUMNS)).where(jobs.c.state == State.REVIEW.value, ~asked)
        with self._database.read() as connection:
            return [job_of(row) for row in connection.execute(query.order_by(jobs.c.received_at).limit(limit))]

    def asked_since(self, since: int) -> int:
        """How many questions were asked since then (milliseconds)."""
        return self._number(ASKED, jobs.c.received_at >= since)

    def noted(self, about: str) -> int:
        """How many short mails there were with `about` in their key."""
        return self._number(NOTED + about, sa.true())

    def _number(self, prefix: str, where: sa.ColumnElement[bool]) -> int:
        mine = (jobs.c.source == OWN_SOURCE) & jobs.c.key.startswith(prefix, autoescape=True)
        with self._database.read() as connection:
            return int(connection.execute(sa.select(sa.func.count()).where(mine, where)).scalar_one())


def asked_key(job_id: str, seen: int) -> str:
    """The key of the question about a job as its lease token `seen` has it."""
    return f"{ASKED}{job_id}:{seen}"
