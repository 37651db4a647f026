"""What becomes of an outage: waits that grow, with jitter, and an alert that stands in the ledger like any job."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from config.imap import ImapAccount
from daemon.listeners import imap_folder, imap_watchdog
from daemon.listeners.imap import run
from daemon.listeners.imap_clock import Clock
from daemon.listeners.imap_folder import LONGEST_WAIT, FolderWatch, Parts
from daemon.listeners.imap_watchdog import Pulse
from tasks.intake import Intake
from tasks.ledger.schema import jobs
from tests.integration.doors import Door, opened, until
from tests.integration.dovecot import Dovecot, running
from tests.integration.mailboxes import account, mail, watching


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with running() as server:
        yield server


class Waits(Clock):
    """Notes how long somebody wanted to wait, and lets nobody wait; after so many waits it is over."""

    def __init__(self, most: int, stop: threading.Event) -> None:
        self.seconds: list[float] = []
        self._most = most
        self._stop = stop

    def wait(self, stop: threading.Event, seconds: float) -> None:
        self.seconds.append(seconds)
        if len(self.seconds) == self._most:
            self._stop.set()


def waits(intake: Intake, most: int, section: dict[str, Any]) -> list[float]:
    """The waits between the first tries of a watcher that cannot connect."""
    stop = threading.Event()
    clock = Waits(most, stop)
    given = ImapAccount(**section)
    pulse = Pulse(intake.ledger.imap_folders, "support", given, "INBOX", clock)
    with ThreadPoolExecutor(1) as pool:
        parts = Parts("support", given, intake, stop, lambda _: None, lambda *_: None, None, pool, clock)
        FolderWatch(parts, "INBOX", pulse).run()
    return clock.seconds


@pytest.mark.sqlite_only  # the ledger has no part in it
def test_waits_double_with_jitter(intake: Intake, server: Dovecot) -> None:
    """From a second to five minutes, each between half of that and all of it; a refused login begins with 30 s."""
    for section, base in ((account(server, port=1), 1.0), (account(server, password="wrong"), 30.0)):
        runs = [waits(intake, 11 if base == 1.0 else 5, section) for _ in range(2)]
        for seconds in runs:
            full = [min(LONGEST_WAIT, base * 2**number) for number in range(len(seconds))]
            assert all(whole / 2 <= one <= whole for one, whole in zip(seconds, full, strict=True))
            assert full[-1] == LONGEST_WAIT
        assert runs[0] != runs[1], "two watchers do not come back in step"


def told(door: Door) -> list[str]:
    """What the alerts in the ledger say, the first one first."""
    query = sa.select(jobs.c.subject).where(jobs.c.source == "postroom").order_by(jobs.c.received_at)
    with door.intake.ledger.database.read() as connection:
        return list(connection.execute(query).scalars())


def test_an_outage_is_a_job_of_its_own(server: Dovecot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server goes away and comes back: one alert each, in the ledger, and the mail that came meanwhile is taken."""
    server.empty()
    monkeypatch.setattr(imap_folder, "LONGEST_WAIT", 0.2)
    monkeypatch.setattr(imap_watchdog, "LOOK_EVERY", 0.1)
    with watching(server, tmp_path, alert_after=0.5, poll=0.1, idle=False) as door:
        server.stop()
        try:
            until(lambda: told(door) == ["mailbox support/INBOX is not read"], 20)
        finally:
            server.start()
        server.deliver(mail(1))
        until(lambda: door.jobs() == 1, 20)
        until(lambda: told(door)[1:] == ["mailbox support/INBOX is read again"], 20)


def test_one_account_does_not_wait_for_another(server: Dovecot, tmp_path: Path) -> None:
    """Two accounts, one of which cannot be reached: the other one's mail is taken, each under its own name."""
    server.empty()
    server.deliver(mail(1))
    good, bad = account(server, idle=False, poll=0.1), account(server, port=1)
    with opened(run, tmp_path, lines=1, imap={"sales": bad, "support": good}) as door:
        until(lambda: door.jobs() == 1, 20)
        assert [envelope.source for envelope, *_ in door.intake.seen] == ["imap:support"]
        until(lambda: door.intake.ledger.imap_folders.get("sales", "INBOX").down_since)
        assert door.intake.ledger.imap_folders.get("support", "INBOX").down_since == 0
