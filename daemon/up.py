"""`postroom up`: every process in the foreground, embedded parts where no address is configured."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from config.settings import Settings
from daemon.process import stop_on_signals
from tasks import log
from tasks.app import MODEL_QUEUE, queues_of
from tasks.configured import routes_of
from tasks.errors import Permanent, Unavailable
from tasks.ledger import Ledger

BACKOFF = (1, 2, 5, 10, 30)
GRACE = 15.0  # seconds that a process may take to end before it is killed
STEADY = 60.0  # seconds of life after which a crash counts as the first one again
LEDGER_WAIT = 2.0  # seconds until a ledger that was away is looked for again
START = 1800.0  # seconds for the first start of the model server: it may download a gigabyte
BAD_CONFIG = 2
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass
class Child:
    """One process and its restarts."""

    name: str
    command: list[str]
    embedded: bool = False
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    crashes: int = 0
    again_at: float = 0.0
    lines: list[str] = field(default_factory=list)
    """What it said when it was ready: `smtp on 127.0.0.1:8025`."""


class Supervisor:
    """Starts children, restarts those that end, and ends them all in the reverse order."""

    def __init__(self, settings: Settings, config: Path | None, folder: Path) -> None:
        self._settings = settings
        self._environment = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify")}
        if config:
            self._environment["POSTROOM_CONFIG"] = str(config.resolve())
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.settimeout(0.2)
        self._children: list[Child] = []
        self.addresses: dict[str, str] = {}

    def add(self, name: str, *arguments: str, embedded: bool = False) -> Child:
        """Start a child: a `postroom` subcommand, or a module of daemon/embedded."""
        start = ["-m", *arguments] if embedded else ["-m", "daemon.cli", *arguments]
        child = Child(name, [sys.executable, *start], embedded)
        self._children.append(child)
        self._start(child)
        return child

    def give(self, variable: str, value: str) -> None:
        """An environment variable for the children that start from now on."""
        self._environment[variable] = value

    def wait_ready(self, children: Sequence[Child], stop: threading.Event, seconds: float) -> bool:
        """Wait until each child has said that it is ready; False when told to stop or out of time."""
        deadline = time.monotonic() + seconds
        while not all(child.lines for child in children):
            if stop.is_set() or time.monotonic() > deadline:
                return False
            self.look()
        return True

    def look(self) -> None:
        """Hear what children say for a fifth of a second, and restart those that ended. Raises BadConfig."""
        self._hear()
        now = time.monotonic()
        for child in self._children:
            if child.process and (status := child.process.poll()) is not None:
                self._ended(child, status, now)
            elif child.process is None and now >= child.again_at:
                self._start(child)

    def reload(self) -> None:
        """Have every process read its configuration again; each says by itself what it thinks of it."""
        for child in self._children:
            if child.process and not child.embedded and child.lines:
                child.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """End all: ways in first, embedded parts last; kill what does not go in time."""
        for embedded in (False, True):
            group = [child for child in self._children if child.embedded is embedded and child.process]
            for child in group:
                if child.process:
                    child.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + GRACE
            for child in group:
                _wait_or_kill(child, deadline)
        self._socket.close()

    def _start(self, child: Child) -> None:
        child.lines.clear()
        child.started = time.monotonic()
        # a session of its own: Ctrl-C reaches only us, and we end the children in order
        child.process = subprocess.Popen(
            child.command,
            env=self._environment,
            start_new_session=True,
            preexec_fn=partial(_die_with, os.getpid()),  # noqa: PLW1509  # safe: this process has one thread
        )

    def _ended(self, child: Child, status: int, now: float) -> None:
        child.process = None
        if status == BAD_CONFIG:
            raise BadConfig(child.name)
        child.crashes = 0 if now - child.started > STEADY else child.crashes
        wait = BACKOFF[min(child.crashes, len(BACKOFF) - 1)]
        child.crashes += 1
        child.again_at = now + wait
        log.process_ended(child.name, status, wait)

    def _hear(self) -> None:
        try:
            data, ancillary, _, _ = self._socket.recvmsg(4096, 128)
        except TimeoutError:
            return
        pid = int.from_bytes(ancillary[0][2][:4], sys.byteorder) if ancillary else 0
        child = next((one for one in self._children if one.process and one.process.pid == pid), None)
        for line in data.decode("utf-8", "replace").splitlines():
            key, _, value = line.partition("=")
            if key == "X_POSTROOM" and child:
                child.lines.append(value)
                if found := re.match(r"(\w+) on (\S+)", value):
                    self.addresses[found[1]] = found[2]


class BadConfig(Permanent):
    """A child refused the configuration; it has said why."""


def _die_with(parent: int) -> None:
    """In a child that begins: be killed when the supervisor is gone, however it went (prctl(2)).

    An orphan would hold the ports, and `postroom up` could not be started again.
    """
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _wait_or_kill(child: Child, deadline: float) -> None:
    if child.process is None:
        return
    try:
        child.process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        child.process.kill()
        child.process.wait()


def run(settings: Settings, config: Path | None) -> int:
    """Run everything until SIGTERM or Ctrl-C; the exit status. Raises ConfigError before anything is started."""
    routes_of(settings)
    stop = stop_on_signals()
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not migrated(settings, stop):
        return 0
    with tempfile.TemporaryDirectory(prefix="postroom-") as folder:
        supervisor = Supervisor(settings, config, Path(folder))
        try:
            return _run(supervisor, settings, stop)
        except BadConfig as error:
            log.process_refused(error.reason)
            return BAD_CONFIG
        finally:
            tell_addresses(settings, {})
            supervisor.stop()
            log.stopped("up")


def migrated(settings: Settings, stop: threading.Event) -> bool:
    """Bring the ledger's schema up to date, waiting while it is away or has no room; False when told to stop."""
    while not stop.is_set():
        ledger = None
        try:
            ledger = Ledger(settings.ledger)
            ledger.database.migrate()
        except Unavailable as error:
            log.up_waits(error.reason, LEDGER_WAIT)
            stop.wait(LEDGER_WAIT)
        else:
            return True
        finally:
            if ledger:
                ledger.close()
    return False


