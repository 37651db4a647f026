"""A ledger with rows in it is brought to the newest schema, and keeps what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from tasks.errors import Permanent
from tasks.ledger import Ledger, Wanted
from tasks.ledger.engine import HEAD, MIGRATIONS, Database

JOB = {
    "source": "smtp",
    "kind": "mail",
    "key": "k",
    "state": "failed",
    "stage": "deliver",
    "sender": "a@sender.example",
    "recipients": "[]",
    "subject": "Bill",
    "message_id": "",
    "content_type": "message/rfc822",
    "name": "",
    "headers": "{}",
    "raw_sha256": "0" * 64,
    "raw_size": 3,
    "raw": b"raw",
    "reason": "HTTP 404",
    "approved": 0,
    "attempts": 1,
    "outages": 0,
    "lease_token": 4,
    "lease_owner": "",
    "lease_beat": 0,
    "progress": "{}",
    "received_at": 1000,
    "updated_at": 9000,
}
DELIVERY = {"transport": "webhook", "key": "x", "content_type": "application/json", "headers": "{}", "body": b"{}"}


def insert(connection: sa.Connection, table: str, **values: object) -> None:
    names = ", ".join(values)
    connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES (:{', :'.join(values)})"), values)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A ledger at 0002 with a job that sent one delivery, failed at two (one without an attempt) and waits for one."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    database = Database(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["database"] = database
    command.upgrade(config, "0002")
    with database.write() as connection:
        insert(connection, "jobs", id="1" * 26, **JOB)
        states = (("sent", 5000), ("failed", None), ("failed", None), ("pending", None))
        for ordinal, (state, sent_at) in enumerate(states):
            values = {**DELIVERY, "state": state, "sent_at": sent_at, "attempts": 1, "reason": ""}
            insert(connection, "deliveries", job_id="1" * 26, ordinal=ordinal, target="books", **values)
        for number, ended in ((1, 6000), (2, 7000)):
            values = {"number": number, "token": 3, "started_at": ended - 10, "ended_at": ended}
            texts = {"outcome": "permanent", "detail": "HTTP 404", "response": ""}
            insert(connection, "attempts", job_id="1" * 26, delivery=1, **values, **texts)
    database.close()
    return url


def test_a_ledger_of_the_last_schema_is_refused_until_it_is_migrated(url: str) -> None:
    """Its rows are what they were; what failed has the time of its last attempt, else of its job's last change."""
    with pytest.raises(Permanent, match="postroom migrate"):
        Ledger.open(url)
    old = Ledger(url)
    old.database.migrate()
    assert old.database.revision() == HEAD
    ledger = Ledger.open(url)
    states = ledger.deliveries.of("1" * 26)
    assert [(one.state, one.failed_at, one.sent_at, one.tried_since) for one in states] == [
        ("sent", None, 5000, None),
        ("failed", 7000, None, None),
        ("failed", 9000, None, None),
        ("pending", None, None, None),
    ]
    assert ledger.jobs.raw("1" * 26) == b"raw"
    assert ledger.endpoints.all() == []
    assert ledger.endpoints.unsent() == {"books": {"failed": 2, "pending": 1}}
    [found] = ledger.redeliveries.find(Wanted("webhook", "books", ("failed",), since=7000, until=7000))
    assert (found.ordinals, found.obstacle) == ((1,), "")
    old.close()
    ledger.close()


def test_it_can_be_taken_back(url: str) -> None:
    """Down and up again: the rows are still there."""
    ledger = Ledger(url)
    ledger.database.migrate()
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["database"] = ledger.database
    command.downgrade(config, "0002")
    assert ledger.database.revision() == "0002"
    ledger.database.migrate()
    assert len(ledger.deliveries.of("1" * 26)) == 4
    ledger.close()
