"""Drop folders on a real file system, with a real ledger."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from config.errors import ConfigError
from config.inbound import FolderListener
from config.settings import Settings
from daemon.listeners import folder
from daemon.listeners.folder import reserved, run
from tasks.errors import Permanent
from tasks.intake import Intake
from tasks.models import Kind
from tests.integration.doors import LEDGER_DOWN, Door, opened, until

Watch = Callable[..., AbstractContextManager[Door]]


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    return tmp_path / "drop"


@pytest.fixture
def watch(drop: Path, tmp_path: Path) -> Iterator[Watch]:
    """Opens a watcher on the folder `drop`; options go to its table."""

    def start(**options: Any) -> AbstractContextManager[Door]:
        scans = {"path": drop, "poll": 0.05, "settle": 0, **options}
        return opened(run, tmp_path, lines=1, folder={"scans": scans})

    yield start
    assert not [file for file in (drop / ".work").rglob("*") if file.is_file()], "a claim was left behind"


def put(path: Path, content: bytes) -> None:
    """Write a file the way a careful program does: under a hidden name, then renamed, so that it is never seen half."""
    hidden = path.with_name(f".writing-{path.name}")
    hidden.write_bytes(content)
    hidden.rename(path)


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir()) if path.exists() else []


def test_takes_a_file(drop: Path, watch: Watch) -> None:
    """A file becomes a job with its name and type, and is moved to `.done` with its bytes as they were."""
    with watch(sender="boss@x.test") as door:
        assert door.lines == [f"folder scans: {drop}, every 0.05 s"]
        put(drop / "Rechnung 7.pdf", b"%PDF-1.7 ...")
        until(lambda: names(drop / ".done") == ["Rechnung 7.pdf"])
        assert door.jobs() == 1
    envelope, raw, _ = door.intake.seen[0]
    assert (envelope.source, envelope.kind, envelope.name) == ("folder:scans", Kind.FILE, "Rechnung 7.pdf")
    assert (envelope.content_type, envelope.sender) == ("application/pdf", "boss@x.test")
    assert raw == (drop / ".done" / "Rechnung 7.pdf").read_bytes() == b"%PDF-1.7 ..."


def test_eml_is_mail(drop: Path, watch: Watch) -> None:
    """A file whose name ends in .eml is a mail."""
    with watch() as door:
        put(drop / "note.EML", b"Subject: x\r\n\r\nhello\r\n")
        until(lambda: door.intake.seen)
    assert (door.intake.seen[0][0].kind, door.intake.seen[0][0].content_type) == (Kind.MAIL, "message/rfc822")


@pytest.mark.sqlite_only
def test_waits_until_a_file_stands_still(drop: Path, intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that still grows is left alone, however long it does; it is taken whole."""
    ahead, real = [0.0], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + ahead[0])
    watcher = folder.Watcher("scans", FolderListener(path=drop, settle=3600), intake, threading.Event())
    watcher.prepare()
    for number in range(5):
        with (drop / "slow.txt").open("ab") as file:
            file.write(b"line\n" if number < 4 else b"")
        watcher.look()
        assert (drop / "slow.txt").exists()
        ahead[0] += 2400
    watcher.look()
    [job] = intake.ledger.jobs.page()
    assert intake.ledger.jobs.raw(job.id) == b"line\n" * 4


@pytest.mark.parametrize("name", [".hidden", "a.tmp", "b.PART", "c.crdownload", "d~", "~$e.docx", ".~lock.f#"])
def test_unfinished_names_are_left(drop: Path, watch: Watch, name: str) -> None:
    """Hidden and temporary names are not touched; renaming such a file to its own name hands it over."""
    with watch() as door:
        (drop / name).write_bytes(b"unfinished")
        put(drop / "other.txt", b"x")
        until(lambda: names(drop / ".done") == ["other.txt"])
        time.sleep(0.2)
        assert (drop / name).exists()
        (drop / name).rename(drop / "finished.txt")
        until(lambda: len(door.intake.seen) == 2)


def test_custom_patterns(drop: Path, watch: Watch) -> None:
    """`ignore` replaces the shipped patterns."""
    with watch(ignore=["*.log"]) as door:
        put(drop / "a.log", b"x")
        put(drop / "a.tmp", b"x")
        until(lambda: door.intake.seen)
        time.sleep(0.2)
    assert [envelope.name for envelope, _, _ in door.intake.seen] == ["a.tmp"]


