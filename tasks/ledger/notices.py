"""Jobs that Postroom makes by itself: they begin at the deliver stage, with what they send written in the same commit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import sqlalchemy as sa

from tasks.ledger.engine import Database
from tasks.ledger.rows import event_row
from tasks.ledger.schema import deliveries, events, jobs
from tasks.models import OWN_SOURCE, STATE_BEFORE, Delivery, Kind, Stage, State


@dataclass(frozen=True)
class Notice:
    """An alert as it will be stored."""

    job_id: str
    key: str
    """What it is about; a second one with the same key is not written."""
    subject: str
    text: str
    deliveries: tuple[Delivery, ...]
    """Empty: nobody is told, and the job is done as it is written."""
    at: int
    """Milliseconds since the epoch."""
    untold: str = "[alerts] names nobody to tell: it was logged"
    """Why nobody is told."""
    about: str = ""
    """A job that it is about; its story tells of it, too."""
    event: str = ""
    """What that story calls it."""


REVIEWS = jobs.c.key.startswith("review")
"""Notices that ask about one job, or answer who decides it: they are no alerts."""


class Notices:
    """The way in for what nobody sent."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def told_since(self, since: int) -> int:
        """How many alerts were sent to somebody, or wait to be, since then (milliseconds)."""
        sent = sa.exists().where(deliveries.c.job_id == jobs.c.id)
        own = sa.select(sa.func.count()).where(jobs.c.source == OWN_SOURCE, jobs.c.received_at >= since, sent, ~REVIEWS)
        with self._database.read() as connection:
            return int(connection.execute(own).scalar_one())

    def add(self, notice: Notice) -> bool:
        """Store `notice` unless its key is known; whether it is new. Any number of hosts may ask at once."""
        planned = [
            {"job_id": notice.job_id, "state": "pending", "attempts": 0, "reason": "", **delivery.model_dump()}
            for delivery in notice.deliveries
        ]
        with self._database.write() as connection:
            # returning, not the row count: that of an insert which was ignored differs between databases
            insert = self._database.insert_ignoring(jobs).values(_row(notice)).returning(jobs.c.id)
            if connection.execute(insert).one_or_none() is None:
                return False
            if planned:
                connection.execute(sa.insert(deliveries), planned)
            detail = {"key": notice.key, "deliveries": len(planned)}
            told = [event_row(notice.job_id, "alert", None, detail, notice.at)]
            if notice.about:
                detail = {"job": notice.job_id, "mails": len(planned)}
                told.append(event_row(notice.about, notice.event, None, detail, notice.at))
            connection.execute(sa.insert(events), told)
        return True


def _row(notice: Notice) -> dict[str, object]:
    raw = notice.text.encode()
    if notice.deliveries:
        stands = {"state": STATE_BEFORE[Stage.DELIVER].value, "stage": Stage.DELIVER.value}
    else:
        stands = {"state": State.DONE.value, "reason": notice.untold}
    return {
        "id": notice.job_id,
        "source": OWN_SOURCE,
        "kind": Kind.EVENT.value,
        "key": notice.key,
        "subject": notice.subject,
        "recipients": [],
        "content_type": "text/plain; charset=utf-8",
        "headers": {},
        "raw_sha256": hashlib.sha256(raw).hexdigest(),
        "raw_size": len(raw),
        "raw": raw,
        "progress": {},
        "received_at": notice.at,
        "updated_at": notice.at,
        **stands,
    }
