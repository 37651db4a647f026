"""Watching a mailbox on a real Dovecot, with a real ledger."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon.listeners import imap_folder, imap_settling
from daemon.listeners.imap_session import ImapSession, RefusedError
from tasks.errors import Permanent
from tasks.models import Kind
from tests.integration.doors import LEDGER_DOWN, Door, until
from tests.integration.dovecot import USER, Dovecot, running
from tests.integration.mailboxes import mail, uids, watching
from tests.integration.test_smtp_in import certificate

Watch = Callable[..., AbstractContextManager[Door]]


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with running() as server:
        yield server


@pytest.fixture
def watch(server: Dovecot, tmp_path: Path) -> Iterator[Watch]:
    """Opens a watcher on the server's emptied mailbox; options go to the account."""
    server.empty()
    yield lambda on=server, **options: watching(on, tmp_path, **options)
    assert "Panic" not in server.log()


def downs(logs: Sequence[MutableMapping[str, Any]]) -> list[str]:
    """Why the account was told to be down, once for each time."""
    return [entry["reason"] for entry in logs if entry["event"] == "imap.down"]


def test_accepts_then_moves(server: Dovecot, watch: Watch) -> None:
    """What waits becomes jobs with the sender's envelope, and is moved, unread, to the folder that is made for it."""
    server.deliver(mail(1), mail(2), sender="bounce@x.test")
    with watch(address="help@example.test") as door:
        until(lambda: server.count("Postroom") == 2)
        until(lambda: server.count("INBOX") == 0)
        assert door.jobs() == 2
        assert uids(server, "Postroom", "SEEN") == []
    envelope, raw, _ = min(door.intake.seen, key=lambda one: one[0].key)
    assert (envelope.source, envelope.kind, envelope.sender) == ("imap:support", Kind.MAIL, "bounce@x.test")
    assert envelope.recipients == ("help@example.test",)
    assert raw.endswith(mail(1))
    assert envelope.key.startswith("<1@x.test> ")


def test_ready_line(server: Dovecot, watch: Watch) -> None:
    """The ready line names the account, the server, the folder and how it is watched."""
    with watch() as door:
        assert door.lines == [f"imap support: 127.0.0.1:{server.imap} INBOX, idle"]
    with watch(idle=False, poll=0.2) as door:
        assert door.lines == [f"imap support: 127.0.0.1:{server.imap} INBOX, poll every 0.2 s"]


def test_idle_wakes(server: Dovecot, watch: Watch) -> None:
    """A mail that arrives during IDLE is taken within seconds, though the next search would be a minute away."""
    with watch(poll=60):
        time.sleep(0.5)
        started = time.monotonic()
        server.deliver(mail(1))
        until(lambda: server.count("Postroom") == 1)
        assert time.monotonic() - started < 50


