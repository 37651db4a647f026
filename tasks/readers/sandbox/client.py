"""The worker's side of the sandbox: one warm server per worker process, one child per call, safe from any thread."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tasks
from tasks.errors import Transient, Unreadable
from tasks.readers.limits import Limits
from tasks.readers.sandbox import wire
from tasks.readers.sandbox.answers import Refusal, checked, no_answer

_START_SECONDS = 60.0
_BACKSTOP_SECONDS = 15.0
"""How long after the server should have killed a child the server itself is taken for hung."""
_ATTEMPTS = 2


class _ServerLost(Exception):
    """The server died or hung in the middle of a call; a new one may do better."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a child answered: its header, its byte strings and what it used, by its own account."""

    header: dict[str, Any]
    blobs: list[bytes]
    peak_kib: int
    cpu_seconds: float


class Sandbox:
    """Starts the server when first needed, again when it died, and asks it for a child per call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._folder: Path | None = None
        self.isolated = False
        """True when the children have no network: the kernel allowed a namespace of their own."""

    @property
    def server_pid(self) -> int | None:
        """Process id of the running server, for tests and for an admin's `ps`."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def call(self, request: dict[str, Any], data: bytes, limits: Limits) -> Result:
        """Have a child of its own serve `request` on `data`.

        Raises:
            Unreadable: the child met a limit, crashed, or was killed; the reason says which.
            Transient: no child can be had at all (no memory, no processes).
        """
        for _ in range(_ATTEMPTS):
            control = self._running()
            try:
                return self._attempt(control, request, data, limits)
            except _ServerLost:
                self._discard(control)
        raise Unreadable("the reading process was lost twice while it read this", lasting=False)

    def close(self) -> None:
        """End the server and its children. The next call starts a new one."""
        with self._lock:
            self._stop()

    def _attempt(self, control: socket.socket, request: dict[str, Any], data: bytes, limits: Limits) -> Result:
        ours, theirs = socket.socketpair()
        watch, report = socket.socketpair()
        with ours, theirs, watch, report:
            patience = limits.wall_seconds + limits.ocr_seconds + _BACKSTOP_SECONDS
            ours.settimeout(patience)
            watch.settimeout(patience)
            order = json.dumps(limits.as_dict()).encode()
            try:
                socket.send_fds(control, [order], [theirs.fileno(), report.fileno()])
            except OSError as error:
                raise _ServerLost from error
            theirs.close()
            report.close()
            header, blobs = _converse(ours, request, data, limits)
            if header is None:
                raise Unreadable(_why(_end_of(watch), limits), lasting=False)
            return _result(str(request["op"]), header, blobs)

    def _running(self) -> socket.socket:
        with self._lock:
            if self._control is None or self._process is None or self._process.poll() is not None:
                self._stop()
                self._start()
            assert self._control is not None
            return self._control

    def _start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="postroom-readers-"))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = subprocess.Popen(  # our own interpreter and module
                    [sys.executable, "-m", "tasks.readers.sandbox.server", str(theirs.fileno()), str(self._folder)],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    cwd=self._folder,
                    env=_environment(),
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                self._remove_folder()
                raise Transient(f"the reading process cannot be started: {error}") from error
        ready, _, _ = select.select([ours], [], [], _START_SECONDS)
        greeting = ours.recv(4096) if ready else b""
        self._control = ours
        if not greeting:
            self._stop()
            raise Transient("the reading process did not start; its error stands in the log above")
        self.isolated = bool(json.loads(greeting)["isolated"])

    def _discard(self, control: socket.socket) -> None:
        """Stop the server that `control` belongs to, unless another thread already has a new one."""
        with self._lock:
            if self._control is control:
                self._stop()

    def _stop(self) -> None:
        if self._control is not None:
            # Not only our descriptor: a process forked from us may hold a copy, and the server must see the end.
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)
            self._control.close()
        if self._process is not None:
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = self._control = None
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def forget(self) -> None:
        """In a forked copy of the worker: leave the server to the parent and start an own one when needed."""
        self._lock = threading.Lock()
        if self._control is not None:
            self._control.close()
        self._process = self._control = self._folder = None


def _environment() -> dict[str, str]:
    """What the server needs and no more: no secrets of the worker reach a process that reads strangers' files."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH") if name in os.environ
    }
    root = Path(tasks.__path__[0]).parent
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_THREAD_LIMIT": "1",  # Tesseract's threads cost more than they bring
        "MALLOC_ARENA_MAX": "2",  # an arena reserves 64 MiB of the child's address space
        "RAYON_NUM_THREADS": "1",
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # large pages: a fork has fewer entries to copy, an end to free
    }


def _converse(
    channel: socket.socket, request: dict[str, Any], data: bytes, limits: Limits
) -> tuple[dict[str, Any] | None, list[bytes]]:
    """Hand over the file and take the answer; None when the child fell silent, which its end will explain."""
    most = limits.unpacked_bytes + len(data) * 2 + (64 << 20)
    try:
        wire.send(channel, request, [data])
        return wire.receive(channel, most=most)
    except (wire.WireError, OSError):
        return None, []


def _end_of(watch: socket.socket) -> dict[str, Any]:
    try:
        report = watch.recv(4096)
    except OSError as error:
        raise _ServerLost from error
    if not report:
        raise _ServerLost
    ended: dict[str, Any] = json.loads(report)
    if "refused" in ended:
        raise Transient(f"no process can be had for reading: {ended['refused']}")
    return ended


def _result(op: str, header: dict[str, Any], blobs: list[bytes]) -> Result:
    """What a child answered. Its end is not waited for: the server sees that its client has what it wanted."""
    try:
        if header.get("status") != "unreadable":
            answer, used = checked(op, header, blobs)
            return Result(answer, blobs, used.peak_kib, used.cpu_seconds)
        refusal = Refusal.model_validate(header)
    except ValueError as error:
        raise no_answer() from error
    raise Unreadable(refusal.reason, locked=refusal.locked, lasting=refusal.lasting)


def _why(ended: dict[str, Any], limits: Limits) -> str:
    """What ended a child before it had answered."""
    code = int(ended["exit"])
    if ended["timed_out"] or code == -signal.SIGALRM:
        return f"reading took longer than {limits.wall_seconds:g} seconds"
    if code == -signal.SIGXCPU:
        return f"reading took more than {limits.cpu_seconds} seconds of processor time"
    if code == -signal.SIGXFSZ:
        return f"reading wrote more than {limits.file_bytes >> 20} MiB to disk"
    if code < 0:
        name = signal.Signals(-code).name
        return f"damaged, hostile or over {limits.memory_bytes >> 20} MiB: the reader was ended by {name}"
    return f"needs more than {limits.memory_bytes >> 20} MiB of memory, or the reader failed"


SANDBOX = Sandbox()
"""The worker process's own."""
atexit.register(SANDBOX.close)
os.register_at_fork(after_in_child=SANDBOX.forget)
