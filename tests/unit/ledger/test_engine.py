"""Connections: what is given to PostgreSQL's library and programs, and which errors mean that waiting helps."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest
import sqlalchemy as sa

from tasks.errors import Unavailable
from tasks.ledger import Ledger
from tasks.ledger.engine import Database, _ledger_errors, retried

URL = "postgresql+psycopg://me:s3cret@db.example:5433/post?sslmode=require&connect_timeout=3"


def test_a_password_stays_out_of_command_lines() -> None:
    """pg_dump gets it by its environment; all else of the URL by the connection string."""
    target, password = Database(URL).conninfo()
    assert password == "s3cret"
    assert "s3cret" not in target
    parts = dict(part.split("=", 1) for part in target.split())
    assert parts["host"] == "db.example"
    assert (parts["port"], parts["dbname"], parts["user"], parts["sslmode"]) == ("5433", "post", "me", "require")


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (psycopg.errors.AdminShutdown, True),
        (psycopg.errors.CannotConnectNow, True),
        (psycopg.errors.TooManyConnections, True),
        (psycopg.errors.DiskFull, True),
        (psycopg.errors.LockNotAvailable, True),
        (psycopg.errors.DeadlockDetected, True),
        (psycopg.errors.ReadOnlySqlTransaction, True),
        (psycopg.errors.ProgramLimitExceeded, False),
        (psycopg.errors.UndefinedTable, False),
        (psycopg.errors.NotNullViolation, False),
    ],
)
def test_an_outage_is_told_from_a_bug(error: type[psycopg.Error], waits: bool) -> None:
    """What passes by itself is Unavailable; what never will is not waited for."""
    raised = sa.exc.DBAPIError.instance("SELECT 1", {}, error("told"), psycopg.Error)
    with pytest.raises(Unavailable if waits else sa.exc.DBAPIError), _ledger_errors():
        raise raised


def test_only_crossed_transactions_are_run_again() -> None:
    """An outage is told at once; a deadlock that does not end is told after a few tries."""
    tries: list[int] = []

    def fail(error: type[psycopg.Error]) -> None:
        tries.append(1)
        with _ledger_errors():
            raise sa.exc.DBAPIError.instance("SELECT 1", {}, error("told"), psycopg.Error)

    with pytest.raises(Unavailable):
        retried(lambda: fail(psycopg.errors.AdminShutdown))
    assert len(tries) == 1
    with pytest.raises(Unavailable):
        retried(lambda: fail(psycopg.errors.DeadlockDetected))
    assert len(tries) == 5


@pytest.mark.sqlite_only
def test_a_write_finds_its_turn_beside_one_that_writes_all_the_time(ledger: Ledger) -> None:
    """SQLite's own waiters look so rarely that they would wait for seconds each time."""
    other = Database(str(ledger.database.url))
    stop, holding = threading.Event(), threading.Event()

    def hog() -> None:
        while not stop.is_set():
            with other.write():
                holding.set()
                time.sleep(0.04)
                holding.clear()
            time.sleep(0.0015)

    thread = threading.Thread(target=hog)
    thread.start()
    try:
        waits = []
        for _ in range(15):
            assert holding.wait(10)
            begun = time.monotonic()
            with ledger.database.write():
                waits.append(time.monotonic() - begun)
    finally:
        stop.set()
        thread.join()
        other.close()
    assert sum(waits) < 5


@pytest.mark.sqlite_only
def test_a_ledger_that_stays_locked_is_told(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time for waiting, as an outage; and the next write finds the connection as it was."""
    monkeypatch.setattr("tasks.ledger.engine.BUSY_MS", 300)
    other = Database(str(ledger.database.url))
    with other.write(), pytest.raises(Unavailable, match="locked"), ledger.database.write():
        pass
    with ledger.database.write() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 300
    other.close()
