"""The warm parent of the children: imports the libraries once, then forks one child per file.

Started by the client as `python -m tasks.readers.sandbox.server CONTROL-FD FOLDER`. It has one thread and never
reads a file's bytes itself. It ends when the control socket closes, and takes its children with it.
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
from dataclasses import dataclass
from pathlib import Path

from tasks.readers import registry
from tasks.readers.limits import Limits
from tasks.readers.sandbox import child

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_CLONE_NEWIPC = 0x08000000
_LARGEST_ORDER = 64 * 1024
_GRACE = 2.0
"""Seconds between the child's own alarm and the server's kill."""


@dataclass(slots=True)
class _Job:
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
    """Takes orders (limits and two sockets each), forks, watches the clock, reaps and reports."""

    def __init__(self, control: socket.socket, folder: Path) -> None:
        self._control = control
        self._folder = folder
        self._jobs: dict[int, _Job] = {}
        self._count = 0
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
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wakeup, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select(self._until_deadline())}
                if self._wakeup in ready:
                    with contextlib.suppress(BlockingIOError):
                        self._wakeup.recv(4096)
                self._reap()
                self._kill_overdue()
                if self._control in ready and not self._take_order():
                    break
        for pid in self._jobs:
            _kill_group(pid)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _until_deadline(self) -> float | None:
        pending = [job.deadline for job in self._jobs.values() if not job.timed_out]
        return max(0.0, min(pending) - time.monotonic()) if pending else None

    def _take_order(self) -> bool:
        order, descriptors, _, _ = socket.recv_fds(self._control, _LARGEST_ORDER, 2)
        if not order:
            return False
        channel, status = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        limits = Limits(**json.loads(order))
        self._count += 1
        home = self._folder / str(self._count)
        try:
            home.mkdir(mode=0o700)
            pid = os.fork()
        except OSError as error:
            _report(status, {"refused": str(error)})
            channel.close()
            return True
        if pid == 0:
            self._become_child(channel, limits, home)
        channel.close()
        wall = limits.wall_seconds + limits.ocr_seconds + _GRACE
        self._jobs[pid] = _Job(home, status, time.monotonic() + wall)
        return True

    def _become_child(self, channel: socket.socket, limits: Limits, home: Path) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        self._control.close()
        self._wakeup.close()
        self._write.close()
        for job in self._jobs.values():
            job.status.close()
        child.run(channel, limits, home)

    def _reap(self) -> None:
        for pid in list(self._jobs):
            # Looked at before it is reaped: until then its number cannot be given to another process group.
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                continue
            _kill_group(pid)
            _, status, usage = os.wait4(pid, 0)
            job = self._jobs.pop(pid)
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
