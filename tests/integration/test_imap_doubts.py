"""A mail that the server does not give while there is no other to give: its own fault, or the server's?"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from daemon.listeners import imap_doubts, imap_folder, imap_notes
from daemon.listeners.imap import run
from daemon.listeners.imap_session import ImapSession, RefusedError
from tasks.ledger.imap_messages import Place
from tests.integration.doors import Door, until
from tests.integration.dovecot import USER, Dovecot, running
from tests.integration.mailboxes import mail, subjects, watching

Watch = Callable[..., AbstractContextManager[Door]]


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with running() as server:
        yield server


@pytest.fixture
def alerts() -> list[str]:
    """The keys of the alerts that went out."""
    return []


@pytest.fixture
def watch(server: Dovecot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alerts: list[str]) -> Watch:
    """Opens a watcher on the server's emptied mailbox, ready before its first round; options go to the account."""
    server.empty()
    monkeypatch.setattr(imap_folder, "LONGEST_WAIT", 0.1)
    monkeypatch.setattr(imap_notes, "FIRST_WAIT_MS", 1)

    def listener(*arguments: Any, ready: Callable[[str], None]) -> None:
        ready("imap: for this test")
        run(*arguments, alert=lambda key, *_: alerts.append(key))

    return lambda **options: watching(server, tmp_path, listener=listener, **{"idle": False, "poll": 0.1, **options})


def spoil(server: Dovecot, number: int) -> None:
    """Make one mail unreadable for Dovecot, which then ends the connection whenever it is asked for it."""
    if os.getuid() != 0:
        pytest.skip("only root can make a file that Dovecot may not read")
    home = server.base / "mail" / USER / "Maildir"
    wanted = re.compile(rb"^Message-ID: <%d@x.test>" % number, re.MULTILINE)
    (path,) = (one for name in ("new", "cur") for one in (home / name).iterdir() if wanted.search(one.read_bytes()))
    os.chown(path, 0, 0)
    path.chmod(0)


@pytest.mark.parametrize("after", ["move", "seen"])
def test_a_bad_mail_alone_in_its_folder_is_quarantined(
    server: Dovecot, watch: Watch, alerts: list[str], after: str
) -> None:
    """The mail that was taken before, wherever it is now, shows that the server is well: no other has to come."""
    server.deliver(mail(1))
    home = "Postroom" if after == "move" else "INBOX"
    with watch(after=after) as door:
        until(lambda: door.jobs() == 1 and subjects(server, home) == ["mail 1"])
    server.deliver(mail(2))
    spoil(server, 2)
    with watch(after=after) as door:
        rows = door.intake.ledger.imap_messages
        until(lambda: ("INBOX", "quarantined") in rows.counts("support"), 60)
        server.deliver(mail(3))
        until(lambda: door.jobs() == 2)
        until(lambda: rows.counts("support").get(("INBOX", "accepted")) == 2)
        if after == "move":  # Dovecot will not move the bad one either
            until(lambda: subjects(server, "Postroom") == ["mail 1", "mail 3"])
    assert [key.partition(":")[0] for key in alerts] == ["imap-quarantine"]


def test_a_bad_mail_alone_in_its_mailbox(
    server: Dovecot, watch: Watch, alerts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing to compare it with, a try counts only every so often; then it goes to quarantine too."""
    server.deliver(mail(1))
    spoil(server, 1)
    with watch() as door:
        rows = door.intake.ledger.imap_messages
        folders = door.intake.ledger.imap_folders
        until(lambda: folders.get("support", "INBOX").down_since)
        until(lambda: ("INBOX", "suspect") in rows.counts("support"))
        assert all(known.tries == 0 for known in rows.known(place_of(door)).values())
        monkeypatch.setattr(imap_doubts, "LONE_WAIT", 0.1)
        until(lambda: ("INBOX", "quarantined") in rows.counts("support"), 60)
    assert len(alerts) == 1


def place_of(door: Door) -> Place:
    """Where INBOX's rows stand."""
    return Place("support", "INBOX", door.intake.ledger.imap_folders.get("support", "INBOX").validity)


def test_a_sick_server_gives_no_other_either(
    server: Dovecot, watch: Watch, alerts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the mail that was taken before is refused as well, nothing counts against the new one; then it is taken."""
    server.deliver(mail(1))
    with watch() as door:
        until(lambda: server.count("Postroom") == 1)
        original, asked = ImapSession.fetch, list[int]()
        sick = [True]

        def fetch(session: ImapSession, wanted: list[int]) -> dict[int, bytes]:
            asked.extend(wanted)
            if sick:
                raise RefusedError("FETCH refused: sorry")
            return original(session, wanted)

        monkeypatch.setattr(ImapSession, "fetch", fetch)
        server.deliver(mail(2))
        until(lambda: len(asked) > 12)
        rows = door.intake.ledger.imap_messages
        assert sorted({known.tries for known in rows.known(place_of(door)).values()}) == [0]
        sick.clear()
        until(lambda: door.jobs() == 2)
    assert alerts == []
