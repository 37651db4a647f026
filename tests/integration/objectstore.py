"""A real S3-compatible server on loopback: versitygw where it is to be had (`make s3` builds it), else moto's.

versitygw keeps its objects in files, as a server in use does; moto is a stand-in, but speaks the same HTTP.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from config.storage import BlobSettings
from tests.ports import free_port

ACCESS, SECRET = "postroom", "a-secret-of-the-tests"
BUILT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "postroom" / "bin" / "versitygw"


@dataclass
class ObjectServer:
    """One server with one bucket, which can go and come back where it was."""

    folder: Path
    port: int
    command: list[str]
    keeps: bool
    """Whether its objects outlive it; those of moto do not."""
    process: subprocess.Popen[bytes] | None = None
    made: int = field(default=0)

    def settings(self) -> BlobSettings:
        """A prefix of the bucket that no other test has."""
        self.made += 1
        return BlobSettings(
            url=f"s3://post/{self.made}/mail",
            endpoint=f"http://127.0.0.1:{self.port}",
            access_key=ACCESS,
            connect_timeout=1,
            timeout=1,
            secret_key=SECRET,  # type: ignore[arg-type]  # pydantic makes a secret of it
        )

    def start(self) -> None:
        """Start it (again) and wait until it answers."""
        environment = {**os.environ, "ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"http://127.0.0.1:{self.port}/", timeout=5)
                return
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """End it as a crash does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def go_away(self) -> None:
        """It crashes; or it answers no more, where it would forget everything."""
        assert self.process is not None
        if self.keeps:
            self.stop()
        else:
            self.process.send_signal(signal.SIGSTOP)

    def come_back(self) -> None:
        """It answers again."""
        assert self.process is not None
        if self.keeps:
            self.start()
        else:
            self.process.send_signal(signal.SIGCONT)


def _versitygw() -> str:
    return shutil.which("versitygw") or (str(BUILT) if BUILT.is_file() else "")


@contextlib.contextmanager
def running(folder: Path) -> Iterator[ObjectServer]:
    """A server for the block; the test is skipped when there is none, or no client."""
    if find_spec("obstore") is None:
        pytest.skip("the client obstore is not installed: pip install 'postroom[s3]'")
    port = free_port()
    if program := _versitygw():
        (folder / "objects" / "post").mkdir(parents=True)
        command = [program, "--port", f"127.0.0.1:{port}", "--quiet", "posix", str(folder / "objects")]
    elif find_spec("moto") and find_spec("flask_cors"):
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    else:
        pytest.skip(
            "no S3 server: `make s3` builds versitygw (it needs Go), or pip install 'moto[s3]' flask flask-cors"
        )
    server = ObjectServer(folder, port, command, keeps=bool(program))
    server.start()
    try:
        if not program:
            httpx.put(f"http://127.0.0.1:{port}/post", timeout=30).raise_for_status()
        yield server
    finally:
        if server.process and server.process.poll() is None:
            server.stop()
