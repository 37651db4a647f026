"""Asking about jobs and moving them."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from tasks.errors import Permanent
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.ledger.engine import HEAD, MIGRATIONS
from tasks.ledger.schema import metadata
from tasks.models import Stage, State
from tests.conftest import envelope


def test_the_newest_revision_is_the_one_that_the_code_names() -> None:
    """A migration added without it would never be run."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_the_migrations_make_the_schema_that_the_code_has(ledger: Ledger) -> None:
    """A table changed without a migration is found here."""
    ours = {"include_name": lambda name, kind, _parents: not (kind == "table" and name.startswith("search_words"))}
    with ledger.database.write() as connection:  # search_words is virtual on SQLite, with tables of its own behind it
        assert compare_metadata(MigrationContext.configure(connection, opts=ours), metadata) == []


def test_a_ledger_of_another_version_is_refused(ledger: Ledger) -> None:
    """A process never works on a schema it does not know; it says what to run."""
    with ledger.database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    with pytest.raises(Permanent, match="postroom migrate"):
        ledger.database.check_schema()


def test_a_job_is_found_by_parts_of_its_id(intake: Intake, ledger: Ledger) -> None:
    """Start or end of an id are enough while they fit one job; too little and too much are told."""
    job_id = intake.accept(envelope("a"), b"1").job_id
    other = intake.accept(envelope("b"), b"2").job_id
    assert ledger.jobs.find(job_id).id == job_id
    assert ledger.jobs.find(job_id[-6:].upper()).id == job_id
    with pytest.raises(Permanent, match="several"):
        ledger.jobs.find(job_id[:5])
    with pytest.raises(Permanent, match="no job"):
        ledger.jobs.find("%%%%")
    assert other != job_id


def test_pages_are_newest_first_and_do_not_overlap(intake: Intake, ledger: Ledger) -> None:
    """Paging by the last id seen walks over every job once."""
    ids = {intake.accept(envelope(str(number)), b"x").job_id for number in range(7)}
    seen: list[str] = []
    while page := ledger.jobs.page(limit=3, before=seen[-1] if seen else ""):
        seen += [job.id for job in page]
    assert len(seen) == 7
    assert set(seen) == ids


def test_search_takes_wildcards_as_they_are(intake: Intake, ledger: Ledger) -> None:
    """A per cent sign in a search is a per cent sign."""
    intake.accept(envelope("a", sender="100%@x.example"), b"1")
    intake.accept(envelope("b", sender="other@x.example"), b"2")
    assert len(ledger.jobs.page(search="100%")) == 1
    assert len(ledger.jobs.page(search="%")) == 1


def test_retry_puts_a_failed_job_back(intake: Intake, ledger: Ledger) -> None:
    """A dead letter runs again from the stage that was asked for, with its attempts counted anew."""
    job_id = intake.accept(envelope(), b"1").job_id
    claimed = ledger.leases.claim(job_id, Stage.EXTRACT, State.EXTRACTING, "w")
    assert claimed
    ledger.leases.stop(claimed[1], job={"state": "failed", "reason": "because"}, event="failed", detail={})
    assert ledger.backlog.not_enqueued(9, older_than_ms=0) == []
    assert ledger.jobs.retry(job_id, Stage.EXTRACT, why="test")
    job = ledger.jobs.get(job_id)
    assert job is not None
    assert (job.state, job.attempts, job.reason) == (State.EXTRACTING, 0, "")
    assert [one.job_id for one in ledger.backlog.not_enqueued(9, older_than_ms=0)] == [job_id]


def test_a_job_that_a_worker_holds_cannot_be_retried(intake: Intake, ledger: Ledger) -> None:
    """Two runs of one stage at once are never made."""
    job_id = intake.accept(envelope(), b"1").job_id
    ledger.leases.claim(job_id, Stage.EXTRACT, State.EXTRACTING, "w")
    assert not ledger.jobs.retry(job_id, Stage.EXTRACT, why="test")
