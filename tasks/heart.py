"""Keeps the leases of this process alive while their stages run, and carries their progress to the ledger."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from tasks import log
from tasks.errors import LeaseLost, Unavailable
from tasks.ledger import Lease, Ledger

PROGRESS_SECONDS = 1.0


def this_process() -> str:
    """`host:pid:start`: who holds a lease, so that the rescue on the same host can tell whether it lives."""
    return f"{_host()}:{os.getpid()}:{_start_of(os.getpid())}"


def is_gone(owner: str) -> bool:
    """Whether `owner` was a process of this host that has ended. False for other hosts: their beat decides."""
    host, _, rest = owner.rpartition(":")[0].rpartition(":")
    start = owner.rpartition(":")[2]
    if host != _host() or not rest.isdigit():
        return False
    found = _start_of(int(rest))
    return found is not None and found != start


def _host() -> str:
    """This boot and process namespace: in another one the same process id means another process.

    A unit tells the boot (%b), since ProcSubset=pid hides /proc/sys from it.
    """
    boot = os.environ.get("POSTROOM_BOOT_ID") or Path("/proc/sys/kernel/random/boot_id").read_text()
    namespace = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    return f"{boot.strip().replace('-', '')[:12]}/{namespace}"


def _start_of(pid: int) -> str | None:
    """The process's start in clock ticks since boot; empty when it has ended (proc(5), field 22 of stat).

    None when it lives and /proc does not show it, as under ProtectProc=invisible and PrivateUsers.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, IndexError):
        return None if _lives(pid) else ""
    return "" if fields[0] == "Z" else fields[19]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


class Held:
    """A lease while its stage runs."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.lost = False
        self.report: dict[str, str | int] = {}
        self.unsent = False

    def progress(self, phase: str, tokens: int, percent: int = 0, tail: str = "") -> None:
        """Tell what the stage is at, how much of it is done, and the end of what the model is writing.

        Raises LeaseLost when the job was taken away, so that the work ends early.
        """
        if self.lost:
            raise LeaseLost(f"{self.lease.stage.value} of job {self.lease.job_id} was taken away")
        self.report = {"phase": phase, "tokens": tokens, "percent": percent, **({"tail": tail} if tail else {})}
        self.unsent = True


class Heart:
    """One thread for all leases of a process."""

    def __init__(self, ledger: Ledger, lease_seconds: float) -> None:
        self._ledger = ledger
        self._every = max(1, round(lease_seconds / 4 / PROGRESS_SECONDS))
        self._held: dict[str, Held] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        threading.Thread(target=self._run, name="heart", daemon=True).start()

    @contextlib.contextmanager
    def holding(self, lease: Lease) -> Iterator[Held]:
        """Renew `lease` until the block ends."""
        held = Held(lease)
        with self._lock:
            self._held[lease.job_id] = held
        try:
            yield held
        finally:
            with self._lock:
                self._held.pop(lease.job_id, None)

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()

    def _run(self) -> None:
        turn = 0
        while not self._stop.wait(PROGRESS_SECONDS):
            turn += 1
            with self._lock:
                due = [held for held in self._held.values() if held.unsent or turn % self._every == 0]
            if due:
                self._beat(due)

    def _beat(self, due: list[Held]) -> None:
        for held in due:
            held.unsent = False
        try:
            lost = self._ledger.leases.beat([(held.lease, held.report) for held in due])
        except Unavailable:
            return  # the stage's own write will tell; the next beat tries again
        for held in due:
            if held.lease in lost and self._held.get(held.lease.job_id) is held:
                held.lost = True
                log.lease_lost(held.lease.job_id, held.lease.stage)
