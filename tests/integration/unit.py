"""What systemd does for one service, in a test: the notify socket, listening sockets handed over, signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
HAND_OVER = """
import os, sys
number = int(sys.argv[1])
if number:  # sd_listen_fds(3): from 3 on, and only for the process that is named
    os.dup2(int(sys.argv[2]), 3)
    os.set_inheritable(3, True)
    os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": sys.argv[3]}
os.execv(sys.executable, [sys.executable, "-m", "daemon.cli", *sys.argv[4:]])
"""


class Unit:
    """A `postroom` process and what it has told so far."""

    def __init__(self, process: subprocess.Popen[bytes], notified: socket.socket, log: Path) -> None:
        self.process = process
        self._notified = notified
        self._log = log
        self.lines: list[str] = []

    def wait_for(self, line: str, seconds: float = 60) -> str:
        """The first line from now on, or the last one told already, that begins with `line`."""
        deadline = time.monotonic() + seconds
        while True:
            if found := next((one for one in reversed(self.lines) if one.startswith(line)), ""):
                return found
            self._notified.settimeout(max(0.1, deadline - time.monotonic()))
            self.lines += self._notified.recv(65536).decode().splitlines()

    def forget(self) -> None:
        """What was told so far counts no more."""
        self.lines.clear()

    def log_has(self, words: str, seconds: float = 60) -> str:
        """The line of the log with these words, once it is there."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := next((one for one in self._log.read_text().splitlines() if words in one), ""):
                return found
            time.sleep(0.05)
        raise AssertionError(f"no line with {words!r}:\n{self._log.read_text()}")

    def hang_up(self) -> None:
        """What ExecReload= does."""
        self.process.send_signal(signal.SIGHUP)


@contextmanager
def unit(
    folder: Path, config: Path, *command: str, sock: socket.socket | None = None, name: str = ""
) -> Iterator[Unit]:
    """Run `postroom COMMAND` until the block ends; `sock` is handed over under `name`."""
    path = folder / f"notify-{time.monotonic_ns()}"
    log = folder / f"log-{time.monotonic_ns()}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("POSTROOM_", "OLLAMA_"))}
    environment |= {
        "NOTIFY_SOCKET": str(path),
        "POSTROOM_CONFIG": str(config),
        "POSTROOM_STATE_DIR": str(folder / "state"),
    }
    number = sock.fileno() if sock else 0
    start = [sys.executable, "-c", HAND_OVER, str(int(bool(sock))), str(number), name, *command]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, log.open("wb") as out:
        notified.bind(str(path))
        process = subprocess.Popen(
            start, cwd=REPOSITORY, env=environment, stderr=out, pass_fds=[number] if sock else [], stdout=out
        )
        try:
            yield Unit(process, notified, log)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(60)
