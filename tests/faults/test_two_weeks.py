"""Two weeks at one mailbox, with the clock turned by hand: tokens end, connections die, the provider is out; no mail is missed.

Dovecot, the token server and the ledger are real; time is not. Whenever the listener waits, the clock jumps to what
happens next, so that a fortnight takes some minutes. Without POSTROOM_TEST_FULL it is one day.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config.imap import ImapAccount
from config.settings import Settings
from daemon.listeners import imap_session
from daemon.listeners.imap_clock import Clock
from daemon.listeners.imap_folder import FolderWatch, Parts
from daemon.listeners.imap_oauth import AccountTokens
from daemon.listeners.imap_watchdog import Pulse, Watchdog
from tasks.intake import Intake
from tasks.ledger.imap_messages import imap_messages
from tests.faults.proxy import Proxy, proxying
from tests.integration.dovecot import USER, Dovecot, running
from tests.integration.mailboxes import mail
from tests.integration.token_server import Provider, providing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
START = 1_800_000_000.0
HOUR, DAY = 3600.0, 86_400.0
DAYS = 14 if os.environ.get("POSTROOM_TEST_FULL") else 1
MAILS = 18 * DAYS
OUTAGE = (DAYS * DAY / 2, DAYS * DAY / 2 + 3 * HOUR)
SEED = 20_260
"""Fixed: the same two weeks each time."""


class Calendar(Clock):
    """A clock that jumps to the next entry whenever somebody waits."""

    def __init__(self) -> None:
        self.at = START
        self._entries: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()

    def enter(self, at: float, what: Callable[[], object]) -> None:
        """Let something happen at a time (seconds after the start)."""
        heapq.heappush(self._entries, (START + at, next(self._numbers), what))

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    def wait(self, stop: threading.Event, seconds: float) -> None:
        until = self.at + seconds
        while self.at < until and not stop.is_set():
            self._jump(until)

    def readable(self, sock: socket.socket, seconds: float) -> bool:
        if super().readable(sock, 0):
            return True
        real = self._jump(self.at + seconds)
        return super().readable(sock, real)

    def _jump(self, until: float) -> float:
        """To the next entry, or to `until`; real seconds to give the server for what has happened."""
        if not self._entries or self._entries[0][0] > until:
            self.at = until
            return 0
        self.at, _, what = heapq.heappop(self._entries)
        return 0.02 if what() == "mail" else 0


class Fortnight:
    """What happens in the two weeks."""

    def __init__(self, server: Dovecot, provider: Provider, proxy: Proxy, calendar: Calendar) -> None:
        self.server, self.provider, self.proxy, self.calendar = server, provider, proxy, calendar
        self.delivered: dict[str, float] = {}
        self.stop = threading.Event()
        self.drops = 0
        dice = random.Random(SEED)
        for number in range(MAILS):
            calendar.enter(dice.uniform(0, DAYS * DAY - HOUR), lambda number=number: self.deliver(number))
        for day in range(DAYS):
            at = day * DAY + dice.uniform(0, DAY - HOUR)
            calendar.enter(at, self.drop)  # the provider's daily disconnect, and mail in the same second
            calendar.enter(at, lambda day=day: self.deliver(1000 + day))
            calendar.enter(at + 1, lambda day=day: self.deliver(2000 + day))
        for number in range(DAYS * 24):
            calendar.enter(number * HOUR + dice.uniform(0, HOUR), self.drop_old)
        for number in range(2 * DAYS):
            calendar.enter(dice.uniform(0, DAYS * DAY), provider.revoke_all if number % 2 else self.proxy.hang)
        calendar.enter(OUTAGE[0], self.begin_outage)
        calendar.enter(OUTAGE[1], self.end_outage)
        calendar.enter(DAYS * DAY, self.stop.set)

    def deliver(self, number: int) -> str:
        self.server.deliver(mail(number))
        self.delivered[f"<{number}@x.test>"] = self.calendar.at
        return "mail"

    def drop(self) -> None:
        self.drops += 1
        self.proxy.drop()

    def drop_old(self) -> None:
        """As Gmail does: a connection lives no longer than the token that opened it."""
        if self.proxy.opened_at and self.calendar.at - self.proxy.opened_at > HOUR:
            self.drop()

    def begin_outage(self) -> None:
        self.provider.refuse = (503, {})
        self.provider.revoke_all()
        self.drop()

    def end_outage(self) -> None:
        self.provider.refuse = None


def test_no_mail_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mail is one job within ten minutes of its delivery (in the outage: of its end), and one alert tells of it."""
    monkeypatch.setattr(imap_session, "SLICE", 120.0)
    calendar = Calendar()
    provider = Provider(USER, calendar.now)
    alerts: list[tuple[str, str, str]] = []
    started = time.monotonic()
    with (
        providing(provider),
        running(introspection=f"{provider.url}/introspect") as server,
        proxying(server.imap, calendar.now) as proxy,
        ThreadPoolExecutor(8) as pool,
    ):
        oauth = {
            "token_url": f"{provider.url}/token",
            "client_id": "client",
            "client_secret": "secret",
            "refresh_token": "refresh-0",
        }
        account = ImapAccount(
            host="127.0.0.1",
            port=proxy.port,
            security="none",
            user=USER,
            oauth=oauth,
            timeout=1,
            poll=600,
            stale_after=1800,
        )
        intake = Intake.open(Settings(state_dir=tmp_path / "state"))
        weeks = Fortnight(server, provider, proxy, calendar)
        tokens = AccountTokens("support", account, tmp_path / "state", calendar)
        parts = Parts(
            "support",
            account,
            intake,
            weeks.stop,
            lambda _: None,
            lambda *one: alerts.append(one),
            tokens,
            pool,
            calendar,
        )
        pulse = Pulse(intake.ledger.imap_folders, "support", account, "INBOX", calendar)
        dog = Watchdog([pulse], parts.alert, calendar)
        for tick in range(DAYS * 24 * 12):
            calendar.enter(tick * 300.0, dog.look)
        FolderWatch(parts, "INBOX", pulse).run()
        accepted = _accepted(intake)
        intake.close()
    assert sorted(accepted) == sorted(weeks.delivered)
    assert len(accepted) == MAILS + 2 * DAYS
    late = {one: at - weeks.delivered[one] for one, at in accepted.items() if not _in_outage(weeks.delivered[one])}
    assert max(late.values()) < 600
    held = [at - START - OUTAGE[1] for one, at in accepted.items() if _in_outage(weeks.delivered[one])]
    assert max(held) < 600
    assert [one[1] for one in alerts] == ["mailbox support/INBOX is not read", "mailbox support/INBOX is read again"]
    assert weeks.drops > 8 * DAYS
    assert len(provider.asked) > 15 * DAYS, "tokens ended hourly"
    print(
        f"{len(accepted)} mails, {weeks.drops} disconnects, {len(provider.asked)} tokens, {time.monotonic() - started:.0f} s"
    )


def _accepted(intake: Intake) -> dict[str, float]:
    """When each mail was accepted, by its Message-ID; fails when one was accepted twice."""
    with intake.ledger.database.read() as connection:
        rows = connection.execute(imap_messages.select()).all()
    assert len({row.message_id for row in rows}) == len({row.job_id for row in rows}) == len(rows)
    return {row.message_id: row.seen_at / 1000 for row in rows}


def _in_outage(at: float) -> bool:
    return OUTAGE[0] - 600 < at - START < OUTAGE[1]
