"""A folder so large that its UIDs do not fit in one line of an answer.

imap-tools lets a line have 20 MB; here it is imaplib's own million bytes. With POSTROOM_TEST_FULL the folder holds 200,000
mails; else the limit is smaller still.
"""

from __future__ import annotations

import imaplib
import os
import pwd
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from config.imap import ImapAccount
from daemon.listeners import imap_session
from daemon.listeners.imap_session import ImapSession
from tests.integration.dovecot import USER, Dovecot, running
from tests.integration.mailboxes import account

FULL = bool(os.environ.get("POSTROOM_TEST_FULL"))
MAILS = 200_000 if FULL else 1_000
PATIENCE = 600 if FULL else 10


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with running() as server:
        fill(server, MAILS)
        yield server


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a folder two hundred times as large."""
    monkeypatch.setattr(imaplib, "_MAXLINE", 1_000_000 if FULL else 3_000)
    if not FULL:
        monkeypatch.setattr(imap_session, "SEARCH_AT_ONCE", 200)


def fill(server: Dovecot, number: int) -> None:
    """Put mails into INBOX as files, which is faster than any delivery."""
    home = server.base / "mail" / USER / "Maildir"
    owner = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    for folder in (home.parent, home, *(home / name for name in ("new", "cur", "tmp"))):
        folder.mkdir(exist_ok=True)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    first = home / "new" / "1700000000.M0P1.here"
    first.write_bytes(b"Subject: x\r\n\r\nhello\r\n")
    os.chown(first, owner.pw_uid, owner.pw_gid)
    source, links = first, 0
    for one in range(1, number):
        name = home / "new" / f"{1700000000 + one}.M0P1.here"
        if links == 30_000:  # file systems have a limit of names for one file
            name.write_bytes(first.read_bytes())
            os.chown(name, owner.pw_uid, owner.pw_gid)
            source, links = name, 0
        else:
            os.link(source, name)
            links += 1


def test_one_search_is_too_much(server: Dovecot, limits: None) -> None:
    """The library refuses the answer of a plain search: what the next test shows is not for nothing."""
    with ImapSession(ImapAccount(**account(server, timeout=PATIENCE))) as session:
        session.select("INBOX", readonly=True)
        with pytest.raises(imaplib.IMAP4.error, match="got more than"):
            session._portion("UNDELETED")


def test_all_are_found(server: Dovecot, limits: None) -> None:
    """Every message is found once, in order, with and without a day; also from a UID on, and by memory that is bounded."""
    with ImapSession(ImapAccount(**account(server, timeout=PATIENCE))) as session:
        session.select("INBOX")
        tracemalloc.start()
        begin = time.monotonic()
        found = session.search()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(f"{MAILS} messages in {time.monotonic() - begin:.1f} s, {peak / 1e6:.1f} MB")
        assert found == list(range(1, MAILS + 1))
        assert peak < 300 * MAILS + 2_000_000
        assert session.search_from(MAILS - 5) == found[-6:]
        assert session.search_from(MAILS + 1) == []


def test_what_is_expunged_meanwhile_hides_nothing(
    server: Dovecot, limits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that move down while the portions are asked for are still found."""
    original = ImapSession._portion
    removed: list[int] = []

    def portion(session: ImapSession, *criteria: str) -> set[int]:
        found = original(session, *criteria)
        if not removed:
            removed.extend(range(1, 51))
            with server.mailbox() as other:
                other.folder.set("INBOX")
                other.client.uid("STORE", "1:50", "+FLAGS.SILENT", r"(\Deleted)")
                other.client.uid("EXPUNGE", "1:50")
            session._client.noop()
        return found

    monkeypatch.setattr(ImapSession, "_portion", portion)
    with ImapSession(ImapAccount(**account(server, timeout=PATIENCE))) as session:
        session.select("INBOX")
        assert set(range(51, MAILS + 1)) <= set(session.search())
