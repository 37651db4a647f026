"""`postroom up` and its parts: what becomes of them when the supervisor is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

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
