"""Asking about jobs, and an admin's moves: retry, cancel, approve."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tasks.clock import now_ms
from tasks.errors import Permanent
from tasks.ledger.deliveries import REOPENED
from tasks.ledger.engine import Database
from tasks.ledger.rows import JOB_COLUMNS, Event, document_of, event_row, is_id, job_of
from tasks.ledger.schema import DONE_SENDERS, deliveries, documents, events, jobs, results
from tasks.models import OWN_SOURCE, STATE_BEFORE, TERMINAL, Document, Job, Stage, State

_FIRST = ("accepted", "alert")
"""With one of these the stories of alerts begin, and those that earlier versions wrote."""
_COLUMNS = [jobs.c[name] for name in JOB_COLUMNS]


class SeveralFitError(Permanent):
    """A part of an id, or a Message-ID, that several jobs have."""


@dataclass(frozen=True)
class Open:
    """A job that wants a worker."""

    job_id: str
    stage: Stage


class Jobs:
    """The jobs' rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, job_id: str) -> Job | None:
        """The job with this id."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(*_COLUMNS).where(jobs.c.id == job_id)).one_or_none()
        return job_of(row) if row else None

    def find(self, text: str) -> Job:
        """The job with this id (its start or end is enough) or Message-ID. Raises Permanent when none or several."""
        text = text.strip()
        if is_id(text.lower()) and (job := self.get(text.lower())):
            return job
        lowered = text.lower()
        wanted = (
            jobs.c.message_id.in_([text, f"<{text}>"])
            | jobs.c.id.startswith(lowered, autoescape=True)
            | jobs.c.id.endswith(lowered, autoescape=True)
        )
        with self._database.read() as connection:
            rows = connection.execute(sa.select(*_COLUMNS).where(wanted).limit(3)).all()
        if len(lowered) < 4 or not rows:
            raise Permanent(f"no job {text!r}; `postroom jobs` lists them, four characters of an id are enough")
        if len(rows) > 1:
            raise SeveralFitError(
                f"several jobs fit {text!r}: {', '.join(row.id for row in rows)}; write more of the id"
            )
        return job_of(rows[0])

    def page(
        self,
        *,
        states: Sequence[State] = (),
        source: str = "",
        label: str = "",
        search: str = "",
        reason: str = "",
        since: int = 0,
        before: str = "",
        limit: int = 50,
    ) -> list[Job]:
        """Jobs, newest first. `before` is the id of the last one seen; `search`: in subject, sender, Message-ID;

        `reason`: text in why it rests; `since`: received then or later (milliseconds).
        """
        query = sa.select(*_COLUMNS).order_by(jobs.c.received_at.desc(), jobs.c.id.desc()).limit(limit)
        if states:
            query = query.where(jobs.c.state.in_([state.value for state in states]))
        if source:
            query = query.where(jobs.c.source == source)
        if label:
            query = query.where(jobs.c.label == label)
        if since:
            query = query.where(jobs.c.received_at >= since)
        if reason:
            query = query.where(jobs.c.reason.icontains(reason, autoescape=True))
        if search:
            query = query.where(
                sa.or_(
                    *(
                        column.icontains(search, autoescape=True)
                        for column in (jobs.c.subject, jobs.c.sender, jobs.c.message_id)
                    )
                )
            )
        if before and (last := self.get(before)):
            query = query.where(
                sa.tuple_(jobs.c.received_at, jobs.c.id) < sa.tuple_(sa.literal(last.received_at), sa.literal(last.id))
            )
        with self._database.read() as connection:
            return [job_of(row) for row in connection.execute(query)]

    def known(self, sender: str, before: str) -> bool:
        """Whether an earlier job than `before` came from this address and is done. Looks only into an index."""
        same = sa.func.lower(jobs.c.sender) == sender.lower()
        query = sa.select(jobs.c.id).where(sa.text(DONE_SENDERS), same, jobs.c.id < before).limit(1)
        with self._database.read() as connection:
            return bool(sender) and connection.execute(query).first() is not None

    def counts(self) -> dict[str, int]:
        """Jobs by state."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state)).all()
        return {row.state: row[1] for row in rows}

    def raw(self, job_id: str) -> bytes | None:
        """The raw bytes, when they live in the row."""
        with self._database.read() as connection:
            return connection.execute(sa.select(jobs.c.raw).where(jobs.c.id == job_id)).scalar_one_or_none()

    def approved(self, job_id: str) -> bool:
        """Whether a person has approved the job."""
        with self._database.read() as connection:
            return bool(connection.execute(sa.select(jobs.c.approved).where(jobs.c.id == job_id)).scalar_one_or_none())

    def documents(self, job_id: str) -> list[Document]:
        """The job's documents in order."""
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(documents).where(documents.c.job_id == job_id).order_by(documents.c.ordinal)
            ).all()
        return [document_of(row) for row in rows]

    def result(self, job_id: str, stage: Stage) -> dict[str, Any] | None:
        """The value that `stage` wrote."""
        query = sa.select(results.c.value).where(results.c.job_id == job_id, results.c.stage == stage.value)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def events(self, job_id: str) -> list[Event]:
        """The job's story, oldest first. That it was accepted stands in its own row, and is written nowhere else."""
        columns = (events.c.at, events.c.event, events.c.stage, events.c.detail)
        own = sa.select(jobs.c.source, jobs.c.raw_size, jobs.c.received_at).where(jobs.c.id == job_id)
        with self._database.read() as connection:
            job = connection.execute(own).one_or_none()
            rows = connection.execute(sa.select(*columns).where(events.c.job_id == job_id).order_by(events.c.id)).all()
        found = [Event(at=row.at, event=row.event, stage=row.stage, detail=row.detail) for row in rows]
        if job is None or (found and found[0].event in _FIRST):
            return found
        detail = {"source": job.source, "bytes": job.raw_size}
        return [Event(at=job.received_at, event="accepted", stage="", detail=detail), *found]

    def retry(
        self,
        job_id: str,
        stage: Stage,
        *,
        why: str,
        approve: bool = False,
        reopen: Collection[str] = (),
        was: State | None = None,
    ) -> bool:
        """Put a job back before `stage`, whatever it did before; False when a worker holds it or it is not there.

        In the same commit its deliveries in one of the states `reopen` become pending. With `was`, False also when
        the job has left that state. Raises Permanent for an alert and a stage before deliver: it was written, not read
        and judged.
        """
        now = now_ms()
        with self._database.write() as connection:
            if stage is not Stage.DELIVER and _is_own(connection, job_id):
                raise Permanent(f"{job_id} is an alert, which can only be sent again: --from deliver")
            changed = connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job_id, jobs.c.lease_owner == "", *([jobs.c.state == was.value] if was else []))
                .values(approved=int(approve), **put_back(stage, now))
            ).rowcount
            if changed:
                again = (deliveries.c.job_id == job_id) & deliveries.c.state.in_(reopen)
                connection.execute(sa.update(deliveries).where(again).values(REOPENED))
                event = "approved" if approve else "retry"
                connection.execute(sa.insert(events).values(event_row(job_id, event, stage, {"why": why}, now)))
        return bool(changed)

    def cancel(self, job_id: str, *, why: str) -> bool:
        """Stop a job for good; False when it has ended already. A worker that holds it may not write any more."""
        values = {"stage": None, "state": State.CANCELLED.value, "reason": why}
        now = now_ms()
        ended = [state.value for state in TERMINAL]
        with self._database.write() as connection:
            changed = connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job_id, jobs.c.state.not_in(ended))
                .values(
                    lease_owner="",
                    lease_token=jobs.c.lease_token + 1,
                    due_at=None,
                    progress={},
                    updated_at=now,
                    **values,
                )
            ).rowcount
            if changed:
                connection.execute(sa.insert(events).values(event_row(job_id, "cancelled", None, {"why": why}, now)))
        return bool(changed)


def put_back(stage: Stage, now: int) -> dict[str, Any]:
    """The row of a job that stands before `stage` again, with its attempts counted anew, whatever it did before."""
    return {
        "stage": stage.value,
        "state": STATE_BEFORE[stage].value,
        "reason": "",
        "attempts": 0,
        "outages": 0,
        "lease_token": jobs.c.lease_token + 1,
        "due_at": None,
        "enqueued_at": None,
        "updated_at": now,
    }


def _is_own(connection: sa.Connection, job_id: str) -> bool:
    source = connection.execute(sa.select(jobs.c.source).where(jobs.c.id == job_id)).scalar_one_or_none()
    return source == OWN_SOURCE
