"""One process reads a folder: a second one waits, and what it writes all the same changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from daemon.listeners import imap_folder, imap_owner
from daemon.listeners.imap_clock import Clock
from daemon.listeners.imap_owner import Claim
from daemon.listeners.imap_watchdog import Pulse, Watchdog
from tasks.errors import Unavailable
from tasks.heart import this_process
from tasks.ledger import Ledger
from tasks.ledger.imap_messages import Known, Mark, Place, Taken
from tests.integration.doors import until
from tests.integration.dovecot import Dovecot, running
from tests.integration.mailboxes import mail, watching
from tests.unit.test_imap_watchdog import ACCOUNT, HandClock

PLACE = Place("support", "INBOX", 7)


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with running() as server:
        yield server


class SteadyClock(HandClock):
    """A clock moved by hand, the one that never runs back included."""

    def monotonic(self) -> float:
        return self.at


def claims(ledger: Ledger, *owners: str) -> list[Claim]:
    """A claim on one folder for each of several processes, all with one clock."""
    clock = SteadyClock()
    found = [Claim(ledger.imap_folders, "support", "INBOX", clock) for _ in owners]
    for claim, owner in zip(found, owners, strict=True):
        claim.owner = owner
    return found


def test_the_first_one_reads(ledger: Ledger) -> None:
    """The second is told who does; once that has let go it is its turn."""
    first, second = claims(ledger, this_process(), "elsewhere/1:5:7")
    assert first.take() == ""
    assert first.take() == ""
    assert second.take() == "a process of another machine"
    second.owner = this_process() + "0"
    assert second.take() == f"process {os.getpid()}"
    first.release()
    assert second.take() == ""


def test_a_process_that_ended_is_followed_at_once(ledger: Ledger) -> None:
    """Killed on this machine, its claim lasts no longer than it did."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        start = Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[19]
        host = this_process().partition(":")[0]
        dead, mine = claims(ledger, f"{host}:{other.pid}:{start}", this_process())
        assert dead.take() == ""
        assert mine.take() == f"process {other.pid}"
        other.send_signal(signal.SIGKILL)
        other.wait(10)
    assert mine.take() == ""
    assert mine.take() == ""


def test_a_process_elsewhere_is_followed_when_its_beat_stands_still(ledger: Ledger) -> None:
    """As long as it beats it is left alone, by whatever clock; a minute without a beat, and one other takes over."""
    far, near, third = claims(ledger, "elsewhere/1:5:7", this_process(), "third/1:5:7")
    assert far.take() == ""
    for _ in range(10):
        assert near.take()
        near._clock.at += imap_owner.TAKE_AFTER / 2  # type: ignore[attr-defined]  # the hand-moved clock
        far.beat()
    near._clock.at += imap_owner.TAKE_AFTER / 2  # type: ignore[attr-defined]  # the same
    assert near.take()
    third.take()
    near._clock.at += imap_owner.TAKE_AFTER + 1  # type: ignore[attr-defined]  # the same
    assert near.take() == ""
    assert third.take(), "who saw the old beat does not take it from the one that took it first"


def test_who_lost_the_folder_writes_nothing(ledger: Ledger) -> None:
    """Whatever a process that was stopped and wakes up still has in hand, the rows stay as the new one wrote them."""
    old, new = claims(ledger, "elsewhere/1:5:7", this_process())
    assert old.take() == ""
    rows = ledger.imap_messages.owned_by(old.owner)
    rows.begin(PLACE, [1], 10)
    ledger.imap_folders.release("support", "INBOX", old.owner)
    assert new.take() == ""
    mine = ledger.imap_messages.owned_by(new.owner)
    mine.accepted(PLACE, [Taken(1, "job", "<1@x.test>", 5)], follows=False, now=11)
    for late in (
        lambda: rows.failed(PLACE, 1, Known(Mark.SUSPECT, 3)),
        lambda: rows.begin(PLACE, [1, 2], 12),
        lambda: rows.spared(PLACE, [1], 12),
        lambda: rows.passed_over(PLACE, {1: "x"}, Mark.QUARANTINED, 12),
        lambda: rows.forget(PLACE, [], 99),
    ):
        with pytest.raises(Unavailable, match="another process reads this folder by now"):
            late()
    assert {uid: one.mark for uid, one in mine.known(PLACE).items()} == {1: Mark.ACCEPTED}
    ledger.imap_folders.update("support", "INBOX", by=old.owner, down_since=5)
    assert ledger.imap_folders.get("support", "INBOX").down_since == 0


def test_a_waiting_process_alarms_nobody(ledger: Ledger) -> None:
    """The one that waits feeds systemd and tells of no outage: whoever reads the folder does."""
    clock, alerts = HandClock(), list[str]()
    pulse = Pulse(ledger.imap_folders, "support", ACCOUNT, "INBOX", clock)
    dog = Watchdog([pulse], lambda key, *_: alerts.append(key), clock)
    pulse.standby = True
    clock.at += 86_400
    assert dog.look()
    pulse.take_over()
    assert dog.look()
    clock.at += 901
    assert not dog.look()
    assert len(alerts) == 1


def test_two_listeners_on_one_mailbox(server: Dovecot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second says at once that it waits, takes nothing, and goes on when the first has ended."""
    server.empty()
    monkeypatch.setattr(imap_folder, "STANDBY_WAIT", 0.1)
    first, second = ExitStack(), ExitStack()
    with first, second, capture_logs() as logs:
        one = first.enter_context(watching(server, tmp_path, poll=0.1, idle=False))
        monkeypatch.setattr(imap_owner, "this_process", lambda: this_process() + "0")
        two = second.enter_context(watching(server, tmp_path, poll=0.1, idle=False))
        assert two.lines == [f"imap support: INBOX is read by process {os.getpid()}; this one waits until that ends"]
        server.deliver(mail(1))
        until(lambda: len(one.intake.seen) == 1)
        until(lambda: server.count("Postroom") == 1)
        time.sleep(0.3)
        assert two.intake.seen == []
        first.close()
        server.deliver(mail(2))
        until(lambda: len(two.intake.seen) == 1)
        assert two.jobs() == 2
    events = [entry["event"] for entry in logs]
    assert events.count("imap.read_by_another") == 1
    assert events.count("imap.taken_over") == 1
    assert "imap.down" not in events


def test_the_watchdog_beats(ledger: Ledger) -> None:
    """While folders are read their beat grows, during a long IDLE too, and nobody else's does."""
    stop = threading.Event()
    pulses = [Pulse(ledger.imap_folders, "support", ACCOUNT, folder, Clock()) for folder in ("INBOX", "Bills", "Spam")]
    pulses[2].claim.owner = "elsewhere/1:5:7"
    for pulse in pulses:
        assert pulse.claim.take() == ""
    pulses[0].claim._beat_at -= imap_owner.BEAT_EVERY
    thread = threading.Thread(target=Watchdog(pulses, lambda *_: None, Clock()).run, args=(stop,))
    thread.start()
    try:
        until(lambda: ledger.imap_folders.get("support", "INBOX").beat == 2)
    finally:
        stop.set()
        thread.join(20)
    assert [ledger.imap_folders.get("support", folder).beat for folder in ("Bills", "Spam")] == [2, 1]