def test_same_name_again(drop: Path, watch: Watch) -> None:
    """Another file of the same name is another job, and overwrites nothing in `.done`; an equal one is the same job."""
    with watch() as door:
        for content in (b"one", b"two", b"one"):
            put(drop / "scan.pdf", content)
            until(lambda: not (drop / "scan.pdf").exists())
        until(lambda: len(names(drop / ".done")) == 3)
        assert door.jobs() == 2
    contents = {name: (drop / ".done" / name).read_bytes() for name in names(drop / ".done")}
    assert contents == {"scan.pdf": b"one", "scan-2.pdf": b"two", "scan-3.pdf": b"one"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty\n"), (b"x" * 101, "is larger than max_size = 100 bytes\n")],
)
def test_refused_with_a_reason(drop: Path, watch: Watch, content: bytes, reason: str) -> None:
    """A file that cannot be accepted goes to `.failed` with its reason beside it, and the next one is taken."""
    with watch(max_size=100) as door, capture_logs() as logs:
        put(drop / "bad.txt", content)
        until((drop / ".failed" / "bad.txt.reason").exists)
        put(drop / "good.txt", b"x" * 100)
        until(lambda: names(drop / ".done") == ["good.txt"])
        assert door.jobs() == 1
    assert (drop / ".failed" / "bad.txt").read_bytes() == content
    assert (drop / ".failed" / "bad.txt.reason").read_text() == reason
    assert [entry["file"] for entry in logs if entry["event"] == "folder.refused"] == ["bad.txt"]


def test_refused_by_the_intake(drop: Path, watch: Watch) -> None:
    """What the intake refuses for good is put away as failed with the intake's words."""
    with watch() as door:
        door.intake.fault = Permanent("not for us")
        put(drop / "a.txt", b"x")
        until((drop / ".failed" / "a.txt.reason").exists)
    assert (drop / ".failed" / "a.txt.reason").read_text() == "not for us\n"


def test_symlinks_are_not_followed(drop: Path, watch: Watch, tmp_path: Path) -> None:
    """A symbolic link is not read, wherever it points; nor are folders and pipes."""
    secret = tmp_path / "secret"
    secret.write_text("keep out")
    with watch() as door:
        (drop / "link.txt").symlink_to(secret)
        (drop / "folder").mkdir()
        os.mkfifo(drop / "pipe")
        put(drop / "file.txt", b"x")
        until(lambda: names(drop / ".done") == ["file.txt"])
        time.sleep(0.2)
        assert len(door.intake.seen) == 1
    assert {"link.txt", "folder", "pipe"} <= set(names(drop))


def test_link_swapped_in_late(drop: Path, watch: Watch, tmp_path: Path) -> None:
    """A link that takes a file's place between the look and the claim is refused."""
    secret = tmp_path / "secret"
    secret.write_text("keep out")
    claim = drop / ".work" / "0123456789abcdef"
    claim.mkdir(parents=True)
    (claim / "a.txt").symlink_to(secret)
    os.utime(claim, (0, 0))
    with watch() as door:
        until((drop / ".failed" / "a.txt.reason").exists)
        assert not door.intake.seen
    assert (drop / ".failed" / "a.txt.reason").read_text() == "is a symbolic link\n"


def test_ledger_down(drop: Path, watch: Watch) -> None:
    """While the ledger is down files wait; afterwards each is one job. The outage is logged once."""
    with watch() as door, capture_logs() as logs:
        door.intake.fault = LEDGER_DOWN
        put(drop / "a.txt", b"a")
        put(drop / "b.txt", b"b")
        until(lambda: any(entry["event"] == "folder.down" for entry in logs))
        time.sleep(0.4)
        assert names(drop / ".done") == []
        door.intake.fault = None
        until(lambda: names(drop / ".done") == ["a.txt", "b.txt"])
        until(lambda: any(entry["event"] == "folder.up" for entry in logs))
        assert door.jobs() == 2
    assert len([entry for entry in logs if entry["event"] == "folder.down"]) == 1


