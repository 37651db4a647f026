"""How each fault is made, and how all is made whole again."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import redis

from tests.chaos.disk import Disk
from tests.chaos.place import Place, ours

LONGEST_WAIT = 5.0
"""Seconds that are spent on waiting for a moment to strike."""


class Wrecking:
    """The hand behind the schedule. What it breaks for a while it mends itself."""

    def __init__(self, place: Place, disk: Disk) -> None:
        self._place, self._disk = place, disk
        self._broker = threading.RLock()
        self._frozen: set[int] = set()

    def do(self, lane: str, kind: str, part: str, seconds: float) -> bool:
        """Make one fault and stay until it is over; False when there was nothing to break. Raises RuntimeError."""
        if part:
            return self._to_part(part, kind, seconds)
        made: dict[str, Callable[[float], bool]] = {
            "parts: kill reader": self._kill_reader,
            "parts: kill in delivery": self._kill_in_delivery,
            "parts: kill up": lambda _: self._end_up(signal.SIGKILL),
            "parts: terminate up": lambda _: self._end_up(signal.SIGTERM),
            "broker: kill": self._kill_broker,
            "broker: flush": lambda _: self._ask_broker(lambda client: client.flushall()),
            "broker: fill": self._fill_broker,
            "broker: freeze": lambda seconds: self._freeze(self._place.broker.pid, seconds),
            "broker: pause clients": lambda seconds: self._ask_broker(lambda c: c.client_pause(int(seconds * 1000))),
            "network: cut": self._cut,
            "network: part": self._part,
            "network: forget": self._forget,
            "model: kill": self._kill_model,
            "model: freeze": lambda seconds: self._freeze(self._place.model and self._place.model.pid, seconds),
            "disk: fill": self._fill_disk,
            "disk: lock ledger": self._lock_ledger,
        }
        return made[f"{lane}: {kind}"](seconds)

    def up_has_ended(self) -> bool:
        """Whether `postroom up` is not there although nobody ended it."""
        return self._place.up is None or self._place.up.poll() is not None

    def mend(self) -> None:
        """Everything runs and has room."""
        self._place.network.mend()
        self._disk.free()
        for pid in list(self._frozen):
            self._thaw(pid)
        with self._broker:
            self._place.broker.start()
            with contextlib.suppress(redis.RedisError):
                self._ask_broker(lambda client: client.config_set("maxmemory", 0))
                self._ask_broker(lambda client: client.client_unpause())
        if self._place.model is None or self._place.model.poll() is not None:
            self._place.start_model()
        if self.up_has_ended():
            self._place.start_up()

    def _to_part(self, part: str, kind: str, seconds: float) -> bool:
        pid = self._pid_of(part)
        if pid is None:
            return False
        if kind == "freeze":
            return self._freeze(pid, seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL if kind == "kill" else signal.SIGTERM)
        return True

    def _pid_of(self, part: str) -> int | None:
        up = self._place.up
        for pid in ours(self._place.config):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                if up and _parent_of(pid) == up.pid and _part_of(words) == part:
                    return pid
        return None

    def _kill_reader(self, _: float) -> bool:
        """A child of a worker: what reads documents."""
        worker = self._pid_of("worker")
        for children in Path(f"/proc/{worker}/task").glob("*/children") if worker else ():
            with contextlib.suppress(OSError):
                for pid in map(int, children.read_text().split()):
                    os.kill(pid, signal.SIGKILL)
                    return True
        return False

    def _kill_in_delivery(self, _: float) -> bool:
        """A worker whose webhook has arrived and is not answered yet."""
        worker = self._pid_of("worker")
        if worker is None or not self._place.busy.wait(LONGEST_WAIT):
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
        return True

    def _end_up(self, number: int) -> bool:
        up = self._place.up
        assert up
        if up.poll() is not None:
            raise RuntimeError(f"postroom up ended by itself, with status {up.returncode}")
        up.send_signal(number)
        try:
            up.wait(60)
        except subprocess.TimeoutExpired:
            up.kill()
            up.wait()
            raise RuntimeError("postroom up did not end within 60 s of SIGTERM") from None
        self._place.start_up()
        return True

    def _freeze(self, pid: int | None, seconds: float) -> bool:
        if pid is None:
            return False
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            return False
        self._frozen.add(pid)
        time.sleep(seconds)
        self._thaw(pid)
        return True

    def _thaw(self, pid: int) -> None:
        self._frozen.discard(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def _kill_broker(self, seconds: float) -> bool:
        with self._broker:
            pid = self._place.broker.pid
            if pid is None:
                return False
            os.kill(pid, signal.SIGKILL)
            time.sleep(seconds)
            self._place.broker.start()
        return True

    def _ask_broker(self, ask: Callable[[redis.Redis], object]) -> bool:
        with (
            contextlib.suppress(redis.ConnectionError, redis.TimeoutError),
            redis.Redis.from_url(self._place.broker.url, socket_timeout=30) as client,
        ):
            ask(client)
            return True
        return False

    def _fill_broker(self, seconds: float) -> bool:
        filled = self._ask_broker(lambda client: client.config_set("maxmemory", 1))
        time.sleep(seconds)
        self._ask_broker(lambda client: client.config_set("maxmemory", 0))
        return filled

    def _cut(self, seconds: float) -> bool:
        self._place.network.cut()
        time.sleep(seconds)
        self._place.network.mend()
        return True

    def _part(self, seconds: float) -> bool:
        self._place.network.part()
        time.sleep(seconds)
        self._place.network.mend()
        return True

    def _forget(self, _: float) -> bool:
        self._place.network.hang()
        return True

    def _kill_model(self, seconds: float) -> bool:
        model = self._place.model
        if model is None:
            return False
        model.kill()
        model.wait()
        time.sleep(seconds)
        self._place.start_model()
        return True

    def _fill_disk(self, seconds: float) -> bool:
        self._disk.fill()
        time.sleep(seconds)
        self._disk.free()
        return True

    def _lock_ledger(self, seconds: float) -> bool:
        path = self._place.state / "ledger.db"
        with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as ledger:
            try:
                ledger.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            time.sleep(seconds)
            with contextlib.suppress(sqlite3.OperationalError):
                ledger.execute("ROLLBACK")
        return True


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _part_of(words: list[str]) -> str:
    """What `postroom up` calls the process with this command line; empty when it is none of its parts."""
    if words[1:3] != ["-m", "daemon.cli"]:
        return ""
    name = words[3]
    return "model worker" if name == "worker" and "model" in words else name
