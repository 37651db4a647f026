"""Backup while messages come in, restore elsewhere, and what a restore refuses."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from config.engine import RetentionSettings
from config.settings import Settings
from daemon.backup import put_back, take
from tasks.blobs import Blobs
from tasks.configured import message_id_secret
from tasks.errors import Permanent, Unavailable
from tasks.intake import Intake, raw_of
from tasks.ledger import Ledger, snapshot
from tasks.ledger.engine import Database
from tasks.retention import sweep
from tests.commands import postroom
from tests.conftest import envelope
from tests.integration.postgres import Postgres


@pytest.fixture
def elsewhere(settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    """Another host with an empty ledger of the same kind."""
    url = ""
    if settings.ledger_url:
        server: Postgres = request.getfixturevalue("postgres_server")
        url = server.create(f"elsewhere_{tmp_path.name}_{id(settings)}")
    return Settings(state_dir=tmp_path / "elsewhere", ledger_url=url)


def body(number: int) -> bytes:
    """Small ones live in the row, large ones in the blob store."""
    return b"%d " % number * (10 if number % 2 else 40_000)


def accept(intake: Intake, numbers: range) -> dict[str, bytes]:
    return {intake.accept(envelope(str(number)), body(number)).job_id: body(number) for number in numbers}


def raw_in(settings: Settings) -> dict[str, bytes]:
    """Every job in a ledger with its raw bytes, checked."""
    ledger = Ledger.open(settings.ledger)
    try:
        found = ledger.jobs.page(limit=100_000)
        return {job.id: raw_of(ledger, Blobs(settings.blobs_dir), job.id, job.raw_sha256) for job in found}
    finally:
        ledger.close()


def test_a_backup_under_load_holds_all_that_was_acknowledged(
    settings: Settings, elsewhere: Settings, intake: Intake, ledger: Ledger, tmp_path: Path
) -> None:
    """Four threads accept all the while: what had its receipt before is there, and nothing is there by half."""
    told: dict[str, bytes] = {}
    stop, enough = threading.Event(), threading.Event()

    def keep_on(first: int) -> None:
        number = first
        while not stop.is_set():
            told.update(accept(intake, range(number, number + 1)))
            number += 4
            if len(told) > 100:
                enough.set()

    threads = [threading.Thread(target=keep_on, args=(first,), daemon=True) for first in range(4)]
    for thread in threads:
        thread.start()
    assert enough.wait(60)
    before = dict(told)
    made = take(settings, ledger, tmp_path / "all.tar")
    stop.set()
    for thread in threads:
        thread.join(30)
    assert made.without == ()
    assert (tmp_path / "all.tar").stat().st_mode & 0o777 == 0o600
    put_back(elsewhere, tmp_path / "all.tar", force=False)
    restored = raw_in(elsewhere)
    assert before.items() <= restored.items()
    assert restored.items() <= told.items()
    assert not [name for name in tmp_path.iterdir() if "part" in name.name]


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
def test_what_comes_between_the_list_of_blobs_and_the_copy_is_in_neither(
    settings: Settings,
    elsewhere: Settings,
    intake: Intake,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """pg_dump sees the very moment of the list: no restored job lacks its blob, and what came later is not there."""
    before = accept(intake, range(4))
    real = snapshot._run

    def run(database: Database, program: str, *options: str, last: list[str] | None = None) -> None:
        if program == "pg_dump":
            accept(intake, range(4, 8))
        real(database, program, *options, last=last)

    monkeypatch.setattr(snapshot, "_run", run)
    assert take(settings, ledger, tmp_path / "all.tar").without == ()
    put_back(elsewhere, tmp_path / "all.tar", force=False)
    assert raw_in(elsewhere) == before


def test_what_is_restored_goes_on(
    settings: Settings, elsewhere: Settings, intake: Intake, ledger: Ledger, tmp_path: Path
) -> None:
    """The keys that were seen are still known, new messages come in, and the Message-IDs have the same secret."""
    accept(intake, range(3))
    secret = message_id_secret(settings)
    take(settings, ledger, tmp_path / "all.tar")
    put_back(elsewhere, tmp_path / "all.tar", force=False)
    assert message_id_secret(elsewhere) == secret
    again = Intake.open(elsewhere)
    assert again.accept(envelope("1"), body(1)).duplicate
    assert not again.accept(envelope("new"), b"x").duplicate
    again.close()


def test_a_ledger_with_jobs_is_replaced_only_by_force(
    settings: Settings, elsewhere: Settings, intake: Intake, ledger: Ledger, tmp_path: Path
) -> None:
    """Nothing is lost by a command typed on the wrong host."""
    first = accept(intake, range(3))
    take(settings, ledger, tmp_path / "all.tar")
    other = Intake.open(elsewhere)
    kept = accept(other, range(10, 12))
    other.close()
    with pytest.raises(Permanent, match="--force"):
        put_back(elsewhere, tmp_path / "all.tar", force=False)
    assert raw_in(elsewhere) == kept
    put_back(elsewhere, tmp_path / "all.tar", force=True)
    assert raw_in(elsewhere) == first


def test_a_ledger_in_use_is_not_replaced(settings: Settings, intake: Intake, ledger: Ledger, tmp_path: Path) -> None:
    """A process that runs would write into what was taken away."""
    accept(intake, range(2))
    take(settings, ledger, tmp_path / "all.tar")
    more = accept(intake, range(2, 4))
    with pytest.raises(Permanent, match="stop"):
        put_back(settings, tmp_path / "all.tar", force=True)
    assert more.items() <= raw_in(settings).items()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def cut_at_a_member(data: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return data[: tar.getmembers()[-1].offset]


def flip_in_the_ledger(data: bytes) -> bytes:
    return data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]


def flip_in_a_blob(data: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        place = next(member for member in tar if member.name.startswith("blobs/")).offset_data
    return data[:place] + b"?" + data[place + 1 :]


def without_a_blob(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=out, mode="w") as new:
        left = [member for member in old if not member.name.startswith("blobs/")]
        for member in left:
            new.addfile(member, old.extractfile(member))
    return out.getvalue()


def with_another_file(data: bytes) -> bytes:
    out = io.BytesIO(data)
    with tarfile.open(fileobj=out, mode="a") as tar:
        tar.addfile(tarfile.TarInfo("../../etc/passwd"))
    return out.getvalue()


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    "harm", [cut, cut_at_a_member, flip_in_the_ledger, flip_in_a_blob, without_a_blob, with_another_file, lambda _: b""]
)
def test_a_file_that_is_not_whole_is_refused(
    settings: Settings,
    elsewhere: Settings,
    intake: Intake,
    ledger: Ledger,
    tmp_path: Path,
    harm: Callable[[bytes], bytes],
) -> None:
    """It is read to its end before anything is touched."""
    accept(intake, range(4))
    take(settings, ledger, tmp_path / "all.tar")
    data = (tmp_path / "all.tar").read_bytes()
    (tmp_path / "all.tar").write_bytes(harm(data))
    with pytest.raises(Permanent, match=r"damaged|no whole backup|no backup"):
        put_back(elsewhere, tmp_path / "all.tar", force=True)
    assert not (elsewhere.state_dir / "ledger.db").exists()
    assert not elsewhere.blobs_dir.exists()


@pytest.mark.sqlite_only
def test_a_damaged_blob_does_not_stop_the_backup(
    settings: Settings, elsewhere: Settings, intake: Intake, ledger: Ledger, tmp_path: Path
) -> None:
    """All else is saved; the command names the blob and ends with status 1."""
    accept(intake, range(4))
    digest = next(job.raw_sha256 for job in ledger.jobs.page() if ledger.jobs.raw(job.id) is None)
    Blobs(settings.blobs_dir).path(digest).write_bytes(b"evil")
    file = tmp_path / "all.tar"
    told = postroom("backup", str(file), state=settings.state_dir)
    assert told.returncode == 1
    assert digest in told.stderr
    again = postroom("restore", str(file), state=elsewhere.state_dir)
    assert (again.returncode, again.stderr) == (0, "")
    restored = Ledger.open(elsewhere.ledger)
    assert restored.jobs.counts() == {"received": 4}
    restored.close()


def test_a_store_that_is_away_stops_the_backup(
    settings: Settings, intake: Intake, ledger: Ledger, tmp_path: Path
) -> None:
    """A backup without any message is none; and looking for the store does not make one, which would look empty."""
    accept(intake, range(4))
    settings.blobs_dir.rename(settings.blobs_dir.with_name("away"))
    with pytest.raises(Unavailable, match="is it mounted"):
        take(settings, ledger, tmp_path / "all.tar")
    assert list(sweep(ledger, Blobs(settings.blobs_dir), RetentionSettings())) == []
    assert not settings.blobs_dir.exists()
    assert not (tmp_path / "all.tar").exists()


@pytest.mark.sqlite_only
def test_a_backup_that_cannot_be_written_leaves_the_older_one(
    settings: Settings, intake: Intake, ledger: Ledger, tmp_path: Path
) -> None:
    """The name is taken over only by a whole file."""
    accept(intake, range(2))
    (tmp_path / "all.tar").write_bytes(b"older")
    broken = Settings(state_dir=tmp_path / "broken")
    damaged = Ledger(broken.ledger)
    (broken.state_dir / "ledger.db").write_bytes(b"no database at all, but long enough to look like one" * 100)
    with pytest.raises(Permanent, match="damaged"):
        take(broken, damaged, tmp_path / "all.tar")
    with pytest.raises(Unavailable, match="not a database"):
        damaged.jobs.counts()
    assert (tmp_path / "all.tar").read_bytes() == b"older"
    with pytest.raises(Permanent, match="cannot be written"):
        take(settings, ledger, tmp_path / "no-such-folder" / "all.tar")


def test_a_backup_of_another_kind_is_refused(
    settings: Settings, intake: Intake, ledger: Ledger, tmp_path: Path, postgres_server: Postgres
) -> None:
    """SQLite's file does not go into PostgreSQL, nor the other way."""
    accept(intake, range(1))
    take(settings, ledger, tmp_path / "all.tar")
    other = "" if settings.ledger_url else postgres_server.create(f"other_{id(settings)}")
    with pytest.raises(Permanent, match="ledger_url"):
        put_back(Settings(state_dir=tmp_path / "x", ledger_url=other), tmp_path / "all.tar", force=True)
