"""Who is told that a mailbox is not read: /readyz, systemd, and a person, once each way."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from config.imap import ImapAccount
from config.settings import Settings
from daemon.listeners import imap_watchdog
from daemon.listeners.imap_clock import Clock
from daemon.listeners.imap_watchdog import Pulse, Watchdog
from daemon.web.api import health
from daemon.web.mailboxes import stale_folders
from tasks.ledger import Ledger, Watched

ACCOUNT = ImapAccount(host="mail.example", user="u", stale_after=900, alert_after=600)


class HandClock(Clock):
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def now(self) -> float:
        return self.at


class Watch:
    """One folder with its watchdog, as one process has them."""

    def __init__(self, ledger: Ledger, clock: HandClock, alerts: list[tuple[str, str, str]]) -> None:
        self.clock = clock
        self.pulse = Pulse(ledger.imap_folders, "support", ACCOUNT, "INBOX", clock)
        self.dog = Watchdog([self.pulse], lambda *alert: alerts.append(alert), clock)

    def after(self, seconds: float, *, down: str = "", searched: bool = False, found: bool = False) -> bool:
        """Let time pass and something happen; what the watchdog says."""
        self.clock.at += seconds
        if searched or found:
            self.pulse.searched(7)
        if down:
            self.pulse.down(down)
        if searched:
            self.pulse.up()
        return self.dog.look()


def test_one_alert_an_outage_and_one_at_its_end(ledger: Ledger) -> None:
    """Ten minutes of failing tries make one alert, a restart in between none, and the first whole search ends it."""
    alerts: list[tuple[str, str, str]] = []
    clock = HandClock()
    watch = Watch(ledger, clock, alerts)
    assert watch.after(1, searched=True)
    assert watch.after(1, down="connection refused")
    assert watch.after(599, down="connection refused")
    assert alerts == []
    assert watch.after(2, down="connection refused")
    assert [one[1] for one in alerts] == ["mailbox support/INBOX is not read"]
    assert "connection refused" in alerts[0][2]
    watch = Watch(ledger, clock, alerts)
    assert watch.after(60, down="connection refused")
    assert len(alerts) == 1
    assert watch.after(60, searched=True)
    assert [one[1] for one in alerts[1:]] == ["mailbox support/INBOX is read again"]
    assert watch.after(60, down="again")
    assert watch.after(30, searched=True)
    assert len(alerts) == 2, "a short outage is nobody's business"


def test_mail_that_is_found_but_not_taken_is_an_outage(ledger: Ledger, settings: Settings) -> None:
    """While every search succeeds and every take fails, one alert goes out, /readyz fails and systemd is not fed."""
    alerts: list[tuple[str, str, str]] = []
    clock = HandClock()
    watch = Watch(ledger, clock, alerts)
    assert watch.after(1, searched=True)
    for _ in range(14):
        assert watch.after(60, found=True)
        assert watch.after(1, down="No space left on device")
    assert [one[1] for one in alerts] == ["mailbox support/INBOX is not read"]
    assert not watch.after(120, found=True)
    rows = ledger.imap_folders.all()
    found = stale_folders({"support": ACCOUNT}, rows, since=1_800_000_000_000, now=clock.now_ms())
    assert found["imap:support/INBOX"].endswith("No space left on device")
    assert len(alerts) == 1, "the mailbox is not read again before a whole round"
    assert watch.after(1, searched=True)
    assert [one[1] for one in alerts[1:]] == ["mailbox support/INBOX is read again"]
    assert stale_folders({"support": ACCOUNT}, ledger.imap_folders.all(), since=0, now=clock.now_ms()) == {}


def test_the_cut_off_waits_for_what_was_not_searched(ledger: Ledger) -> None:
    """`max_age_days` counts back from the last time that nothing was left, however long nothing could be read since."""
    account = ACCOUNT.model_copy(update={"max_age_days": 7})
    clock = HandClock()

    def pulse() -> Pulse:
        return Pulse(ledger.imap_folders, "support", account, "INBOX", clock)

    def days_back(one: Pulse) -> float:
        assert one.since
        return (clock.now() - one.since.timestamp()) / 86_400

    first = pulse()
    assert days_back(first) == 7
    first.down("not up yet")
    clock.at += 10 * 86_400
    assert days_back(pulse()) == 17, "the first cut-off holds, over restarts too"
    again = pulse()
    again.searched(7)
    clock.at += 86_400
    assert days_back(pulse()) == 18, "found is not taken"
    again.caught_up()
    assert days_back(again) == 7
    clock.at += 30 * 86_400
    assert days_back(pulse()) == 37
    account = account.model_copy(update={"max_age_days": 60})
    assert days_back(pulse()) == 60
    account = account.model_copy(update={"max_age_days": 0})
    assert pulse().since is None


def test_an_alert_that_fails_ends_nothing(ledger: Ledger) -> None:
    """Whatever keeps an alert from going out, the watchdog lives, and tells it at a later look."""
    alerts: list[tuple[str, str, str]] = []
    watch = Watch(ledger, HandClock(), alerts)

    def full(*_: str) -> None:
        raise OSError(28, "No space left on device")

    watch.dog._alert = full
    assert watch.after(1, searched=True)
    assert not watch.after(901)
    watch.dog._alert = lambda *alert: alerts.append(alert)
    assert not watch.after(5)
    assert [one[1] for one in alerts] == ["mailbox support/INBOX is not read"]


def test_a_watcher_that_hangs_is_stale(ledger: Ledger) -> None:
    """Without an error but without a search either, systemd is not fed any more, and a person hears of it."""
    alerts: list[tuple[str, str, str]] = []
    watch = Watch(ledger, HandClock(), alerts)
    assert watch.after(0, searched=True)
    assert watch.after(899)
    assert not watch.after(2)
    assert "its search does not come to an end" in alerts[0][2]
    assert not watch.after(100)
    assert watch.after(1, searched=True)
    assert len(alerts) == 2


def test_a_long_rest_is_no_outage(ledger: Ledger) -> None:
    """A process that was stopped in an outage and started a week later has to fail first before it says so."""
    alerts: list[tuple[str, str, str]] = []
    clock = HandClock()
    Watch(ledger, clock, alerts).after(1, down="refused")
    clock.at += 604_800
    watch = Watch(ledger, clock, alerts)
    assert watch.after(1)
    assert watch.after(1, searched=True)
    assert alerts == []


def test_systemd_is_fed_only_while_fresh(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """WATCHDOG=1 is sent at half of the interval that systemd asks for."""
    fed: list[tuple[float, str]] = []
    waits: list[float] = []
    clock = HandClock()
    stop = threading.Event()

    def wait(_stop: threading.Event, seconds: float) -> None:
        waits.append(seconds)
        clock.at += 400
        if len(waits) == 5:
            stop.set()

    monkeypatch.setattr(clock, "wait", wait)
    monkeypatch.setattr(imap_watchdog, "notify", lambda line: fed.append((clock.at - 1_800_000_000, line)))
    monkeypatch.setenv("WATCHDOG_USEC", "6000000")
    Watch(ledger, clock, []).dog.run(stop)
    assert fed == [(0, "WATCHDOG=1"), (400, "WATCHDOG=1"), (800, "WATCHDOG=1")]
    assert waits == [3.0] * 5


def test_readyz_names_the_stale_folder(settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with the folder, its last search and the reason; 200 again when it is searched."""
    clock = HandClock()
    monkeypatch.setattr("daemon.web.api.now_ms", clock.now_ms)
    accounts: Any = {"support": ACCOUNT}
    app = FastAPI()
    app.include_router(health(settings.model_copy(update={"imap": accounts}), ledger))
    client = TestClient(app)
    watch = Watch(ledger, clock, [])
    watch.after(1, searched=True)
    assert client.get("/readyz").status_code == 200
    watch.after(1, down="login refused")
    clock.at += 900
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["status"] == "stale"
    assert answer.json()["parts"]["imap:support/INBOX"] == "last searched 2027-01-15T08:00:01Z: login refused"
    watch.after(1, searched=True)
    assert client.get("/readyz").status_code == 200


def test_a_folder_that_nobody_watches_is_stale() -> None:
    """From the moment that somebody asks it has `stale_after`, so that a start is no alarm."""
    accounts = {"support": ACCOUNT}
    assert stale_folders(accounts, {}, since=0, now=900_000) == {}
    found = stale_folders(accounts, {}, since=0, now=900_001)
    assert found == {"imap:support/INBOX": "never searched; is `postroom imap` running?"}
    row = Watched("support", "INBOX", searched_at=500_000)
    assert stale_folders(accounts, {("support", "INBOX"): row}, since=0, now=900_001) == {}
