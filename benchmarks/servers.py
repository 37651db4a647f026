"""Servers that a benchmark talks to, each in a process of its own on loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def running(
    stack: str, folder: Path, environment: Mapping[str, str], http: str = "httptools"
) -> Iterator[tuple[int, int]]:
    """`benchmarks.stacks.<stack>:app` under uvicorn, as fast as uvicorn goes; yields port and process id."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log_file = folder / f"{stack}.log"
    command = [sys.executable, "-m", "uvicorn", f"benchmarks.stacks.{stack}:app", "--port", str(port)]
    command += ["--loop", "uvloop", "--http", http, "--no-access-log", "--no-proxy-headers", "--log-level", "warning"]
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=log, stdout=log, cwd=ROOT)
    try:
        _wait_for(port, process, log_file)
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def _wait_for(port: int, process: subprocess.Popen[bytes], log_file: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"the server did not start:\n{log_file.read_text()[-2000:]}")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Resident memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))
