"""What becomes of a message when its job has come to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from daemon.listeners import imap_changes, imap_folder, imap_session
from daemon.listeners.imap_session import ImapSession
from tasks.ledger.schema import jobs
from tasks.models import State
from tests.integration.doors import Door, until
from tests.integration.dovecot import Dovecot, running
from tests.integration.mailboxes import mail, subjects, watching

Watch = Callable[..., AbstractContextManager[Door]]
FOLDERS = {"done_folder": "Done", "review_folder": "Review", "failed_folder": "Failed"}


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with running() as server:
        yield server


@pytest.fixture
def watch(server: Dovecot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Opens a watcher on the server's emptied mailbox; options go to the account."""
    server.empty()
    monkeypatch.setattr(imap_folder, "LONGEST_WAIT", 0.1)
    monkeypatch.setattr(imap_session, "LOOK_UP_EVERY", 0.2)
    return lambda on=server, **options: watching(on, tmp_path, **{**FOLDERS, **options})


def rest(door: Door, number: int, state: State) -> None:
    """Write down that the job of a mail rests in `state`, as a worker does."""
    mine = jobs.c.key.startswith(f"<{number}@x.test>")
    with door.intake.ledger.database.write() as connection:
        assert connection.execute(sa.update(jobs).where(mine).values(state=state.value)).rowcount == 1


@pytest.mark.parametrize("after", ["move", "seen", "nothing"])
def test_each_end_has_its_folder(server: Dovecot, watch: Watch, after: str) -> None:
    """During IDLE too, a message is moved soon after its job ends; one without an end stays where it was put."""
    server.deliver(*(mail(number) for number in range(1, 6)))
    home = "Postroom" if after == "move" else "INBOX"
    with watch(after=after) as door:
        until(lambda: door.jobs() == 5)
        until(lambda: len(subjects(server, home)) == 5)
        for number, state in ((1, State.DONE), (2, State.REVIEW), (3, State.FAILED), (4, State.CANCELLED)):
            rest(door, number, state)
        until(lambda: subjects(server, "Done") == ["mail 1", "mail 4"])
        until(lambda: subjects(server, "Review") == ["mail 2"])
        until(lambda: subjects(server, "Failed") == ["mail 3"])
        until(lambda: subjects(server, home) == ["mail 5"])


def test_a_job_that_goes_on_takes_its_mail_along(server: Dovecot, watch: Watch) -> None:
    """From review to failed to done, over a restart; without a folder for done it goes back to where it was put first."""
    server.deliver(mail(1), mail(2))
    with watch(done_folder="") as door:
        until(lambda: door.jobs() == 2)
        rest(door, 1, State.REVIEW)
        until(lambda: subjects(server, "Review") == ["mail 1"])
    with watch(done_folder="") as door:
        rest(door, 1, State.FAILED)
        until(lambda: subjects(server, "Failed") == ["mail 1"])
        rest(door, 1, State.DONE)
        until(lambda: subjects(server, "Postroom") == ["mail 1", "mail 2"])


def test_a_mail_that_somebody_moved_is_left_to_them(server: Dovecot, watch: Watch) -> None:
    """What is not where it was put is not searched for elsewhere, and stops nobody."""
    server.deliver(mail(1), mail(2))
    with watch() as door:
        until(lambda: server.count("Postroom") == 2)
        with server.mailbox() as box:
            box.folder.create("Mine")
            box.folder.set("Postroom")
            box.move(box.uids('HEADER Message-ID "<1@x.test>"'), "Mine")
        rest(door, 1, State.DONE)
        rest(door, 2, State.DONE)
        until(lambda: subjects(server, "Done") == ["mail 2"])
        assert subjects(server, "Mine") == ["mail 1"]


def test_a_folder_that_somebody_removed_holds_nobody_up(server: Dovecot, watch: Watch) -> None:
    """The mail that went with it is nowhere any more; the others are put away."""
    server.deliver(mail(1), mail(2))
    with watch() as door, capture_logs() as logs:
        until(lambda: server.count("Postroom") == 2)
        rest(door, 1, State.REVIEW)
        until(lambda: subjects(server, "Review") == ["mail 1"])
        with server.mailbox() as box:
            box.folder.delete("Review")
        rest(door, 1, State.DONE)
        rest(door, 2, State.DONE)
        until(lambda: subjects(server, "Done") == ["mail 2"])
        until(lambda: door.intake.ledger.imap_messages.moves("support", "INBOX", 1) == [])
    assert [entry for entry in logs if entry["event"] == "imap.stuck"] == []


def test_killed_after_the_second_move(server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A move that was made but not written down is found made, and the message stays where it belongs."""
    server.deliver(mail(1))
    died: list[int] = []
    original = ImapSession.uid

    def uid(session: ImapSession, command: str, uids: list[int], *arguments: Any) -> None:
        original(session, command, uids, *arguments)
        if b"Done" in b"".join(one for one in arguments if isinstance(one, bytes)) and not died:
            died.extend(uids)
            raise OSError("the process dies here")

    monkeypatch.setattr(ImapSession, "uid", uid)
    with watch() as door:
        until(lambda: server.count("Postroom") == 1)
        rest(door, 1, State.DONE)
        until(lambda: died)
        until(lambda: door.intake.ledger.imap_messages.moves("support", "INBOX", 1) == [])
        assert subjects(server, "Done") == ["mail 1"]
        assert subjects(server, "Postroom") == []


def test_without_copyuid_it_is_found_by_its_message_id(watch: Watch) -> None:
    """A server that does not say where a copy went: its Message-ID tells, its size decides between two."""
    with running(capability="IMAP4rev1 IDLE") as server:
        server.deliver(mail(1))
        with pytest.MonkeyPatch.context() as patch, watch(server) as door:
            patch.setattr(imap_changes, "_copied", lambda *_: {})
            until(lambda: server.count("Postroom") == 1)
            with server.mailbox() as box:
                box.append(mail(1, 760), "Postroom")
            rest(door, 1, State.DONE)
            until(lambda: server.count("Done") == 1)
            until(lambda: server.count("Postroom") == 1)


def test_what_was_deleted_is_not_looked_for(server: Dovecot, watch: Watch) -> None:
    """With `after = "delete"` there is no second action."""
    server.deliver(mail(1))
    with watch(after="delete") as door:
        until(lambda: server.count("INBOX") == 0)
        rest(door, 1, State.DONE)
        assert door.intake.ledger.imap_messages.moves("support", "INBOX", 1) == []
