"""kill -9 after each step by which a mail is put away: in the end it lies where it belongs, once.

A step is a command that changes the mailbox, or a write to the ledger. For each way to put mail away, a process of its
own dies after the first step, after the second, and so on until one lives to the end; then another process goes on.
Without POSTROOM_TEST_FULL only with a server that lacks MOVE, which takes the most steps, and after every third of them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from config.imap import ImapAccount
from config.settings import Settings
from daemon.listeners.imap_canary import Canary
from daemon.listeners.imap_clock import Clock
from daemon.listeners.imap_folder import FolderWatch, Parts
from daemon.listeners.imap_session import ImapSession
from daemon.listeners.imap_settling import ensure_folders
from daemon.listeners.imap_watchdog import Pulse
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.ledger.engine import Database
from tasks.ledger.schema import jobs
from tests.integration.dovecot import Dovecot, running
from tests.integration.mailboxes import account, mail, subjects, uids

MOST_STEPS = 40
CHANGING = frozenset({"MOVE", "COPY", "STORE", "EXPUNGE"})
CAPABILITIES = {"copy": "IMAP4rev1 UIDPLUS IDLE"}
"""With COPY and UID EXPUNGE; with MOVE; with COPY alone."""
FULL = bool(os.environ.get("POSTROOM_TEST_FULL"))
if FULL:
    CAPABILITIES |= {"move": "", "mark": "IMAP4rev1 IDLE"}


@pytest.fixture(scope="module", params=list(CAPABILITIES))
def server(request: pytest.FixtureRequest) -> Iterator[Dovecot]:
    with running(capability=CAPABILITIES[request.param]) as server:
        yield server


@pytest.fixture(scope="module")
def forks() -> Any:
    """Where processes come from: quickly, and from one without threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def one_round(home: Path, options: dict[str, Any], deadly: int) -> None:
    """Look at the mailbox until nothing is left to do, and die after the `deadly`-th step; 0: never."""
    settings = Settings(state_dir=home)
    section = ImapAccount(**options)
    if deadly:
        _arm(deadly)
    intake = Intake.open(settings)
    clock = Clock()
    pulse = Pulse(intake.ledger.imap_folders, "support", section, "INBOX", clock)
    canary = Canary("support", section, settings, clock) if section.canary else None
    with ThreadPoolExecutor(4) as pool, ImapSession(section) as session:
        parts = Parts(
            "support",
            section,
            intake,
            threading.Event(),
            lambda _: None,
            lambda *_: None,
            None,
            pool,
            clock,
            canary,
        )
        assert pulse.claim.take() == ""
        ensure_folders(session, section)
        watch = FolderWatch(parts, "INBOX", pulse)
        while watch.round(session):
            pass
    intake.close()


def _arm(deadly: int) -> None:
    """Die right after the `deadly`-th step."""
    taken = 0

    def step_was_made() -> None:
        nonlocal taken
        taken += 1
        if taken == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def command(session: ImapSession, name: str, *arguments: Any) -> None:
        original(session, name, *arguments)
        if name in CHANGING:
            step_was_made()

    def written(database: Database) -> Iterator[sa.Connection]:
        yield from write(database)
        step_was_made()

    original = ImapSession.uid
    write = Database.write.__wrapped__  # type: ignore[attr-defined]  # the generator: its end comes after the commit
    ImapSession.uid = command  # type: ignore[method-assign]  # the fault
    Database.write = contextlib.contextmanager(written)  # type: ignore[method-assign]  # the same


def in_a_process(forks: Any, home: Path, options: dict[str, Any], deadly: int) -> int:
    """The exit status of a process that does one round."""
    process = forks.Process(target=one_round, args=(home, options, deadly))
    process.start()
    process.join(60)
    return int(process.exitcode)


def die_everywhere(
    server: Dovecot,
    forks: Any,
    home: Path,
    options: dict[str, Any],
    prepare: Callable[[Path], None],
    holds: Callable[[Path], None],
) -> int:
    """For each step: prepare, die after it, go on, and see that it holds; how many steps there were."""
    empty = home.with_name("empty")
    Ledger.open(Settings(state_dir=empty).ledger).close()
    for deadly in range(1, MOST_STEPS, 1 if FULL else 3):
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(empty, home)
        server.empty()
        prepare(home)
        status = in_a_process(forks, home, options, deadly)
        if status == 0:
            return deadly - 1
        assert status == -signal.SIGKILL
        assert in_a_process(forks, home, options, 0) == 0
        try:
            holds(home)
        except AssertionError as error:
            raise AssertionError(f"killed after step {deadly}: {error}") from error
    raise AssertionError("it never came to its end")


