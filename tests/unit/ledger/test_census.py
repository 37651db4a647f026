"""Counting where jobs stand: right, and by looking only into indexes."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.ledger.census import MOST_BACKLOG, queries
from tasks.ledger.schema import jobs
from tasks.ledger.traces import ids_named
from tasks.models import State
from tests.conftest import envelope


def test_the_census_counts_what_is_there(intake: Intake, ledger: Ledger) -> None:
    """By state; the oldest by its arrival; and as backlog what is due and was not published for a while."""
    ids = [intake.accept(envelope(f"k{number}"), b"raw").job_id for number in range(5)]
    with ledger.database.write() as connection:
        for job_id, state, received_at in zip(
            ids, ("failed", "failed", "waiting", "waiting", "received"), (5, 6, 70, 60, 80), strict=True
        ):
            row = {"state": state, "received_at": received_at, "updated_at": received_at}
            connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(row))
        connection.execute(sa.update(jobs).where(jobs.c.id == ids[2]).values(due_at=2**45))  # in the far future
    census = ledger.census
    assert {state: census.number(state) for state in State if census.number(state)} == {
        State.FAILED: 2,
        State.WAITING: 2,
        State.RECEIVED: 1,
    }
    assert [census.oldest(state) for state in (State.WAITING, State.RECEIVED, State.REVIEW)] == [60, 80, None]
    assert census.backlog() == 2
    assert census.unsent() == {"pending": 0, "failed": 0}
    assert census.size() > 0


@pytest.mark.sqlite_only
@pytest.mark.parametrize("name", [*sorted(queries()), "named"])
def test_no_question_walks_a_table(ledger: Ledger, name: str) -> None:
    """SQLite says how it goes about each: a search of an index, or a walk over one that holds open jobs only."""
    asked = {**queries(), "named": ids_named("m@x.example")}
    compiled = asked[name].compile(ledger.database.engine, compile_kwargs={"literal_binds": True})
    with ledger.database.read() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")]
    looked = [line for line in plan if line.startswith(("SCAN", "SEARCH")) and "anon" not in line]
    assert looked
    partial = ("ix_jobs_open", "ix_deliveries_unsent")
    for line in looked:
        assert line.startswith("SEARCH") or any(index in line for index in partial), plan
    if name in {"number", "oldest", "unsent"}:
        assert all("COVERING INDEX" in line for line in looked), plan
    elif name == "backlog":
        assert f"LIMIT {MOST_BACKLOG}" in str(compiled)
