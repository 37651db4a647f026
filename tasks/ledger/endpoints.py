"""How each webhook endpoint does: since when it fails, and whether it is disabled. Shared by all workers, few writes."""

from __future__ import annotations

import sqlalchemy as sa

from tasks.ledger.engine import Database
from tasks.ledger.schema import UNSENT, deliveries, endpoints, jobs
from tasks.models import Noun, Stage, State

EVERY_MS = 60_000
"""What repeats is written down this often."""
SILENCE_MS = 86_400_000
"""Without an attempt for so long nobody knows how it did, and its failing begins anew. Retries are closer together."""
REASON = 500


class Endpoint(Noun):
    """One endpoint as the ledger knows it. Times are milliseconds since the epoch."""

    name: str
    failing_since: int | None = None
    """The first failure after the last success; None while it does well."""
    last_failure: str = ""
    last_failure_at: int | None = None
    last_success_at: int | None = None
    disabled_at: int | None = None
    disabled_because: str = ""


class Endpoints:
    """The endpoints' rows; one that was never used has none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> Endpoint | None:
        """The endpoint of this name."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(endpoints).where(endpoints.c.name == name)).one_or_none()
        return _endpoint(row) if row else None

    def all(self) -> list[Endpoint]:
        """Every endpoint that was used or disabled, by name."""
        with self._database.read() as connection:
            return [_endpoint(row) for row in connection.execute(sa.select(endpoints).order_by(endpoints.c.name))]

    def unsent(self) -> dict[str, dict[str, int]]:
        """Number of `pending` and `failed` deliveries by endpoint."""
        query = (
            sa.select(deliveries.c.target, deliveries.c.state, sa.func.count())
            .where(UNSENT, deliveries.c.transport == "webhook")
            .group_by(deliveries.c.target, deliveries.c.state)
        )
        found: dict[str, dict[str, int]] = {}
        with self._database.read() as connection:
            for target, state, number in connection.execute(query):
                found.setdefault(target, {})[state] = number
        return found

    def succeeded(self, name: str, at: int) -> None:
        """It took something: whatever failing there was has ended."""
        found = self.get(name)
        if found and found.failing_since is None and _recent(found.last_success_at, at):
            return
        with self._database.write() as connection:
            self._change(connection, name, last_success_at=at, failing_since=None)

    def failed(self, name: str, reason: str, at: int) -> Endpoint:
        """It did not take something; the endpoint as it stands now, with the start of its failing."""
        found = self.get(name)
        if found and found.failing_since is not None and _recent(found.last_failure_at, at):
            return found
        is_new = sa.or_(endpoints.c.failing_since.is_(None), endpoints.c.last_failure_at < at - SILENCE_MS)
        since = sa.case((is_new, at), else_=endpoints.c.failing_since)
        with self._database.write() as connection:
            self._change(connection, name, failing_since=since, last_failure=reason[:REASON], last_failure_at=at)
            return _endpoint(connection.execute(sa.select(endpoints).where(endpoints.c.name == name)).one())

    def disable(self, name: str, because: str, at: int) -> bool:
        """Let nothing go there any more; False when it was disabled already.

        Jobs that wait with something for it are due now, so that their deliveries to it end at once.
        """
        with self._database.write() as connection:
            values = {"disabled_at": at, "disabled_because": because}
            if not self._change(connection, name, endpoints.c.disabled_at.is_(None), **values):
                return False
            waits = sa.select(deliveries.c.job_id).where(
                UNSENT,
                deliveries.c.target == name,
                deliveries.c.state == "pending",
                deliveries.c.transport == "webhook",
            )
            connection.execute(
                sa.update(jobs)
                .where(jobs.c.id.in_(waits), jobs.c.state == State.WAITING.value, jobs.c.stage == Stage.DELIVER.value)
                .values(due_at=None)
            )
        return True

    def enable(self, name: str) -> Endpoint | None:
        """Let it go on with a clean slate; how it stood before, None when it was not disabled."""
        with self._database.write() as connection:
            query = sa.select(endpoints).where(endpoints.c.name == name, endpoints.c.disabled_at.is_not(None))
            row = connection.execute(query.with_for_update()).one_or_none()
            if row is None:
                return None
            self._change(connection, name, disabled_at=None, disabled_because="", failing_since=None)
        return _endpoint(row)

    def _change(self, connection: sa.Connection, name: str, *where: sa.ColumnElement[bool], **values: object) -> int:
        new = {"name": name, "last_failure": "", "disabled_because": ""}
        connection.execute(self._database.insert_ignoring(endpoints).values(new))
        changed = sa.update(endpoints).where(endpoints.c.name == name, *where).values(**values)
        return connection.execute(changed).rowcount


def _recent(before: int | None, at: int) -> bool:
    return before is not None and abs(at - before) < EVERY_MS  # a clock that was set back is no reason to wait


def _endpoint(row: sa.Row[tuple[object, ...]]) -> Endpoint:
    return Endpoint(**row._mapping)
