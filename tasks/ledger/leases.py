"""Claiming a stage and writing its value: every write carries the lease's fencing token.

A lease has no end on a clock. Its holder counts a beat; the rescue takes it back when the beat stands still by the
rescue's own monotonic clock, or when the holder's process is known to be gone. So a step of the wall clock can
neither steal a lease nor leak one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tasks.clock import now_ms
from tasks.errors import LeaseLost
from tasks.ledger.direct import Direct
from tasks.ledger.engine import Database
from tasks.ledger.rows import JOB_COLUMNS, event_row, job_from
from tasks.ledger.schema import documents, events, job_blobs, jobs, results
from tasks.ledger.search import index
from tasks.ledger.together import Together
from tasks.models import RESTING, Document, Job, Stage, State

_FREE = (
    "id = :id AND stage = :stage AND lease_owner = '' AND (due_at IS NULL OR due_at <= :now) AND state NOT IN ("
    + ", ".join(f"'{state.value}'" for state in sorted(RESTING))
    + ")"
)
"""Where a stage may be claimed."""
_MINE = "id = :id AND lease_token = :token AND lease_owner = :owner"
"""Where a lease holds: the fence before each write."""


@dataclass(frozen=True)
class Lease:
    """The right to run one stage of one job. `token` grows by one with each claim of the job."""

    job_id: str
    stage: Stage
    token: int
    owner: str
    started_at: int


@dataclass(frozen=True)
class Held:
    """A lease as the rescue sees it."""

    job_id: str
    stage: str
    token: int
    owner: str
    beat: int


class Leases:
    """Compare-and-set on the job's row; the row count decides."""

    def __init__(self, database: Database, together: Together) -> None:
        self._database = database
        self._together = together
        self._jobs = Direct(database, jobs)
        self._results = Direct(database, results)
        self._events = Direct(database, events)

    def claim(self, job_id: str, stage: Stage, state: State, owner: str) -> tuple[Job, Lease] | None:
        """Take the lease of `stage`, or None when it is taken, done, resting or not due yet.

        The attempt is counted here, before the work starts, so that a job that kills its worker is counted too.
        """
        now = now_ms()
        values: dict[str, Any] = {
            "state": state.value,
            "lease_owner": owner,
            "lease_beat": 0,
            "due_at": None,
            "progress": {},
            "updated_at": now,
        }
        counted = "attempts = attempts + 1, lease_token = lease_token + 1"
        given = {"id": job_id, "stage": stage.value, "now": now}

        def write(connection: sa.Connection) -> tuple[Any, ...] | None:
            return self._jobs.update(connection, values, _FREE, given, also=counted, returning=JOB_COLUMNS)

        row = self._together.run(write)
        if row is None:
            return None
        job = job_from(row)
        return job, Lease(job_id, stage, job.lease_token, owner, now)

    def beat(self, held: Sequence[tuple[Lease, Mapping[str, str | int]]]) -> list[Lease]:
        """Renew leases, with the progress of each stage. Returns those that are lost."""
        lost = []
        with self._database.write() as connection:
            for lease, progress in sorted(held, key=lambda one: one[0].job_id):  # one order for all: no deadlock
                values: dict[str, Any] = {"lease_beat": jobs.c.lease_beat + 1}
                if progress:
                    values["progress"] = dict(progress)
                if not connection.execute(_fenced(lease).values(values)).rowcount:
                    lost.append(lease)
        return lost

    def finish(
        self,
        lease: Lease,
        *,
        value: dict[str, Any],
        job: dict[str, Any],
        event: str,
        detail: dict[str, Any],
        texts: Sequence[Document] | None = None,
        blobs: Collection[str] | None = None,
        then: State | None = None,
    ) -> tuple[Job, Lease] | None:
        """Write a stage's value and the job's move in one transaction. Raises LeaseLost.

        `texts` and `blobs`, where given, take the place of the job's documents and of what it needs of the blob store.
        With `then`, the state while the next stage runs, the holder goes on: the same transaction claims that stage, and
        counts its first attempt, for the lease that is returned.
        """
        now = now_ms()
        row = {"attempts": 0, "outages": 0, **job}
        if then:
            row |= {"state": then.value, "attempts": 1, "lease_token": lease.token + 1, "lease_owner": lease.owner}
            row |= {"lease_beat": 0, "due_at": None}

        def write(connection: sa.Connection) -> tuple[Any, ...]:
            moved = self._release(connection, lease, now, row, JOB_COLUMNS if then else ())
            self._write_result(connection, lease, value, now)
            if texts is not None:
                _replace_documents(connection, lease.job_id, texts)
            if blobs is not None:
                _replace_blobs(connection, lease.job_id, blobs)
            if texts is not None or "fields" in value:  # what a job can be found by
                index(connection, self._database.is_sqlite, lease.job_id)
            self._events.insert(connection, event_row(lease.job_id, event, lease.stage, detail, now))
            return moved

        moved = self._together.run(write)
        if not then:
            return None
        following = job_from(moved)
        return following, Lease(lease.job_id, Stage(job["stage"]), following.lease_token, lease.owner, now)

    def keep(self, lease: Lease, value: dict[str, Any], blobs: Collection[str]) -> None:
        """Write what a stage has by now as its value, and go on; the next attempt finds it. Raises LeaseLost."""
        now = now_ms()

        def write(connection: sa.Connection) -> None:
            if not connection.execute(_fenced(lease).values(updated_at=now)).rowcount:
                raise _lost(lease)
            self._write_result(connection, lease, value, now)
            _replace_blobs(connection, lease.job_id, blobs)

        self._together.run(write)

    def stop(self, lease: Lease, *, job: dict[str, Any], event: str, detail: dict[str, Any]) -> None:
        """Give the lease back without a value: the job waits, rests or has failed. Raises LeaseLost."""
        now = now_ms()

        def write(connection: sa.Connection) -> None:
            self._release(connection, lease, now, job)
            self._events.insert(connection, event_row(lease.job_id, event, lease.stage, detail, now))

        self._together.run(write)

    def outages(self, lease: Lease) -> int:
        """How often in a row the stage has waited for a dependency."""
        with self._database.read() as connection:
            query = sa.select(jobs.c.outages).where(jobs.c.id == lease.job_id)
            return int(connection.execute(query).scalar_one_or_none() or 0)

    def held(self) -> list[Held]:
        """All leases that are out."""
        columns = (jobs.c.id, jobs.c.stage, jobs.c.lease_token, jobs.c.lease_owner, jobs.c.lease_beat)
        with self._database.read() as connection:
            rows = connection.execute(sa.select(*columns).where(jobs.c.lease_owner != "")).all()
        return [Held(row.id, row.stage, row.lease_token, row.lease_owner, row.lease_beat) for row in rows]

    def take_back(self, held: Held, reason: str) -> bool:
        """Free a lease whose holder is dead; False when it moved meanwhile."""
        now = now_ms()
        with self._database.write() as connection:
            row = connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == held.job_id, jobs.c.lease_token == held.token)
                .where(jobs.c.lease_owner == held.owner, jobs.c.lease_beat == held.beat)
                .values(lease_owner="", lease_token=jobs.c.lease_token + 1)
                .values(progress={}, enqueued_at=None, updated_at=now)
                .returning(jobs.c.stage)
            ).one_or_none()
            if row is None:
                return False
            detail = {"owner": held.owner, "reason": reason}
            stage = Stage(row.stage) if row.stage else None
            connection.execute(sa.insert(events).values(event_row(held.job_id, "lease taken back", stage, detail, now)))
        return True

    def _release(
        self,
        connection: sa.Connection,
        lease: Lease,
        now: int,
        values: Mapping[str, Any],
        returning: Sequence[str] = (),
    ) -> tuple[Any, ...]:
        values = {"lease_owner": "", "progress": {}, "enqueued_at": None, "updated_at": now, **values}
        given = {"id": lease.job_id, "token": lease.token, "owner": lease.owner}
        row = self._jobs.update(connection, values, _MINE, given, returning=returning)
        if row is None:
            raise _lost(lease)
        return row

    def _write_result(self, connection: sa.Connection, lease: Lease, value: dict[str, Any], now: int) -> None:
        row = {"job_id": lease.job_id, "stage": lease.stage.value, "value": value, "token": lease.token}
        row |= {"started_at": lease.started_at, "ended_at": now}
        self._results.insert(connection, row, key=("job_id", "stage"))


def _fenced(lease: Lease) -> sa.Update:
    return sa.update(jobs).where(
        jobs.c.id == lease.job_id, jobs.c.lease_token == lease.token, jobs.c.lease_owner == lease.owner
    )


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"{lease.stage.value} of job {lease.job_id} belongs to somebody else now")


def _replace_documents(connection: sa.Connection, job_id: str, texts: Sequence[Document]) -> None:
    connection.execute(sa.delete(documents).where(documents.c.job_id == job_id))
    if texts:
        connection.execute(sa.insert(documents), [{"job_id": job_id, **document.model_dump()} for document in texts])


def _replace_blobs(connection: sa.Connection, job_id: str, digests: Collection[str]) -> None:
    connection.execute(sa.delete(job_blobs).where(job_blobs.c.job_id == job_id))
    if digests:
        rows = [{"job_id": job_id, "sha256": digest} for digest in sorted(set(digests))]
        connection.execute(sa.insert(job_blobs), rows)
