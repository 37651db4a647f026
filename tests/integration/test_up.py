"""`postroom up`: what becomes of its parts when it is killed, and how it begins while the ledger is away."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config.settings import Settings
from daemon import up
from tests.street import REPO, until

SUPERVISOR = """
import sys, time
from pathlib import Path
from config.settings import Settings
from daemon.up import Supervisor
supervisor = Supervisor(Settings(), None, Path(sys.argv[1]))
child = supervisor.add("child", "http.server", "0", "--bind", "127.0.0.1", embedded=True)
print(child.process.pid, flush=True)
time.sleep(600)
"""


def test_its_parts_die_with_it(tmp_path: Path) -> None:
    """kill -9 of the supervisor leaves no orphan that would hold the ports: it can be started again at once."""
    command = [sys.executable, "-c", SUPERVISOR, str(tmp_path)]
    with subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout
        child = int(supervisor.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait(30)
    until(lambda: not Path(f"/proc/{child}/exe").exists(), 30, "the end of the child")


@pytest.mark.parametrize("obstacle", ["ledger.db", "ledger.db.migrating"])
def test_it_waits_for_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str) -> None:
    """A ledger that cannot be opened, as on a full disk, ends nothing: it begins when that has passed."""
    monkeypatch.setattr(up, "LEDGER_WAIT", 0.1)
    waited = threading.Event()
    monkeypatch.setattr("tasks.log.up_waits", lambda *_: waited.set())
    (tmp_path / obstacle).mkdir()
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        begun = pool.submit(up.migrated, Settings(state_dir=tmp_path), stop)
        try:
            assert waited.wait(30)
            assert not begun.done()
            (tmp_path / obstacle).rmdir()
            assert begun.result(30)
        finally:
            stop.set()


def test_it_stops_while_it_waits(tmp_path: Path) -> None:
    """SIGTERM ends the waiting."""
    (tmp_path / "ledger.db").mkdir()
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    assert not up.migrated(Settings(state_dir=tmp_path), stop)


def test_addresses_that_cannot_be_written_stop_nothing(tmp_path: Path) -> None:
    """They are told when there is room."""
    settings = Settings(state_dir=tmp_path / "later")
    assert not up.tell_addresses(settings, {"web": "http://127.0.0.1:1"})
    settings.state_dir.mkdir()
    assert up.tell_addresses(settings, {"web": "http://127.0.0.1:1"})
    assert up.tell_addresses(settings, {})
    assert not (settings.state_dir / "addresses.json").exists()