def _run(supervisor: Supervisor, settings: Settings, stop: threading.Event) -> int:
    embedded = _embedded(supervisor, settings)
    if not supervisor.wait_ready(embedded, stop, START):
        return 0 if stop.is_set() else 1
    supervisor.give("POSTROOM_BROKER_URL", supervisor.addresses.get("broker", settings.broker))
    if "ollama" in supervisor.addresses:
        supervisor.give("POSTROOM_MODEL__HOST", supervisor.addresses["ollama"])
    parts = _parts(supervisor, settings)
    if not supervisor.wait_ready(parts, stop, 120):
        return 0 if stop.is_set() else 1
    supervisor.addresses.setdefault("broker", settings.broker)
    supervisor.addresses.setdefault("ollama", settings.model.addresses()[0])
    told = tell_addresses(settings, supervisor.addresses)
    for name, address in supervisor.addresses.items():
        print(f"{name:<8} {_shown(address)}", flush=True)
    print("postroom is up; Ctrl-C stops it", flush=True)
    if not sys.stdin.isatty():  # from a terminal it says that the terminal is gone
        signal.signal(signal.SIGHUP, lambda *_: supervisor.reload())
    while not stop.is_set():
        supervisor.look()
        told = told or tell_addresses(settings, supervisor.addresses)
    return 0


def _embedded(supervisor: Supervisor, settings: Settings) -> list[Child]:
    """Stand-ins for what is neither configured nor running."""
    children = []
    if not settings.broker_url:
        folder = str(settings.state_dir / "broker")
        children.append(
            supervisor.add("broker", "daemon.embedded.broker", "--directory", folder, "--port", _port(), embedded=True)
        )
    is_ollamas = not settings.model.server_of(settings.model.name)[0]
    if is_ollamas and not settings.model.is_given() and not _ollama_answers(settings):
        model = settings.model.name
        context = str(settings.model.num_ctx)
        arguments = ("--port", _port(), "--model", model, "--context", context)
        children.append(supervisor.add("model server", "daemon.embedded.model_server", *arguments, embedded=True))
    return children


def _shown(address: str) -> str:
    """An address without the password in it."""
    return re.sub(r"//[^/@]*@", "//", address)


def _port() -> str:
    """A free port, chosen once: a part that is started again has to be found where it was."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])


def _ollama_answers(settings: Settings) -> bool:
    try:
        return httpx.get(f"{settings.model.addresses()[0]}/api/version", timeout=1, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _parts(supervisor: Supervisor, settings: Settings) -> list[Child]:
    parts = [supervisor.add("rescue", "rescue")]
    parts.append(supervisor.add("worker", "worker", "--queues", "fetch,extract,deliver"))
    for queue in queues_of(settings):
        if queue.partition(".")[0] == MODEL_QUEUE:
            parts.append(supervisor.add(f"{queue} worker", "worker", "--queues", queue))
    wanted = {
        "web": settings.web.enabled,
        "smtp": settings.smtp.enabled,
        "imap": bool(settings.imap),
        "folder": bool(settings.folder),
    }
    return parts + [supervisor.add(name, name) for name, needed in wanted.items() if needed]


def tell_addresses(settings: Settings, addresses: dict[str, str]) -> bool:
    """Keep `addresses.json` in the state folder while everything runs, for scripts and the demo.

    False when it cannot be written, on a full disk for example: that stops nothing.
    """
    path = settings.state_dir / "addresses.json"
    temporary = path.with_suffix(".new")
    try:
        if not addresses:
            path.unlink(missing_ok=True)
            return True
        temporary.write_text(json.dumps(addresses, indent=2) + "\n")
        temporary.replace(path)
    except OSError:
        return False
    return True
