"""The mail that Postroom sends to itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.imap import ImapAccount
from config.settings import Settings
from daemon.checks import canaries
from daemon.listeners.imap import run
from daemon.listeners.imap_canary import HEADER, Canary
from daemon.listeners.imap_clock import Clock
from tests.integration.doors import opened, until
from tests.integration.dovecot import USER, Dovecot, running
from tests.integration.mailboxes import account, mail, uids


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with running() as server:
        yield server


def test_it_times_the_way_in(server: Dovecot, tmp_path: Path) -> None:
    """It comes back through the mailbox past any filter, is timed and removed, and is no job; other mail stays mail."""
    server.empty()
    server.deliver(mail(1))
    section = account(server, canary=60, filter={"sender": ["*@x.test"]})
    out = {"host": "127.0.0.1", "port": server.lmtp, "protocol": "lmtp", "sender": "desk@ours.example"}
    with opened(run, tmp_path, lines=1, imap={"support": section}, smtp_out=out) as door:
        rows = door.intake.ledger.imap_folders
        until(lambda: rows.get("support", "INBOX").canary_ms > 0, 20)
        until(lambda: uids(server) == [])
        assert door.jobs() == 1
        assert rows.get("support", "INBOX").canary_ms < 20_000
        assert [one.state for one in canaries(door.settings.imap, door.intake.ledger)] == ["ok"]


def test_nobody_else_can_make_one(tmp_path: Path) -> None:
    """Only our own signature for this account counts; a mail that copies the header is taken like any other."""
    settings = Settings(state_dir=tmp_path)
    section = ImapAccount(host="127.0.0.1", user=USER, canary=60)
    canary = Canary("support", section, settings, Clock())
    signed = f"{HEADER}: 1700000000000.{canary._sign(1700000000000)}\r\n\r\n".encode()
    assert canary.sent_at(signed) == 1700000000000
    assert canary.sent_at(signed.replace(b"17000", b"17001", 1)) == 0
    assert Canary("sales", section, settings, Clock()).sent_at(signed) == 0
    assert canary.sent_at(f"{HEADER}: 1.{'0' * 32}\r\n\r\n".encode()) == 0
    assert canary.sent_at(b"Subject: x\r\n\r\n") == 0
