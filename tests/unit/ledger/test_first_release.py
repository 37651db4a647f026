"""Upgrades from the first released schema, with rows in it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from config.settings import Settings
from tasks.blobs import Blobs
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.ledger.engine import MIGRATIONS, Database
from tests.conftest import envelope

FIRST_JOB = {
    "id": "01jqs8c2m4e6d0v9x7h3k5t1nb", "source": "smtp", "kind": "mail", "key": "k1", "state": "received",
    "stage": "extract", "sender": "a@sender.example", "recipients": "[]", "subject": "", "message_id": "",
    "content_type": "message/rfc822", "name": "", "headers": "{}", "raw_sha256": "0" * 64, "raw_size": 4, "raw": b"mail",
    "reason": "", "approved": 0, "attempts": 0, "outages": 0, "lease_token": 0, "lease_owner": "", "lease_beat": 0,
    "progress": "{}", "received_at": 1_770_000_000_000, "updated_at": 1_770_000_000_000,
}  # fmt: skip


def first_schema(url: str) -> Database:
    """A database as the first release made it, with one job."""
    database = Database(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["database"] = database
    command.upgrade(config, "0001")
    names = ", ".join(FIRST_JOB)
    marks = ", ".join(f":{name}" for name in FIRST_JOB)
    with database.write() as connection:
        connection.execute(sa.text(f"INSERT INTO jobs ({names}) VALUES ({marks})"), FIRST_JOB)
    return database


def test_a_ledger_of_the_first_release_is_brought_to_this_one(settings: Settings) -> None:
    """Its jobs are there, its keys still recognise repeats, and what came later works."""
    database = first_schema(settings.ledger)
    database.migrate()
    database.close()
    ledger = Ledger.open(settings.ledger)
    door = Intake(ledger, Blobs(settings.blobs_dir), settings.inline_limit)
    assert [job.id for job in ledger.jobs.page()] == [FIRST_JOB["id"]]
    assert ledger.jobs.raw(str(FIRST_JOB["id"])) == b"mail"
    assert door.accept(envelope("k1"), b"mail").job_id == FIRST_JOB["id"]
    assert ledger.tokens.all() == []
    door.close()


def test_migrating_twice_changes_nothing(settings: Settings) -> None:
    """Several processes may do it."""
    database = first_schema(settings.ledger)
    database.migrate()
    revision = database.revision()
    database.migrate()
    assert database.revision() == revision
    database.close()
