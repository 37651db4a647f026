"""A disk that is full or read-only and a ledger that is locked: nobody is told a false word, and all goes on by itself."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from config.settings import Settings
from daemon.checks import Finding, _ledger, _look
from tasks import pipeline
from tasks.blobs import Blobs
from tasks.errors import Unavailable
from tasks.intake import Intake, raw_of
from tasks.ledger import Ledger, engine
from tasks.models import Delivery, State
from tasks.stores import open_store
from tasks.workshop import Workshop
from tests.conftest import envelope
from tests.unit.test_pipeline import MAIL, ROUTE, StandIn, job_of, trip

LARGE = MAIL + b"x" * 200_000
Trouble = Callable[[Settings, Intake], AbstractContextManager[None]]


@pytest.fixture
def settings(settings: Settings) -> Iterator[Settings]:
    """A state folder that is a file system of its own, of 8 MB."""
    settings.state_dir.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(settings.state_dir)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("nobody but root may mount a file system; tests/faults/test_webhook_doors.py has another way")
    yield settings
    subprocess.run(["umount", "--lazy", str(settings.state_dir)], check=True)


def let_go(door: Intake) -> None:
    """Close every file: a disk with one that is open for writing cannot be made read-only."""
    door._arrivals._own.close()
    door.ledger.database.close()


@contextlib.contextmanager
def full(settings: Settings, _door: Intake) -> Iterator[None]:
    """Not one byte is left."""
    ballast = settings.state_dir / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    yield
    ballast.unlink()


@contextlib.contextmanager
def read_only(settings: Settings, door: Intake) -> Iterator[None]:
    """As after an error of the disk."""
    let_go(door)
    remount = ["mount", "-o", "remount,{}", str(settings.state_dir)]
    subprocess.run([part.format("ro") for part in remount], check=True)
    yield
    let_go(door)
    subprocess.run([part.format("rw") for part in remount], check=True)


@contextlib.contextmanager
def locked(settings: Settings, door: Intake) -> Iterator[None]:
    """Somebody holds SQLite's write lock for longer than anybody waits."""
    let_go(door)
    other = sqlite3.connect(settings.state_dir / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


TROUBLES = [
    (full, "disk is full", "No space left"),
    (read_only, "readonly database|unable to open", "Read-only"),
    (locked, "database is locked", ""),
]


def checked(settings: Settings) -> tuple[Finding, Finding]:
    """What `postroom check` says of ledger and blobs."""
    return (
        _look("ledger", lambda: _ledger(settings), "make room"),
        _look("blobs", lambda: open_store(settings).check(), "make room"),
    )


def work(shop: Workshop, job_id: str) -> None:
    """A stage, and enough after it for a log that was made large before to be full."""
    for _ in range(500):
        pipeline.run(shop, job_id, pipeline.STAGES[1])
        shop.ledger.database.check_writable()


@pytest.mark.sqlite_only
@pytest.mark.parametrize(("trouble", "of_ledger", "of_blobs"), TROUBLES, ids=["full", "read-only", "locked"])
def test_nothing_is_promised_and_all_goes_on(
    settings: Settings,
    ledger: Ledger,
    sent: list[Delivery],
    monkeypatch: pytest.MonkeyPatch,
    trouble: Trouble,
    of_ledger: str,
    of_blobs: str,
) -> None:
    """No receipt, no stage that is half done, `postroom check` says what it is; afterwards nobody has to do anything."""
    monkeypatch.setattr(engine, "BUSY_MS", 200)
    door = Intake(ledger, Blobs(settings.blobs_dir), settings.inline_limit)
    shop = Workshop(settings, [ROUTE], ledger, StandIn())  # type: ignore[arg-type]
    receipts = {
        key: door.accept(envelope(key, sender=f"{key}@x.example", recipients=("in@post.example",)), raw).job_id
        for key, raw in (("small", MAIL), ("large", LARGE.replace(b"<m1@", b"<m2@")))
    }
    assert [one.state for one in checked(settings)] == ["ok", "ok"]
    refused = 0
    with trouble(settings, door):
        for number in range(40):
            for key, raw in ((f"s{number}", b"x" * 2_000), (f"l{number}", LARGE + key_of(number))):
                try:
                    receipts[key] = door.accept(envelope(key), raw).job_id
                except Unavailable:
                    refused += 1
            if refused > 4:
                break
        with pytest.raises(Unavailable, match=of_ledger):
            work(shop, receipts["small"])
        ledger_says, blobs_say = checked(settings)
        assert ledger_says.state == "failed"
        assert (blobs_say.state, of_blobs in blobs_say.detail) == ("failed" if of_blobs else "ok", True)
    assert refused > 4
    assert [one.state for one in checked(settings)] == ["ok", "ok"]
    shop.reporter.look()
    for key in ("small", "large"):
        assert trip(shop, receipts[key]).state is State.DONE
        assert job_of(shop, receipts[key]).attempts == 0
    assert len(sent) == 2
    assert not door.accept(envelope("later"), LARGE + b"!").duplicate
    for job_id in receipts.values():  # each receipt that was given is good
        job = job_of(shop, job_id)
        raw_of(ledger, shop.blobs, job.id, job.raw_sha256)
    assert ledger.jobs.counts().get("failed") is None
    shop.heart.stop()
    door._arrivals.close()


def key_of(number: int) -> bytes:
    return b"%d" % number