def test_a_mail_told_of_before_idle_is_not_left_until_the_next_poll(
    server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may tell of it in its answer to any command after the search; IDLE does not tell it again."""
    search, later = ImapSession.search, [1]

    def told_too_late(session: ImapSession, *about: Any) -> list[int]:
        found = search(session, *about)
        if later:
            server.deliver(mail(later.pop()))
            session._client.noop()
        return found

    monkeypatch.setattr(ImapSession, "search", told_too_late)
    with watch(poll=60):
        until(lambda: server.count("Postroom") == 1, 10)


def test_poll_without_idle(server: Dovecot, watch: Watch) -> None:
    """Without IDLE the folder is searched every `poll` seconds."""
    with watch(idle=False, poll=0.2):
        server.deliver(mail(1))
        until(lambda: server.count("Postroom") == 1)


def test_nothing_is_moved_before_it_is_stored(server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the ledger is down mail stays where it is; it is taken, once each, when the ledger is back."""
    monkeypatch.setattr(imap_folder, "LONGEST_WAIT", 0.2)
    with watch() as door, capture_logs() as logs:
        door.intake.fault = LEDGER_DOWN
        server.deliver(mail(1), mail(2))
        until(lambda: any(entry["event"] == "imap.down" for entry in logs))
        time.sleep(1)
        assert server.count("INBOX") == 2
        assert server.count("Postroom") == 0
        door.intake.fault = None
        until(lambda: server.count("Postroom") == 2)
        until(lambda: any(entry["event"] == "imap.up" for entry in logs))
        assert door.jobs() == 2
    assert len([entry for entry in logs if entry["event"] == "imap.down"]) == 1, "one line for each outage"


def test_outage(server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the server goes away and comes back, watching goes on, and the outage is one line in the log."""
    monkeypatch.setattr(imap_folder, "LONGEST_WAIT", 0.2)
    with watch() as door, capture_logs() as logs:
        server.stop()
        until(lambda: any(entry["event"] == "imap.down" for entry in logs))
        time.sleep(1)
        server.start()
        server.deliver(mail(1))
        until(lambda: server.count("Postroom") == 1)
        assert door.jobs() == 1
    assert len([entry for entry in logs if entry["event"] == "imap.down"]) == 1


@pytest.mark.parametrize(
    ("options", "criteria"),
    [
        ({"after": "seen"}, "SEEN"),
        ({"after": "flag"}, "UNSEEN KEYWORD Postroom"),
        ({"after": "flag", "keyword": "\\Flagged"}, "UNSEEN FLAGGED"),
        ({"after": "nothing"}, "UNSEEN UNFLAGGED UNKEYWORD Postroom"),
    ],
)
def test_marks_what_stays(server: Dovecot, watch: Watch, options: dict[str, Any], criteria: str) -> None:
    """Where mail stays it gets just the mark that is asked for, and is not fetched again, not by a new process either."""
    server.deliver(mail(1))
    with watch(**options, idle=False, poll=0.1) as door:
        until(lambda: door.jobs() == 1)
        server.deliver(mail(2))
        until(lambda: door.jobs() == 2)
        until(lambda: uids(server, criteria=criteria) == ["1", "2"])
        time.sleep(0.5)
        assert len(door.intake.seen) == 2
    with watch(**options, idle=False, poll=0.1) as door:
        server.deliver(mail(3))
        until(lambda: door.jobs() == 3)
        assert len(door.intake.seen) == 1


def test_deletes(server: Dovecot, watch: Watch) -> None:
    """`after = "delete"` removes what was accepted, and nothing else."""
    server.deliver(mail(1), mail(2))
    with server.mailbox() as box:
        box.client.uid("STORE", "1", "+FLAGS", r"(\Deleted)")
    with watch(after="delete") as door:
        until(lambda: uids(server) == ["1"])
        assert door.jobs() == 1


def test_too_large(server: Dovecot, watch: Watch) -> None:
    """A mail over the limit goes to the failed folder without being fetched; the others are taken."""
    server.deliver(mail(1), mail(2, 50_000), mail(3))
    with watch(max_size=20_000) as door, capture_logs() as logs:
        until(lambda: server.count("Postroom") == 2)
        until(lambda: server.count("Postroom-Failed") == 1)
        assert door.jobs() == 2
    assert all("more than max_size" in entry["reason"] for entry in logs if entry["event"] == "imap.refused")


def test_many_in_bulks(server: Dovecot, watch: Watch) -> None:
    """More mails than fit in one bulk arrive all, each once."""
    server.deliver(*(mail(number) for number in range(120)))
    with watch() as door:
        until(lambda: server.count("Postroom") == 120)
        assert door.jobs() == len(door.intake.seen) == 120


def test_same_mail_twice_in_the_mailbox(server: Dovecot, watch: Watch) -> None:
    """Two copies of one mail are one job, and both are put away."""
    server.deliver(mail(1), mail(1))
    with watch() as door:
        until(lambda: server.count("Postroom") == 2)
        assert door.jobs() == 1


def test_other_peoples_deleted_mail_stays(server: Dovecot, watch: Watch) -> None:
    """A mail that somebody marked as deleted is neither taken nor expunged."""
    server.deliver(mail(1), mail(2))
    with server.mailbox() as box:
        box.client.uid("STORE", "1", "+FLAGS", r"(\Deleted)")
    with watch():
        until(lambda: server.count("Postroom") == 1)
    assert uids(server) == ["1"]


@pytest.mark.parametrize(
    ("capability", "left"),
    [("IMAP4rev1 UIDPLUS IDLE", ["1"]), ("IMAP4rev1 IDLE", ["1", "2"])],
)
def test_server_without_move(watch: Watch, capability: str, left: list[str]) -> None:
    """Without MOVE mail is copied and expunged by UID; without UIDPLUS too, it is left marked as deleted."""
    with running(capability=capability) as server:
        server.deliver(mail(1), mail(2))
        with server.mailbox() as box:
            box.client.uid("STORE", "1", "+FLAGS", r"(\Deleted)")
        with watch(server) as door:
            until(lambda: server.count("Postroom") == 1)
            until(lambda: uids(server) == left)
            assert door.jobs() == 1


def test_refused_mail_goes_to_the_failed_folder(server: Dovecot, watch: Watch) -> None:
    """A mail that can never be accepted is put where a person finds it."""
    server.deliver(mail(1))
    with watch(idle=False, poll=0.1) as door:
        until(lambda: server.count("Postroom") == 1)
        door.intake.fault = Permanent("no such thing")
        server.deliver(mail(2))
        until(lambda: server.count("Postroom-Failed") == 1)
        door.intake.fault = None
        server.deliver(mail(3))
        until(lambda: server.count("Postroom") == 2)


def test_target_folder_removed(server: Dovecot, watch: Watch) -> None:
    """A folder to move to that somebody removes is made again."""
    with watch(idle=False, poll=0.1):
        with server.mailbox() as box:
            box.folder.delete("Postroom")
        server.deliver(mail(1))
        until(lambda: server.count("Postroom") == 1)


def test_cannot_put_away(server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server will not move is neither fetched again nor in the way, and is moved once it can be."""
    original = imap_settling.move
    allowed = threading.Event()

    def move(*arguments: Any) -> Any:
        if not allowed.is_set():
            raise RefusedError("MOVE refused: over quota")
        return original(*arguments)

    monkeypatch.setattr(imap_settling, "move", move)
    monkeypatch.setattr(imap_folder, "STUCK_WAIT", 0.1)
    server.deliver(mail(1))
    with capture_logs() as logs, watch(idle=False, poll=0.1) as door:
        server.deliver(mail(2))
        until(lambda: len(door.intake.seen) == 2)
        time.sleep(0.5)
        assert len(door.intake.seen) == 2
        allowed.set()
        until(lambda: server.count("Postroom") == 2)
        assert len([entry for entry in logs if entry["event"] == "imap.stuck"]) == 1
        allowed.clear()
        server.deliver(mail(3))
        until(lambda: len([entry for entry in logs if entry["event"] == "imap.stuck"]) == 2)
        allowed.set()
        until(lambda: server.count("Postroom") == 3)
    assert len([entry for entry in logs if entry["event"] == "imap.stuck"]) == 2, "one line each time it gets stuck"


def test_max_age(server: Dovecot, watch: Watch) -> None:
    """Mail that arrived longer ago than the limit is left alone."""
    with server.mailbox() as box:
        box.client.append("INBOX", "", '"01-Jan-2020 12:00:00 +0000"', mail(1))  # type: ignore[arg-type]
    server.deliver(mail(2))
    with watch(max_age_days=7):
        until(lambda: server.count("Postroom") == 1)
        until(lambda: server.count("INBOX") == 1)


def test_max_age_after_an_outage(server: Dovecot, watch: Watch, tmp_path: Path) -> None:
    """What arrived during an outage longer than the limit is taken; then the limit counts from today again."""
    with watch(max_age_days=7) as door:
        rows = door.intake.ledger.imap_folders
        now = time.time() * 1000
        rows.update("support", "INBOX", since=int(now - 40 * 86_400_000))
    with server.mailbox() as box:
        for number, days in ((1, 60), (2, 30)):
            day = time.strftime("%d-%b-%Y", time.gmtime(time.time() - days * 86_400))
            box.client.append("INBOX", "", f'"{day} 12:00:00 +0000"', mail(number))  # type: ignore[arg-type]
    with watch(max_age_days=7) as door:
        rows = door.intake.ledger.imap_folders
        until(lambda: server.count("Postroom") == 1)
        until(lambda: rows.get("support", "INBOX").since > now - 8 * 86_400_000)
        until(lambda: server.count("INBOX") == 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"password": "wrong"}, f"login of '{USER}' refused: .*AUTHENTICATIONFAILED"),
        ({"folders": ["Nowhere"]}, "cannot open folder 'Nowhere': .*doesn't exist"),
        ({"security": "tls"}, "SSL|record layer|wrong version"),
        ({"port": 1}, "Connection refused"),
        ({"move_to": "a/../b"}, "cannot create folder .*create it, or write the name"),
    ],
)
def test_setup_faults_are_told(
    server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
) -> None:
    """What an admin got wrong is one clear warning; the watcher waits and tries again."""
    monkeypatch.setattr(imap_folder, "LONGEST_WAIT", 0.1)
    server.deliver(mail(1))
    with capture_logs() as logs, watch(lines=0, **options) as door:
        until(lambda: downs(logs))
        time.sleep(0.5)
        assert door.said.empty(), "it cannot become ready"
    told = downs(logs)
    assert len(told) == 1
    assert re.search(words, told[0])
    assert "wrong" not in told[0].replace("wrong version", ""), "the password stays out of the log"
    assert server.count("INBOX") == 1


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_encryption_is_verified(watch: Watch, tmp_path: Path, security: str) -> None:
    """TLS works with a certificate that is trusted and made for the name, and with no other."""
    chain, key = certificate(tmp_path)
    with running(certificate=(chain, key)) as server:
        server.deliver(mail(1))
        port = server.imaps if security == "tls" else server.imap
        options = {"host": "localhost", "port": port, "security": security}
        with capture_logs() as logs, watch(server, lines=0, **options) as door:
            until(lambda: downs(logs))
            assert door.said.empty(), "an unknown certificate was trusted"
        assert "certificate verify failed" in downs(logs)[0]
        wrong_name = {**options, "host": "127.0.0.1", "ca_file": chain}
        with capture_logs() as logs, watch(server, lines=0, **wrong_name) as door:
            until(lambda: downs(logs))
            assert door.said.empty(), "a certificate for another name was trusted"
        assert "IP address mismatch" in downs(logs)[0]
        with watch(server, **options, ca_file=chain, poll=60) as door:
            until(lambda: server.count("Postroom") == 1)
            server.deliver(mail(2))
            until(lambda: server.count("Postroom") == 2)
            assert door.jobs() == 2
