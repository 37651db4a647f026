"""The warm parent of the children: imports the libraries once, then forks one child per file.

Started by the client as `python -m tasks.readers.sandbox.server CONTROL-FD FOLDER`. It has one thread and never
reads a file's bytes itself. It ends when the control socket closes, and takes its children with it.

Some children stand ready before there is a file for them, since a fork takes longer than reading a small one. Each
still reads one file only, and its limits begin with that file.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.readers import registry
from tasks.readers.limits import Limits
from tasks.readers.sandbox import child

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_CLONE_NEWIPC = 0x08000000
_GRACE = 2.0
"""Seconds between the child's own alarm and the server's kill."""
READY = 3
"""Children that wait for a file: as many as a mail often has parts, so that none of them waits for a fork."""


@dataclass(slots=True)
class _Spare:
    """A child that waits for its file."""

    pid: int
    home: Path
    orders: socket.socket
    """Where it is told its limits, and given the channel to the client."""

    def give(self, order: bytes, channel: socket.socket) -> None:
        """Hand it its file's order. Raises OSError when it is gone."""
        with self.orders:
            socket.send_fds(self.orders, [order], [channel.fileno()])


@dataclass(slots=True)
class _Job:
    """A child that has its file."""

    home: Path
    status: socket.socket
    deadline: float
    timed_out: bool = False


def isolate() -> bool:
    """Leave the network behind, where the kernel lets us; False (and no harm) where it does not."""
    uid, gid = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC) != 0:
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    except OSError:
        return False
    return True


class Server:
    """Takes orders (limits and two sockets each), hands each to a child, watches the clock, reaps and reports."""

    def __init__(self, control: socket.socket, folder: Path) -> None:
        self._control = control
        self._folder = folder
        self._selector = selectors.DefaultSelector()
        self._spares: deque[_Spare] = deque()
        self._jobs: dict[int, _Job] = {}
        self._count = 0
        self._can_fork = True
        self._wakeup, write = socket.socketpair()
        self._wakeup.setblocking(False)
        write.setblocking(False)
        self._write = write
        signal.set_wakeup_fd(write.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # A stop of the worker lets it finish what it reads; the closed control socket ends this process.
            signal.signal(number, signal.SIG_IGN)

    def serve(self) -> None:
        """Work until the control socket closes; what a killed worker can tidy up no more is removed."""
        with self._selector as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wakeup, selectors.EVENT_READ)
            while True:
                lacking = self._can_fork and len(self._spares) < READY
                ready = [key for key, _ in selector.select(0 if lacking else self._until_deadline())]
                if not self._tend(ready):
                    break
                if lacking and not ready:
                    self._prepare()
        signal.set_wakeup_fd(-1)
        for pid in [*self._jobs, *(spare.pid for spare in self._spares)]:
            _kill_group(pid)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _tend(self, ready: Sequence[selectors.SelectorKey]) -> bool:
        """See to what has happened; False when the control socket is closed."""
        for pid in (key.data for key in ready if key.data):
            # Its client has the answer, or is gone: nobody waits for what else the child might do.
            self._selector.unregister(self._jobs[pid].status)
            _kill_group(pid)
        sockets = {key.fileobj for key in ready}
        if self._wakeup in sockets:
            with contextlib.suppress(BlockingIOError):
                self._wakeup.recv(4096)
        self._reap()
        self._kill_overdue()
        return self._control not in sockets or self._take_order()

    def _until_deadline(self) -> float | None:
        pending = [job.deadline for job in self._jobs.values() if not job.timed_out]
        return max(0.0, min(pending) - time.monotonic()) if pending else None

    def _take_order(self) -> bool:
        order, descriptors, _, _ = socket.recv_fds(self._control, child.LARGEST_ORDER, 2)
        if not order:
            return False
        channel, status = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        with channel:
            try:
                taken = self._given(order, channel)
            except OSError as error:
                _report(status, {"refused": str(error)})
                return True
        limits = Limits(**json.loads(order))
        wall = limits.wall_seconds + limits.ocr_seconds + _GRACE
        self._jobs[taken.pid] = _Job(taken.home, status, time.monotonic() + wall)
        self._selector.register(status, selectors.EVENT_READ, taken.pid)
        self._can_fork = True
        return True

    def _given(self, order: bytes, channel: socket.socket) -> _Spare:
        """The child that has taken the order. Raises OSError when none can be had."""
        while self._spares:
            spare = self._spares.popleft()
            with contextlib.suppress(OSError):
                return self._handed(spare, order, channel)
        return self._handed(self._fork(), order, channel)

    def _handed(self, spare: _Spare, order: bytes, channel: socket.socket) -> _Spare:
        """`spare`, with its order. Raises OSError when it was killed while it waited; nothing is left of it then."""
        try:
            spare.give(order, channel)
        except OSError:
            _kill_group(spare.pid)
            os.waitpid(spare.pid, 0)
            shutil.rmtree(spare.home, ignore_errors=True)
            raise
        return spare

    def _prepare(self) -> None:
        """One more child to wait for a file; when the system lets us have none, the next order tries again."""
        try:
            self._spares.append(self._fork())
        except OSError:
            self._can_fork = False

    def _fork(self) -> _Spare:
        self._count += 1
        home = self._folder / str(self._count)
        home.mkdir(mode=0o700)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid = os.fork()
            except OSError:
                ours.close()
                raise
            if pid == 0:
                ours.close()
                self._become_child(theirs, home)
        return _Spare(pid, home, ours)

    def _become_child(self, orders: socket.socket, home: Path) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        self._control.close()
        self._wakeup.close()
        self._write.close()
        self._selector.close()
        for spare in self._spares:  # their orders are not this child's to give
            spare.orders.close()
        for job in self._jobs.values():
            job.status.close()
        child.run(orders, home)

    def _reap(self) -> None:
        for pid in list(self._jobs):
            # Looked at before it is reaped: until then its number cannot be given to another process group.
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                continue
            _kill_group(pid)
            _, status, usage = os.wait4(pid, 0)
            job = self._jobs.pop(pid)
            with contextlib.suppress(KeyError):
                self._selector.unregister(job.status)
            code = os.waitstatus_to_exitcode(status)
            report = {"exit": code, "timed_out": job.timed_out, "peak_kib": usage.ru_maxrss}
            _report(job.status, {**report, "cpu_seconds": usage.ru_utime + usage.ru_stime})
            shutil.rmtree(job.home, ignore_errors=True)

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for pid, job in self._jobs.items():
            if not job.timed_out and job.deadline <= now:
                job.timed_out = True
                _kill_group(pid)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _report(status: socket.socket, report: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        status.sendall(json.dumps(report).encode())
    status.close()


def main() -> None:
    """Entry point: isolate, warm up, say so, serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    isolated = isolate()
    registry.modules()
    child.warm_up()
    gc.collect()
    gc.freeze()
    server = Server(control, Path(sys.argv[2]))
    with contextlib.suppress(BrokenPipeError):  # its worker was killed meanwhile: serving ends at once
        control.sendall(json.dumps({"ready": True, "isolated": isolated}).encode())
    server.serve()


if __name__ == "__main__":
    main()