def test_left_behind_by_a_crash(drop: Path, watch: Watch) -> None:
    """What a killed process had claimed is taken by the next one, not before it may count as left behind."""
    for age, name in ((3600, "old"), (0, "young")):
        claim = drop / ".work" / name
        claim.mkdir(parents=True)
        (claim / f"{name}.txt").write_bytes(name.encode())
        os.utime(claim, (time.time() - age,) * 2)
    with watch() as door:
        until(lambda: names(drop / ".done") == ["old.txt"])
        time.sleep(0.3)
        assert len(door.intake.seen) == 1
        os.utime(drop / ".work" / "young", (0, 0))
        until(lambda: names(drop / ".done") == ["old.txt", "young.txt"])


def test_fault_with_one_file(drop: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of ours with one file does not stop the others, and the file is tried again later."""
    monkeypatch.setattr("daemon.listeners.suspects.FIRST_WAIT", 0.5)
    original = folder.Watcher._envelope
    broken = threading.Event()
    broken.set()

    def envelope(self: folder.Watcher, name: str, raw: bytes) -> Any:
        if broken.is_set() and name == "bad.txt":
            raise IndexError("bug")
        return original(self, name, raw)

    monkeypatch.setattr(folder.Watcher, "_envelope", envelope)
    with watch() as door:
        for number in range(5):
            put(drop / f"{number}.txt", b"%d" % number)
        put(drop / "bad.txt", b"bad")
        until(lambda: len(names(drop / ".done")) == 5)
        broken.clear()
        until(lambda: len(names(drop / ".done")) == 6)
        assert door.jobs() == 6


def test_two_watchers_share_a_folder(drop: Path, tmp_path: Path) -> None:
    """Two processes on one folder take each file once between them."""
    options = {"folder": {"scans": {"path": drop, "poll": 0.01, "settle": 0}}}
    with opened(run, tmp_path / "a", lines=1, **options) as one, opened(run, tmp_path / "b", lines=1, **options) as two:
        for number in range(60):
            put(drop / f"{number}.txt", b"%d" % number)
        until(lambda: len(names(drop / ".done")) == 60)
    taken = [envelope.name for door in (one, two) for envelope, _, _ in door.intake.seen]
    assert sorted(taken) == sorted(f"{number}.txt" for number in range(60))


def test_undecodable_name(drop: Path, watch: Watch) -> None:
    """A name that is no UTF-8 is taken; what cannot be shown is replaced."""
    with watch() as door:
        with open(os.fsencode(drop) + b"/r\xe9sum\xe9.txt", "wb") as file:  # noqa: PTH123  # pathlib takes no bytes
            file.write(b"x")
        until(lambda: names(drop / ".done"))
        assert door.jobs() == 1
    assert door.intake.seen[0][0].name == "r\ufffdsum\ufffd.txt"


def test_done_on_another_file_system(drop: Path, watch: Watch, tmp_path: Path) -> None:
    """A done folder elsewhere works even where a rename cannot reach."""
    others = (Path("/dev/shm"), Path(tempfile.gettempdir()), Path.home())
    elsewhere = next((one for one in others if one.is_dir() and one.stat().st_dev != tmp_path.stat().st_dev), None)
    if elsewhere is None:
        pytest.skip("needs a second file system")
    done = elsewhere / f"pr-test-{os.getpid()}"
    try:
        with watch(done=done):
            put(drop / "a.txt", b"x")
            until(lambda: names(done) == ["a.txt"] and (done / "a.txt").read_bytes() == b"x")
    finally:
        for file in done.iterdir():
            file.unlink()
        done.rmdir()


def test_unusable_folder(tmp_path: Path) -> None:
    """A path that cannot be a folder stops the start with its name and what to write instead."""
    (tmp_path / "file").write_text("x")
    settings = Settings(state_dir=tmp_path, folder={"scans": {"path": tmp_path / "file"}})
    with pytest.raises(ConfigError, match=r"folder\.scans\.path: cannot use .*/file: .*; name a folder"):
        run(settings, None, threading.Event())  # type: ignore[arg-type]


def test_reserved_names(tmp_path: Path) -> None:
    """A reserved name is free, fits the file system and keeps its extension."""
    longest = "ä" * 120 + ".jpeg"
    first, second = reserved(tmp_path, longest), reserved(tmp_path, longest)
    assert first.suffix == second.suffix == ".jpeg"
    assert first != second
    assert max(len(os.fsencode(path.name + ".reason")) for path in (first, second)) <= 255
    assert reserved(tmp_path, "a." + "x" * 240).exists()
