"""Mail keeps arriving while the mail server, the listener and the ledger are killed at random: each mail is one job.

`make faults` takes 500 mails through 20 faults and two new UIDVALIDITYs; without POSTROOM_TEST_FULL a short selection.
The seed is printed; POSTROOM_TEST_SEED repeats a run.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import smtplib
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.dovecot import PASSWORD, USER, Dovecot, running
from tests.integration.mailboxes import mail

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
REPO = Path(__file__).resolve().parents[2]
FULL = bool(os.environ.get("POSTROOM_TEST_FULL"))
MAILS, FAULTS, ANEW = (500, 20, 2) if FULL else (60, 3, 1)
OTHERS = 10
LONG_LOCK = 17.0
"""Seconds: longer than SQLite waits for a lock, so that accepting fails; only in the long run."""


class Scene:
    """A mailbox, a listener on it, and the ways in which they fail."""

    def __init__(self, server: Dovecot, home: Path, dice: random.Random) -> None:
        self.server = server
        self.dice = dice
        self.path = home / "state" / "ledger.db"
        self.log = home / "log"
        self.delivered = 0
        self._config = home / "postroom.toml"
        self._config.write_text(
            f'state_dir = "{home / "state"}"\nlog_format = "json"\n[imap.support]\nhost = "127.0.0.1"\n'
            f'port = {server.imap}\nsecurity = "none"\nuser = "{USER}"\npassword = {json.dumps(PASSWORD)}\n'
            'after = "seen"\npoll = 1\ntimeout = 10\nfilter.sender = ["*@x.test"]\n'
        )
        self.start_listener()

    def start_listener(self) -> None:
        """Start `postroom imap`."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
        command = [sys.executable, "-m", "daemon.cli", "--config", str(self._config), "imap"]
        with self.log.open("ab") as log:
            self.listener = subprocess.Popen(command, cwd=REPO, env=environment, stderr=log, stdout=log)

    def kill_listener(self) -> None:
        """kill -9 wherever it is, and start it again."""
        self.listener.kill()
        self.listener.wait(10)
        self.start_listener()

    def kill_server(self) -> None:
        """kill -9 of every process of Dovecot; it is back after a moment."""
        self.server.kill()
        time.sleep(self.dice.uniform(0, 2))
        self.server.start()

    def lock_ledger(self, seconds: float) -> None:
        """Hold the write lock."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as ledger:
            ledger.execute("BEGIN EXCLUSIVE")
            time.sleep(seconds)
            ledger.execute("ROLLBACK")

    def keys(self) -> list[str]:
        """The key of every job."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=30)) as ledger:
            return [row[0] for row in ledger.execute("SELECT key FROM jobs")]

    def deliver_all(self, messages: list[bytes], seconds: float) -> None:
        """Deliver over LMTP as a mail server does: what is not acknowledged is sent again, perhaps a second time."""
        for message in messages:
            while True:
                with contextlib.suppress(OSError, smtplib.SMTPException):
                    self.server.deliver(message)
                    break
                time.sleep(0.2)
            self.delivered += 1
            time.sleep(seconds / len(messages))


def unmarked(server: Dovecot) -> Counter[str]:
    """From whom the messages are that carry no mark at all."""
    with server.mailbox() as box:
        box.folder.set("INBOX")
        found = box.fetch("UNSEEN UNFLAGGED UNDELETED UNANSWERED", mark_seen=False, headers_only=True, bulk=50)
        return Counter(message.from_ for message in found)


def test_every_mail_is_one_job(tmp_path: Path) -> None:
    """None is lost, none is taken twice, and mail that the filter passes over is untouched."""
    seed = int(os.environ.get("POSTROOM_TEST_SEED") or time.time_ns() % 1_000_000)
    print(f"POSTROOM_TEST_SEED={seed}")
    dice = random.Random(seed)
    messages = [mail(number, dice.choice([0, 500, 80_000])) for number in range(MAILS)]
    others = [mail(10_000 + number, From="Bob <bob@elsewhere.test>") for number in range(OTHERS)]
    faults = ["listener", "server", "ledger"] * (FAULTS // 3 + 1)
    faults = dice.sample(faults[:FAULTS], FAULTS)
    for _ in range(ANEW):
        faults.insert(dice.randrange(len(faults) // 2, len(faults) + 1), "anew")
    with running() as server:
        scene = Scene(server, tmp_path, dice)
        try:
            _wait(scene, lambda: scene.path.exists() and scene.keys() == [], "the listener")
            mixed = dice.sample(messages + others, MAILS + OTHERS)
            sender = threading.Thread(target=scene.deliver_all, args=(mixed, FAULTS * 3.5), daemon=True)
            sender.start()
            _go_wrong(scene, faults, len(mixed))
            sender.join(300)
            assert not sender.is_alive()
            _wait(scene, lambda: len(scene.keys()) >= MAILS, "the last mail")
            _wait(scene, lambda: set(unmarked(server)) == {"bob@elsewhere.test"}, "the last mark")
            time.sleep(1)
            keys = scene.keys()
            assert sorted(key.split()[0] for key in keys) == sorted(f"<{number}@x.test>" for number in range(MAILS))
            with server.mailbox() as box:
                box.folder.set("INBOX")
                bobs = box.uids('FROM "bob@elsewhere.test"')
            assert unmarked(server)["bob@elsewhere.test"] == len(bobs) >= OTHERS
        finally:
            scene.listener.terminate()
            scene.listener.wait(30)
    assert "Traceback" not in scene.log.read_text()


def _go_wrong(scene: Scene, faults: list[str], mails: int) -> None:
    """Spread over the time in which the mail arrives, however slow the machine is."""
    long_lock = FULL
    for number, fault in enumerate(faults):
        _wait(scene, lambda number=number: scene.delivered >= mails * number // len(faults), f"mail for fault {number}")
        time.sleep(scene.dice.uniform(0.2, 2))
        print(f"{time.strftime('%X')} {fault}, {scene.delivered} mails, {len(scene.keys())} jobs", flush=True)
        if fault == "listener":
            scene.kill_listener()
        elif fault == "server":
            scene.kill_server()
        elif fault == "anew":
            with contextlib.suppress(ProcessLookupError):
                scene.server.renumber()
        else:
            scene.lock_ledger(LONG_LOCK if long_lock else scene.dice.uniform(0.5, 4))
            long_lock = False


def _wait(scene: Scene, holds: object, what: str, seconds: float = 240) -> None:
    assert callable(holds)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert scene.listener.poll() is None, f"the listener ended\n{_tail(scene)}"
        with contextlib.suppress(sqlite3.OperationalError, OSError):
            if holds():
                return
        time.sleep(0.2)
    raise AssertionError(f"{what} did not come in {seconds} s; {len(scene.keys())} jobs\n{_tail(scene)}")


def _tail(scene: Scene) -> str:
    return "\n".join(scene.log.read_text().splitlines()[-20:])
