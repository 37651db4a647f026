"""The blob store: durable, checked when read, and plain about what is wrong."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from config.settings import Settings
from tasks.blobs import Blobs
from tasks.errors import Permanent, Unavailable
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.models import Stage, State
from tasks.pipeline import from_stage, run
from tasks.workshop import Workshop
from tests.commands import postroom
from tests.conftest import envelope

EXTRACT = from_stage(Stage.EXTRACT)[0]

BYTES = b"Subject: hello\r\n\r\n" + b"x" * 100_000


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)


def make_unreadable(path: Path) -> None:
    """A link to itself: no user may read it, not even root."""
    path.unlink()
    path.symlink_to(path)


HARM = [
    (truncate, "is damaged"),
    (flip_a_bit, "is damaged"),
    (Path.unlink, "is missing"),
    (make_unreadable, "cannot be read"),
]


@pytest.mark.parametrize(("harm", "told"), HARM, ids=["truncated", "flipped", "missing", "unreadable"])
def test_a_blob_that_is_not_whole_is_told(tmp_path: Path, harm: Callable[[Path], None], told: str) -> None:
    """Never wrong bytes: an error that names the file and what is wrong with it."""
    blobs = Blobs(tmp_path)
    digest = blobs.put(BYTES)
    harm(blobs.path(digest))
    with pytest.raises(Permanent, match=told) as caught:
        blobs.get(digest)
    assert str(blobs.path(digest)) in caught.value.reason


@pytest.mark.parametrize(("harm", "told"), HARM, ids=["truncated", "flipped", "missing", "unreadable"])
def test_the_same_message_again_mends_it(tmp_path: Path, harm: Callable[[Path], None], told: str) -> None:
    """What is stored is what was given, whatever stood there before."""
    blobs = Blobs(tmp_path)
    harm(blobs.path(blobs.put(BYTES)))
    assert blobs.get(blobs.put(BYTES)) == BYTES


@pytest.mark.sqlite_only
@pytest.mark.parametrize(("harm", "told"), HARM, ids=["truncated", "flipped", "missing", "unreadable"])
def test_its_job_is_a_dead_letter_that_says_why(
    settings: Settings, intake: Intake, ledger: Ledger, harm: Callable[[Path], None], told: str
) -> None:
    """The job fails with the blob's name in its reason, `postroom show` tells it, and mended it can run again."""
    job_id = intake.accept(envelope(), BYTES).job_id
    digest = ledger.jobs.find(job_id).raw_sha256
    shop = Workshop(settings, [], ledger, None)  # type: ignore[arg-type]  # no model is asked
    harm(shop.blobs.path(digest))
    assert not run(shop, job_id, EXTRACT)
    job = ledger.jobs.find(job_id)
    assert job.state is State.FAILED
    assert told in job.reason
    shown = postroom("show", job_id, state=settings.state_dir)
    assert shown.returncode == 0
    assert str(shop.blobs.path(digest)) in shown.stdout
    shop.blobs.put(BYTES)
    assert ledger.jobs.retry(job_id, Stage.EXTRACT, why="the file was put back")
    assert run(shop, job_id, EXTRACT)
    shop.heart.stop()


def test_a_store_that_is_not_there_is_an_outage(settings: Settings, intake: Intake, ledger: Ledger) -> None:
    """A file system that is not mounted fails no job: they wait for it, and lose no attempt."""
    job_id = intake.accept(envelope(), BYTES).job_id
    shop = Workshop(settings, [], ledger, None)  # type: ignore[arg-type]  # no model is asked
    away = settings.blobs_dir.with_name("away")
    settings.blobs_dir.rename(away)
    with pytest.raises(Unavailable, match="is it mounted"):
        shop.blobs.get(ledger.jobs.find(job_id).raw_sha256)
    assert not run(shop, job_id, EXTRACT)
    job = ledger.jobs.find(job_id)
    assert (job.state, job.attempts) == (State.WAITING, 0)
    shutil.move(away, settings.blobs_dir)
    assert shop.blobs.get(job.raw_sha256) == BYTES
    shop.heart.stop()


def test_a_blob_is_on_disk_before_put_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, its folder, the store and (when new) the store's own name are fsynced, the file before it gets its name."""
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    blobs = Blobs(tmp_path / "blobs")
    path = blobs.path(blobs.put(BYTES))
    assert synced[0].startswith(f"{path.parent}/.part-")
    assert synced[1:] == [str(path.parent), str(blobs.root), str(tmp_path)]
    synced.clear()
    Blobs(blobs.root).put(BYTES)  # another process may have been between rename and fsync
    assert synced == [str(path.parent), str(blobs.root)]
    synced.clear()
    blobs.put(BYTES)
    assert synced == [str(path.parent)]


def test_what_was_stored_again_is_not_swept(tmp_path: Path) -> None:
    """An old blob that an accept relies on at this moment stays, and one that nobody touched goes."""
    blobs = Blobs(tmp_path)
    kept, gone = blobs.put(BYTES), blobs.put(b"other")
    for digest in (kept, gone):
        os.utime(blobs.path(digest), (1, 1))
    before = time.time() - 60
    [(found, size)] = blobs.old(int(kept[:2], 16), before)
    assert (found, size) == (kept, len(BYTES))
    blobs.put(BYTES)
    assert not blobs.remove(kept, before)
    assert blobs.remove(gone, before)
    assert blobs.get(kept) == BYTES
    with pytest.raises(Permanent, match="missing"):
        blobs.get(gone)


def test_nothing_is_swept_while_a_backup_is_made(tmp_path: Path) -> None:
    """What the snapshot refers to stays until it is in the file."""
    blobs = Blobs(tmp_path)
    with blobs.kept_for_backup(), Blobs(tmp_path).sweeping() as may:
        assert not may
    with Blobs(tmp_path).sweeping() as may:
        assert may
