"""The one door in."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config.settings import Settings
from tasks.blobs import Blobs
from tasks.errors import Permanent, Unavailable
from tasks.intake import Intake, raw_of
from tasks.ledger import Ledger
from tasks.models import Stage, State
from tests.conftest import envelope


def test_an_accepted_message_is_in_the_ledger_with_its_bytes(
    intake: Intake, ledger: Ledger, settings: Settings
) -> None:
    """The receipt names a job that is on disk, open, and has the bytes that came in."""
    receipt = intake.accept(envelope(), b"raw bytes")
    job = ledger.jobs.get(receipt.job_id)
    assert job is not None
    assert (job.state, job.stage, job.raw_size) == (State.RECEIVED, Stage.EXTRACT, 9)
    assert raw_of(ledger, Blobs(settings.blobs_dir), job.id, job.raw_sha256) == b"raw bytes"


def test_a_large_message_lives_in_the_blob_store(intake: Intake, ledger: Ledger, settings: Settings) -> None:
    """Above the inline limit the row holds no bytes, and they come back whole."""
    raw = b"x" * (settings.inline_limit + 1)
    job = ledger.jobs.get(intake.accept(envelope(), raw).job_id)
    assert job is not None
    assert ledger.jobs.raw(job.id) is None
    assert raw_of(ledger, Blobs(settings.blobs_dir), job.id, job.raw_sha256) == raw


def test_the_same_key_is_one_job(intake: Intake, ledger: Ledger) -> None:
    """A message seen before answers with the first one's receipt, and says when its bytes differ."""
    first = intake.accept(envelope(), b"one")
    again = intake.accept(envelope(), b"one")
    other = intake.accept(envelope(), b"two")
    assert (again.job_id, again.duplicate, again.conflict) == (first.job_id, True, False)
    assert (other.job_id, other.duplicate, other.conflict) == (first.job_id, True, True)
    assert again.received_at == first.received_at
    assert len(ledger.jobs.page()) == 1


def test_the_same_key_of_another_source_is_another_job(intake: Intake, ledger: Ledger) -> None:
    """Keys are unique within their source only."""
    intake.accept(envelope(source="smtp"), b"one")
    intake.accept(envelope(source="lmtp"), b"one")
    assert len(ledger.jobs.page()) == 2


def test_a_hundred_callers_with_one_key_make_one_job(intake: Intake, ledger: Ledger) -> None:
    """Concurrent deliveries of one id are one job, and exactly one of them is not a duplicate."""
    start = threading.Barrier(20)

    def deliver(_: int) -> bool:
        start.wait(10)
        return intake.accept(envelope("same"), b"body").duplicate

    with ThreadPoolExecutor(20) as pool:
        duplicates = list(pool.map(deliver, range(100)))
    assert duplicates.count(False) == 1
    assert len(ledger.jobs.page()) == 1


def test_a_ledger_that_is_locked_gives_no_receipt(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the commit cannot be made, the caller is told to try again, and nothing is half there."""
    monkeypatch.setattr("tasks.ledger.engine.BUSY_MS", 200)
    ledger = Ledger.open(settings.ledger)
    door = Intake(ledger, Blobs(settings.blobs_dir), settings.inline_limit)
    lock = sqlite3.connect(settings.state_dir / "ledger.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        door.accept(envelope(), b"body")
    lock.execute("ROLLBACK")
    assert not door.accept(envelope(), b"body").duplicate
    door.close()


def test_a_damaged_blob_is_told(tmp_path: Path) -> None:
    """Bytes that do not have the digest in their name are never handed out."""
    blobs = Blobs(tmp_path)
    digest = blobs.put(b"good")
    blobs.path(digest).write_bytes(b"evil")
    with pytest.raises(Permanent, match="damaged"):
        blobs.get(digest)


def test_a_missing_blob_is_told(tmp_path: Path) -> None:
    """A blob that is gone is named with its path."""
    with pytest.raises(Permanent, match="missing"):
        Blobs(tmp_path).get("ab" * 32)


def test_a_blob_store_that_cannot_write_gives_no_receipt(tmp_path: Path) -> None:
    """A folder that is a file refuses, as a full disk would, and the sender is told to try again."""
    (tmp_path / "blobs").write_text("not a folder")
    with pytest.raises(Unavailable, match="cannot store"):
        Blobs(tmp_path / "blobs").put(b"bytes")