def keys(home: Path) -> list[str]:
    """The Message-IDs of all jobs; one that has none is `-`."""
    database = Database(Settings(state_dir=home).ledger)
    with database.read() as connection:
        found = connection.execute(sa.select(jobs.c.key)).scalars().all()
    database.close()
    return sorted(key.partition(" ")[0] if key.startswith("<") else "-" for key in found)


def undeleted(server: Dovecot, folder: str) -> list[str]:
    """The subjects of a folder's mail that is not marked as deleted."""
    with server.mailbox() as box:
        if not box.folder.exists(folder):
            return []
        box.folder.set(folder)
        return sorted(one.subject for one in box.fetch("UNDELETED", mark_seen=False, headers_only=True))


ANONYMOUS = b"From: scanner@x.test\r\nSubject: no id\r\n\r\nhello\r\n"
BIG = mail(3, 30_000)


@pytest.mark.timeout(300)
def test_moved_after_acceptance(server: Dovecot, forks: Any, tmp_path: Path) -> None:
    """Each mail, one without a Message-ID and one that is too large, lies once in its folder; others' mail stays."""
    options = account(server, max_size=20_000)

    def prepare(home: Path) -> None:
        server.deliver(mail(1), mail(2), ANONYMOUS, BIG)
        with server.mailbox() as box:
            box.client.uid("STORE", "1", "+FLAGS", r"(\Deleted)")

    def holds(home: Path) -> None:
        assert keys(home) == ["-", "<2@x.test>"]
        assert subjects(server, "Postroom") == ["mail 2", "no id"]
        assert subjects(server, "Postroom-Failed") == ["mail 3"]
        assert undeleted(server, "INBOX") == []
        assert "1" in uids(server, criteria="DELETED")
        if "MOVE" in _capability(server) or "UIDPLUS" in _capability(server):
            assert uids(server) == ["1"]

    assert die_everywhere(server, forks, tmp_path / "state", options, prepare, holds) >= 8


@pytest.mark.timeout(300)
def test_deleted_after_acceptance(server: Dovecot, forks: Any, tmp_path: Path) -> None:
    """Each accepted mail is gone from the mailbox, and none is merely marked where the server can remove it."""
    options = account(server, after="delete")

    def prepare(home: Path) -> None:
        server.deliver(mail(1), mail(2))

    def holds(home: Path) -> None:
        assert keys(home) == ["<1@x.test>", "<2@x.test>"]
        assert undeleted(server, "INBOX") == []
        if "UIDPLUS" in _capability(server):
            assert uids(server) == []

    assert die_everywhere(server, forks, tmp_path / "state", options, prepare, holds) >= 6


@pytest.mark.timeout(300)
def test_put_away_at_the_jobs_end(server: Dovecot, forks: Any, tmp_path: Path) -> None:
    """From review to done, dying in each of the moves: the mail goes along, and lies once in the last folder."""
    options = account(server, after="seen", review_folder="Review", done_folder="Done")

    def prepare(home: Path) -> None:
        server.deliver(mail(1), ANONYMOUS)
        assert in_a_process(forks, home, options, 0) == 0
        _rest(home, "review")

    def holds(home: Path) -> None:
        assert undeleted(server, "Review") == ["mail 1", "no id"]
        assert undeleted(server, "INBOX") == []
        _rest(home, "done")
        assert in_a_process(forks, home, options, 0) == 0
        assert subjects(server, "Done") == ["mail 1", "no id"]
        assert undeleted(server, "Review") == []
        assert keys(home) == ["-", "<1@x.test>"]

    assert die_everywhere(server, forks, tmp_path / "state", options, prepare, holds) >= 4


def _rest(home: Path, state: str) -> None:
    database = Database(Settings(state_dir=home).ledger)
    with database.write() as connection:
        connection.execute(sa.update(jobs).values(state=state))
    database.close()


def _capability(server: Dovecot) -> str:
    with server.mailbox() as box:
        return " ".join(box.client.capability()[1][0].decode().split())
