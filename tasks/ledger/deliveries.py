"""Deliveries and their attempts: the attempt's row is committed before the call, its outcome after."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from tasks.clock import now_ms
from tasks.errors import LeaseLost
from tasks.ledger.engine import Database
from tasks.ledger.leases import Lease
from tasks.ledger.rows import DeliveryState, attempt_of, delivery_of
from tasks.ledger.schema import attempts, deliveries, jobs
from tasks.ledger.together import Together
from tasks.models import OWN_SOURCE, RESTING, Attempt, Delivery, Outcome, Stage

PATIENCE = 3
"""Failed attempts of an answer after which the later ones of its conversation go first."""
REOPENED = {"state": "pending", "attempts": 0, "due_at": None, "reason": "", "tried_since": None, "failed_at": None}
"""What a delivery becomes that is sent again: its attempts and its age count anew."""


class Deliveries:
    """What a job sends, and how often it was tried."""

    def __init__(self, database: Database, together: Together) -> None:
        self._database = database
        self._together = together

    def plan(self, lease: Lease, planned: Sequence[Delivery]) -> None:
        """Write what the job will send. One that was sent stays as it was sent. Raises LeaseLost."""
        with self._database.write() as connection:
            _fence(connection, lease)
            unsent = (deliveries.c.job_id == lease.job_id) & (deliveries.c.state != "sent")
            connection.execute(sa.delete(deliveries).where(unsent))
            sent = set(
                connection.execute(sa.select(deliveries.c.ordinal).where(deliveries.c.job_id == lease.job_id)).scalars()
            )
            rows = [
                {"job_id": lease.job_id, "state": "pending", "attempts": 0, "reason": "", **delivery.model_dump()}
                for delivery in planned
                if delivery.ordinal not in sent
            ]
            if rows:
                connection.execute(sa.insert(deliveries), rows)

    def of(self, job_id: str) -> list[DeliveryState]:
        """The job's deliveries in order."""
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(deliveries).where(deliveries.c.job_id == job_id).order_by(deliveries.c.ordinal)
            ).all()
        return [delivery_of(row) for row in rows]

    def ordinals(self, job_id: str) -> list[tuple[int, str, str]]:
        """Ordinal, transport and target of each of the job's deliveries, in order."""
        columns = (deliveries.c.ordinal, deliveries.c.transport, deliveries.c.target)
        query = sa.select(*columns).where(deliveries.c.job_id == job_id).order_by(deliveries.c.ordinal)
        with self._database.read() as connection:
            return [tuple(row) for row in connection.execute(query)]

    def answered_first(self, job_id: str) -> str:
        """A mail of the same conversation that came earlier and whose answer is still to come; empty when none is.

        What rests in review or has failed is not waited for, nor an answer that was refused PATIENCE times.
        """
        mine, other = jobs.alias("mine"), jobs.alias("other")
        unsent = sa.exists().where(
            deliveries.c.job_id == other.c.id,
            deliveries.c.transport == "smtp",
            deliveries.c.state == "pending",
            deliveries.c.attempts < PATIENCE,
        )
        query = (
            sa.select(other.c.id)
            .join(mine, (mine.c.thread == other.c.thread) & (other.c.thread != ""))
            .where(
                mine.c.id == job_id,
                sa.tuple_(other.c.received_at, other.c.id) < sa.tuple_(mine.c.received_at, mine.c.id),
            )
            .where(other.c.stage.is_not(None), other.c.state.not_in([state.value for state in RESTING]))
            .where(sa.or_(other.c.stage != Stage.DELIVER.value, unsent))
            .order_by(other.c.received_at)
            .limit(1)
        )
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none() or ""

    def attempts_of(self, job_id: str) -> list[Attempt]:
        """All attempts of the job's deliveries, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.id)
            ).all()
        return [attempt_of(row) for row in rows]

    def responses_of(self, job_id: str) -> dict[int, str]:
        """What the other side answered in full, by attempt; those that were answered with nothing are left out."""
        mine = sa.select(attempts.c.id, attempts.c.response).where(attempts.c.job_id == job_id)
        with self._database.read() as connection:
            return {row.id: row.response for row in connection.execute(mine.where(attempts.c.response != ""))}

    def begin(self, lease: Lease, ordinal: int, number: int) -> int:
        """Commit the row of an attempt that is about to start; its id. Raises LeaseLost.

        An attempt still open from a worker that died is marked in doubt: it may have reached the other side.
        """
        now = now_ms()

        def write(connection: sa.Connection) -> int:
            _fence(connection, lease)
            _doubt(connection, lease, ordinal, now, "the worker died in this attempt; sent again under the same key")
            _move(connection, lease, ordinal, tried_since=sa.func.coalesce(deliveries.c.tried_since, now))
            return int(
                connection.execute(
                    sa.insert(attempts)
                    .values(
                        job_id=lease.job_id,
                        delivery=ordinal,
                        number=number,
                        token=lease.token,
                        started_at=now,
                        outcome="open",
                    )
                    .returning(attempts.c.id)
                ).scalar_one()
            )

        return self._together.run(write)

    def sent(self, lease: Lease, ordinal: int, attempt: int, number: int, outcome: Outcome) -> None:
        """The other side took it. Raises LeaseLost."""
        now = now_ms()

        def write(connection: sa.Connection) -> None:
            _fence(connection, lease)
            _end(connection, attempt, now, "sent", outcome.detail, outcome.code, outcome.response)
            _move(connection, lease, ordinal, state="sent", attempts=number, due_at=None, reason="", sent_at=now)

        self._together.run(write)

    def failed(
        self, lease: Lease, ordinal: int, attempt: int, number: int, *, outcome: str, reason: str, due_at: int | None
    ) -> None:
        """It did not go out: wait until `due_at`, or for good when that is None. Raises LeaseLost."""
        now = now_ms()
        state = "failed" if due_at is None else "pending"

        def write(connection: sa.Connection) -> None:
            _fence(connection, lease)
            _end(connection, attempt, now, outcome, reason, None, "")
            values = {"state": state, "attempts": number, "due_at": due_at, "reason": reason}
            _move(connection, lease, ordinal, failed_at=now if due_at is None else None, **values)

        self._together.run(write)

    def refuse(self, lease: Lease, ordinal: int, reason: str) -> None:
        """It ends without an attempt; one that a dead worker left open is in doubt. Raises LeaseLost."""
        now = now_ms()
        with self._database.write() as connection:
            _fence(connection, lease)
            _doubt(connection, lease, ordinal, now, "the worker died in this attempt; not sent again")
            _move(connection, lease, ordinal, state="failed", due_at=None, reason=reason, failed_at=now)

    def sent_to(self, target: str, since: int) -> list[int]:
        """When mail went to `target` after `since` (milliseconds), for the cap on replies; alerts are none."""
        with self._database.read() as connection:
            found = connection.execute(
                sa.select(deliveries.c.sent_at)
                .join(jobs, (jobs.c.id == deliveries.c.job_id) & (jobs.c.source != OWN_SOURCE))
                .where(deliveries.c.target == target, deliveries.c.sent_at >= since, deliveries.c.transport == "smtp")
                .order_by(deliveries.c.sent_at)
            )
            return [int(at) for at in found.scalars()]


def _fence(connection: sa.Connection, lease: Lease) -> None:
    held = (jobs.c.id == lease.job_id) & (jobs.c.lease_token == lease.token) & (jobs.c.lease_owner == lease.owner)
    query = sa.select(jobs.c.id).where(held).with_for_update()  # PostgreSQL: nobody moves the lease until we commit
    if connection.execute(query).one_or_none() is None:
        raise LeaseLost(f"{lease.stage.value} of job {lease.job_id} belongs to somebody else now")


def _doubt(connection: sa.Connection, lease: Lease, ordinal: int, now: int, detail: str) -> None:
    """Mark an attempt that is still open: whether it arrived is not known."""
    mine = (attempts.c.job_id == lease.job_id) & (attempts.c.delivery == ordinal)
    changed = sa.update(attempts).where(mine, attempts.c.outcome == "open")
    connection.execute(changed.values(outcome="in-doubt", ended_at=now, detail=detail))


def _end(
    connection: sa.Connection, attempt: int, now: int, outcome: str, detail: str, code: int | None, response: str
) -> None:
    connection.execute(
        sa.update(attempts)
        .where(attempts.c.id == attempt)
        .values(ended_at=now, outcome=outcome, detail=detail, code=code, response=response)
    )


def _move(connection: sa.Connection, lease: Lease, ordinal: int, **values: object) -> None:
    connection.execute(
        sa.update(deliveries).where(deliveries.c.job_id == lease.job_id, deliveries.c.ordinal == ordinal).values(values)
    )
