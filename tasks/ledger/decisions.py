"""What people decided about jobs that rest in review: once each, with who and when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from tasks.clock import now_ms
from tasks.ledger.engine import Database
from tasks.ledger.jobs import put_back
from tasks.ledger.rows import event_row
from tasks.ledger.schema import events, jobs, metadata, results
from tasks.ledger.search import index
from tasks.ledger.types import Text
from tasks.models import Classification, Noun, Stage, State

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("job_id", sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("who", Text, nullable=False),
    sa.Column("verdict", sa.Text, nullable=False),  # approved, rejected
    sa.Column("reason", Text, nullable=False),
    sa.Column("label_before", Text, nullable=False),
    sa.Column("label", Text, nullable=False),
    sa.Column("fields_before", sa.JSON, nullable=False),
    sa.Column("fields", sa.JSON, nullable=False),
    sa.Column("reply_text", Text, nullable=False),
    sa.Column("mail", Text, nullable=False, default="", server_default=""),
    sa.Index(None, "job_id"),
)


class Decision(Noun):
    """One decision. Fields are values by name."""

    job_id: str
    at: int
    who: str
    verdict: str
    """`approved` or `rejected`."""
    reason: str = ""
    label_before: str = ""
    label: str = ""
    fields_before: dict[str, str]
    fields: dict[str, str]
    reply_text: str = ""
    """The reply in the reviewer's own words; empty: as the template writes it."""
    mail: str = ""
    """The job of the mail that decided; empty when it was done on the page."""

    @property
    def corrects(self) -> bool:
        """Whether the reviewer changed label or fields."""
        return self.label != self.label_before or self.fields != self.fields_before


class Decisions:
    """The decisions' rows, and the moves that go with them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def approve(self, decision: Decision, judged: Classification, seen: int) -> bool:
        """Let the job go on to its reply with what the reviewer left of it; False when somebody was faster.

        `judged` takes the place of the model's judgement; `seen` is the lease token of the job as the reviewer saw it.
        """
        values = {**put_back(Stage.REPLY, decision.at), "approved": 1, "label": judged.label}
        with self._database.write() as connection:
            if not _moved(connection, decision.job_id, seen, {**values, "confidence": judged.confidence}):
                return False
            _judge(connection, decision, judged, seen)
            _record(connection, decision, "approved")
            index(connection, self._database.is_sqlite, decision.job_id)
        return True

    def reject(self, decision: Decision, seen: int) -> bool:
        """End the job without an answer; False when somebody was faster."""
        values = {
            "stage": None,
            "state": State.CANCELLED.value,
            "reason": decision.reason,
            "lease_token": jobs.c.lease_token + 1,
            "due_at": None,
            "updated_at": decision.at,
        }
        with self._database.write() as connection:
            if not _moved(connection, decision.job_id, seen, values):
                return False
            _record(connection, decision, "rejected")
        return True

    def of(self, job_id: str) -> list[Decision]:
        """What was decided about a job, oldest first."""
        query = sa.select(decisions).where(decisions.c.job_id == job_id).order_by(decisions.c.id)
        with self._database.read() as connection:
            return [_decision(row) for row in connection.execute(query)]

    def reply_text(self, job_id: str) -> str:
        """The reply as the reviewer wrote it; empty when the template writes it, or the job was judged anew since."""
        judged = sa.select(results.c.ended_at).where(
            results.c.job_id == job_id, results.c.stage == Stage.CLASSIFY.value
        )
        query = (
            sa.select(decisions.c.reply_text)
            .join(jobs, jobs.c.id == decisions.c.job_id)
            .where(decisions.c.job_id == job_id, decisions.c.verdict == "approved", jobs.c.approved == 1)
            .where(decisions.c.at >= judged.scalar_subquery())
            .order_by(decisions.c.id.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none() or ""

    def all(self) -> Iterator[Decision]:
        """Every decision, oldest first, some at a time."""
        after = 0
        while True:
            query = sa.select(decisions).where(decisions.c.id > after).order_by(decisions.c.id).limit(500)
            with self._database.read() as connection:
                rows = connection.execute(query).all()
            if not rows:
                return
            yield from map(_decision, rows)
            after = rows[-1].id


def _moved(connection: sa.Connection, job_id: str, seen: int, values: dict[str, Any]) -> bool:
    """Compare and set: only the job that the reviewer saw, while it still rests in review."""
    mine = (jobs.c.id == job_id) & (jobs.c.state == State.REVIEW.value) & (jobs.c.lease_token == seen)
    return bool(connection.execute(sa.update(jobs).where(mine, jobs.c.lease_owner == "").values(values)).rowcount)


def _judge(connection: sa.Connection, decision: Decision, judged: Classification, seen: int) -> None:
    mine = (results.c.job_id == decision.job_id, results.c.stage == Stage.CLASSIFY.value)
    value = judged.model_dump(mode="json")
    if connection.execute(sa.update(results).where(*mine).values(value=value)).rowcount:
        return
    at = {"started_at": decision.at, "ended_at": decision.at}  # the model had no answer at all
    row = {"job_id": decision.job_id, "stage": Stage.CLASSIFY.value, "value": value, "token": seen}
    connection.execute(sa.insert(results).values(**row, **at))


def _record(connection: sa.Connection, decision: Decision, event: str) -> None:
    connection.execute(sa.insert(decisions).values(**decision.model_dump()))
    detail: dict[str, Any] = {"by": decision.who, "why": decision.reason, "corrected": decision.corrects}
    if decision.mail:
        detail |= {"how": "by mail", "mail": decision.mail}
    row = event_row(decision.job_id, event, Stage.REPLY, detail, decision.at)
    connection.execute(sa.insert(events).values(row))


def decided_now(job_id: str, who: str, verdict: str, **more: Any) -> Decision:
    """A decision made at this moment."""
    return Decision(job_id=job_id, at=now_ms(), who=who, verdict=verdict, **more)


def _decision(row: sa.Row[tuple[object, ...]]) -> Decision:
    return Decision(**{name: getattr(row, name) for name in Decision.model_fields})
