"""No question that is asked for every job, or every second, is answered by reading a table from end to end."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from tasks.heart import this_process
from tasks.intake import Intake
from tasks.ledger import Ledger, Look
from tasks.models import Delivery, Document, Outcome, Stage, State
from tests.conftest import envelope

pytestmark = pytest.mark.sqlite_only


def trip(ledger: Ledger, intake: Intake) -> None:
    """What a job's stages ask and write, and what its deliveries do."""
    job_id = intake.accept(envelope("trip", sender="ada@sender.example"), b"body").job_id
    ledger.backlog.mark_enqueued([job_id])
    claimed = ledger.leases.claim(job_id, Stage.EXTRACT, State.EXTRACTING, this_process())
    assert claimed
    text = Document(ordinal=0, name="body", content_type="text/plain", size=1, sha256="0" * 64)
    row = {"stage": "classify", "subject": "Hello", "message_id": "<m@x>"}
    claimed = ledger.leases.finish(
        claimed[1], value={}, job=row, event="e", detail={}, texts=[text], blobs=["0" * 64], then=State.CLASSIFYING
    )
    assert claimed
    lease = claimed[1]
    ledger.leases.beat([(lease, {"phase": "reading"})])
    ledger.leases.outages(lease)
    ledger.leases.keep(lease, {}, [])
    ledger.deliveries.plan(lease, [Delivery(ordinal=0, transport="smtp", target="a@b.example", key="<k>", body=b"x")])
    attempt = ledger.deliveries.begin(lease, 0, 1)
    ledger.deliveries.sent(lease, 0, attempt, 1, Outcome(detail="250"))
    ledger.deliveries.of(job_id)
    ledger.deliveries.answered_first(job_id)
    ledger.deliveries.sent_to("a@b.example", 0)
    ledger.jobs.known("ada@sender.example", job_id)
    ledger.jobs.get(job_id)
    ledger.jobs.raw(job_id)
    ledger.jobs.documents(job_id)
    ledger.jobs.result(job_id, Stage.EXTRACT)
    ledger.leases.stop(lease, job={"state": "waiting"}, event="waits", detail={})


def looks(ledger: Ledger, _intake: Intake) -> None:
    """What a rescue asks at each tick, and what it tells."""
    backlog = ledger.backlog
    ledger.leases.held()
    backlog.not_enqueued(10, older_than_ms=0)
    backlog.lost(10, enqueued_before=1)
    backlog.give_back(backlog.take(["0" * 26], enqueued_before=1))
    backlog.waiting()
    backlog.unpublished()
    backlog.longest_since()
    ledger.questions.unasked(20)
    ledger.questions.asked_since(1)
    numbers = dict.fromkeys(Look.model_fields, 0)
    ledger.rescues.tell(Look(**{**numbers, "owner": "me"}))


@pytest.mark.parametrize("asked", [trip, looks])
def test_no_hot_question_reads_a_table(ledger: Ledger, intake: Intake, asked: Callable[[Ledger, Intake], None]) -> None:
    """By SQLite's own plan for each statement, as it was run: its cost does not grow with the archive."""
    statements: dict[str, object] = {}

    def note(_connection: object, _cursor: object, statement: str, values: object, *_: object) -> None:
        statements.setdefault(statement, values)

    sa.event.listen(ledger.database.engine, "before_cursor_execute", note)
    asked(ledger, intake)
    sa.event.remove(ledger.database.engine, "before_cursor_execute", note)
    found = []
    with ledger.database.read() as connection:
        for statement, values in statements.items():
            if not statement.startswith(("BEGIN", "PRAGMA")):
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
                found += [f"{row.detail}: {statement}" for row in plan if _reads_all(row.detail)]
    assert len(statements) > 5
    assert not found


def _reads_all(step: str) -> bool:
    """Whether a step of a plan reads a whole table, or an index that grows with it. Rescues are few; FTS5's `0:=` is a rowid."""
    indexed = re.match(r"SCAN \w+ (USING (COVERING )?INDEX ix_jobs_(open|leased)|VIRTUAL TABLE INDEX 0:=$)", step)
    return step.startswith("SCAN") and not indexed and not step.startswith(("SCAN rescues", "SCAN CONSTANT ROW"))
