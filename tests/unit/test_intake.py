"""The one door in."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config.settings import Settings
from tasks.app import make_app
from tasks.blobs import Blobs
from tasks.clock import now_ms
from tasks.errors import Permanent, Unavailable
from tasks.intake import Intake, raw_of
from tasks.ledger import Ledger
from tasks.ledger.arrivals import Arrival, Arrivals
from tasks.models import Receipt, Stage, State
from tasks.nudger import Nudger
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


def at(monkeypatch: pytest.MonkeyPatch, milliseconds: int) -> None:
    """Set the wall clock."""
    monkeypatch.setattr("tasks.clock.time.time_ns", lambda: milliseconds * 1_000_000)


def test_a_key_that_was_kept_long_enough_names_another_message(
    intake: Intake, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within `key_days` a key is a repeat; later it is a new message, and the first job still knows the key it had."""
    start, day = now_ms(), 86_400_000
    first = intake.accept(envelope("k", key_days=30), b"one")
    at(monkeypatch, start + 29 * day)
    assert intake.accept(envelope("k", key_days=30), b"two").job_id == first.job_id
    at(monkeypatch, start + 31 * day)
    later = intake.accept(envelope("k", key_days=30), b"two")
    assert (later.duplicate, later.conflict) == (False, False)
    again = intake.accept(envelope("k", key_days=30), b"two")
    assert (again.duplicate, again.job_id) == (True, later.job_id)
    old = ledger.jobs.get(first.job_id)
    assert old
    assert old.key == f"k {first.job_id}"
    assert [event.event for event in ledger.jobs.events(later.job_id)] == ["accepted"]


def test_repeats_of_a_key_that_ran_out_are_one_job(
    intake: Intake, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two senders reuse it in the same moment: one new job, whichever came first."""
    intake.accept(envelope("k", key_days=1), b"one")
    after = now_ms() + 2 * 86_400_000
    at(monkeypatch, after)
    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(lambda _: intake.accept(envelope("k", key_days=1), b"two"), range(8)))
    assert len({receipt.job_id for receipt in receipts}) == 1
    assert [receipt.duplicate for receipt in receipts].count(False) == 1
    assert len(ledger.jobs.page()) == 2


def test_a_key_without_an_end_stays_taken(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mails and files keep their names for as long as their jobs are there."""
    first = intake.accept(envelope("k"), b"one")
    after = now_ms() + 4000 * 86_400_000
    at(monkeypatch, after)
    assert intake.accept(envelope("k"), b"one").job_id == first.job_id


def test_new_and_repeated_messages_in_one_commit_get_their_own_receipts(intake: Intake, ledger: Ledger) -> None:
    """What stands together in a batch is told apart: first ones, repeats and conflicts."""
    before = intake.accept(envelope("old"), b"old")

    async def all_at_once() -> list[Receipt]:
        keys = [("a", b"1"), ("old", b"old"), ("a", b"1"), ("a", b"other"), ("b", b"2"), ("old", b"new")]
        return await asyncio.gather(*(intake.accept_async(envelope(key), raw) for key, raw in keys))

    a, old, a2, a3, b, old2 = asyncio.run(all_at_once())
    assert [(one.duplicate, one.conflict) for one in (a, old, a2, a3, b, old2)] == [
        (False, False),
        (True, False),
        (True, False),
        (True, True),
        (False, False),
        (True, True),
    ]
    assert {old.job_id, old2.job_id} == {before.job_id}
    assert a.job_id == a2.job_id == a3.job_id != b.job_id
    assert len(ledger.jobs.page()) == 3


def test_many_that_wait_share_one_commit(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one commit is under way the others gather, and one fsync is all that they need."""
    commits: list[int] = []
    begun, go_on = threading.Event(), threading.Event()
    commit = Arrivals._commit

    def slow(self: Arrivals, batch: list[Arrival]) -> list[Receipt]:
        commits.append(len(batch))
        begun.set()
        assert go_on.wait(20)
        return commit(self, batch)

    monkeypatch.setattr(Arrivals, "_commit", slow)
    with ThreadPoolExecutor(50) as pool:
        first = pool.submit(intake.accept, envelope("first"), b"1")
        assert begun.wait(20)
        others = [pool.submit(intake.accept, envelope(f"k{number}"), b"2") for number in range(49)]
        while intake._arrivals._waiting.qsize() < 49:
            time.sleep(0.01)
        go_on.set()
        receipts = {first.result(20).job_id, *(other.result(20).job_id for other in others)}
    assert commits == [1, 49]
    assert len(receipts) == 50


def test_what_cannot_be_stored_does_not_take_the_others_along(
    intake: Intake, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message that the ledger chokes on is refused by itself."""
    commit = Arrivals._commit

    def choke(self: Arrivals, batch: list[Arrival]) -> list[Receipt]:
        if any(arrival.envelope.key == "bad" for arrival in batch):
            raise ValueError("cannot be")
        return commit(self, batch)

    monkeypatch.setattr(Arrivals, "_commit", choke)

    async def together() -> list[Receipt | BaseException]:
        keys = ["a", "bad", "b"]
        return await asyncio.gather(*(intake.accept_async(envelope(key), b"x") for key in keys), return_exceptions=True)

    a, bad, b = asyncio.run(together())
    assert isinstance(bad, Unavailable)
    assert isinstance(a, Receipt)
    assert isinstance(b, Receipt)
    assert len(ledger.jobs.page()) == 2


def test_a_broker_that_is_down_stops_no_accept(intake: Intake, ledger: Ledger, settings: Settings) -> None:
    """The job is on disk, and waits there for the rescue."""
    nudger = Nudger(make_app(settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"})), ledger)
    intake.nudge = nudger
    job_ids = [intake.accept(envelope(str(number)), b"x").job_id for number in range(30)]
    assert {job.id for job in ledger.jobs.page()} == set(job_ids)
    nudger.close()


def test_what_a_worker_has_in_hand_is_not_marked_as_published(intake: Intake, ledger: Ledger) -> None:
    """A late mark would hide a job that waits for its retry already."""
    taken, new = (intake.accept(envelope(key), b"x").job_id for key in ("taken", "new"))
    claimed = ledger.leases.claim(taken, Stage.EXTRACT, State.EXTRACTING, "me:1:2")
    assert claimed
    row = {"state": State.WAITING.value, "reason": "later", "due_at": 1}
    ledger.leases.stop(claimed[1], job=row, event="waits", detail={})
    ledger.backlog.mark_enqueued([taken, new])
    found = ledger.backlog.not_enqueued(10, older_than_ms=-1000)
    assert [job.job_id for job in found] == [taken]


def test_an_end_of_the_event_loop_does_not_stop_the_others(intake: Intake) -> None:
    """Whoever asked from a loop that is gone hears nothing; the writer goes on."""

    async def leave() -> None:
        asyncio.ensure_future(intake.accept_async(envelope("left"), b"x"))  # noqa: RUF006  # nobody waits for it
        await asyncio.sleep(0)

    asyncio.run(leave())
    assert not intake.accept(envelope("next"), b"y").duplicate
    assert intake.accept(envelope("left"), b"x").duplicate


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
