"""The unit's STATUS= line: what the process does, or which dependency keeps it from its work.

A broken dependency is told in the words of `postroom check`, because the same function looks at it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from config.settings import Settings
from daemon import checks
from daemon.checks import Finding
from daemon.notify import notify
from tasks.app import MODEL_QUEUE
from tasks.guard import guards

EVERY = 10.0
"""Seconds between looks at what is on this host, and at what was broken."""
EVERY_REMOTE = 300.0
"""Seconds between looks at other people's servers and the blob store while they are well: a look is a connection, with a
login for SMTP, or a file.
"""

GUARDED = {"blobs": "blobs", "smtp_out": "smtp"}
"""What is looked at seldom, and at once while the process's own guard of this kind (tasks/guard.py) sees it fail."""

Look = Callable[[Settings], Finding]
NEAR: tuple[Look, ...] = (checks.ledger, checks.broker)


def near_of(queues: Sequence[str]) -> tuple[Look, ...]:
    """What a process needs on this host or beside it. `queues` are a worker's; other processes have none."""
    return (*NEAR, checks.model) if any(name.partition(".")[0] == MODEL_QUEUE for name in queues) else NEAR


def remote_of(queues: Sequence[str], settings: Settings) -> dict[str, Look]:
    """What is looked at seldom: the blob store, and other people's servers that a worker needs."""
    looks: dict[str, Look] = {"blobs": checks.blobs}
    if "deliver" in queues:
        looks["smtp_out"] = checks.smtp_out
        looks |= {f"endpoint.{name}": partial(checks.endpoint, name=name) for name in settings.endpoint}
    return looks


class Status:
    """One process's line, told when it changes."""

    def __init__(self, settings: Callable[[], Settings], queues: Sequence[str] = ()) -> None:
        """`settings` gives the settings in force."""
        self._settings = settings
        self._queues = queues
        self._due: dict[str, float] = {}
        self._found: dict[str, Finding] = {}
        self._stop = threading.Event()
        self.doing: Callable[[], str] = lambda: ""
        """What the process is at, when nothing is broken."""
        self.worries: Callable[[], Iterable[Finding]] = lambda: ()
        """What it knows to be broken by itself."""

    def start(self) -> None:
        """Look from now on, in a thread; nothing is done where nobody listens."""
        if notify("STATUS=starting"):
            threading.Thread(target=self._run, name="status", daemon=True).start()

    def stop(self) -> None:
        """Tell no more."""
        self._stop.set()

    def line(self) -> str:
        """The line as it is now: everything that is broken, or what the process is doing and how many jobs are open."""
        settings = self._settings()
        near = [look(settings) for look in near_of(self._queues)]
        found = [*near, *self._remote(settings), *self.worries()]
        broken = [one.sentence for one in found if one.state == "failed"]
        if broken:
            return " | ".join(broken)
        return "; ".join(part for part in (self.doing(), found[0].detail) if part)

    def _remote(self, settings: Settings) -> list[Finding]:
        now, looks = time.monotonic(), remote_of(self._queues, settings)
        failing = {one.name.partition(":")[0] for one in guards() if one.seen().failing_since}
        for name, look in looks.items():
            if now >= self._due.get(name, 0) or GUARDED.get(name) in failing:
                self._found[name] = found = look(settings)
                self._due[name] = now + (EVERY if found.state == "failed" else EVERY_REMOTE)
        return [self._found[name] for name in looks]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                line = self.line()
            except Exception as error:  # a bug here must not stop the line: it would go on telling what was
                line = f"cannot say how it is: {type(error).__name__}: {error}"
            if not self._stop.is_set():
                notify(f"STATUS={line}")
            self._stop.wait(EVERY)
