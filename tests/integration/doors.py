"""Starts a listener in a thread with a real intake on a fresh ledger, and lets tests look at what it accepted."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from config.settings import Settings
from tasks.errors import Unavailable
from tasks.intake import Intake
from tasks.models import Envelope, Receipt

PATIENCE = 60.0
"""Seconds that something may take which takes a moment on a machine with nothing else to do."""


class WatchedIntake(Intake):
    """The real intake, which also notes what came and can be told that the ledger is down."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._seen: list[tuple[Envelope, bytes, Receipt]] = []
        self.fault: Exception | None = None
        self.refused = 0
        self._under_way: set[object] = set()

    @property
    def seen(self) -> list[tuple[Envelope, bytes, Receipt]]:
        """What was accepted. A job stands in the ledger a moment before `accept` returns: that moment is waited for."""
        before, deadline = set(self._under_way), time.monotonic() + PATIENCE
        while before & self._under_way and time.monotonic() < deadline:
            time.sleep(0.01)
        return self._seen

    def accept(self, envelope: Envelope, raw: bytes) -> Receipt:
        with self._noting():
            receipt = super().accept(envelope, raw)
            self._seen.append((envelope, raw, receipt))
            return receipt

    async def accept_async(self, envelope: Envelope, raw: bytes) -> Receipt:
        with self._noting():
            receipt = await super().accept_async(envelope, raw)
            self._seen.append((envelope, raw, receipt))
            return receipt

    @contextmanager
    def _noting(self) -> Iterator[None]:
        if self.fault:
            self.refused += 1
            raise self.fault
        mark = object()
        self._under_way.add(mark)
        try:
            yield
        finally:
            self._under_way.discard(mark)


LEDGER_DOWN = Unavailable("ledger", "database is locked")


@dataclass
class Door:
    """A running listener."""

    settings: Settings
    intake: WatchedIntake
    stop: threading.Event
    thread: threading.Thread = field(default_factory=threading.Thread)
    lines: list[str] = field(default_factory=list)
    said: queue.Queue[str] = field(default_factory=queue.Queue)
    """Ready lines after those."""

    def address(self, name: str) -> tuple[str, int]:
        """Where the listener called `name` is bound, as told by its ready line."""
        line = next(line for line in self.lines if line.startswith(f"{name} on "))
        host, _, port = line.removeprefix(f"{name} on ").rpartition(":")
        return host, int(port)

    def jobs(self) -> int:
        """How many messages stand in the ledger (alerts are none), read past Postroom's own code."""
        engine = create_engine(self.settings.ledger)
        try:
            with engine.connect() as connection:
                return int(
                    connection.execute(text("SELECT count(*) FROM jobs WHERE source <> 'postroom'")).scalar_one()
                )
        finally:
            engine.dispose()


@contextmanager
def opened(
    run: Callable[..., None], home: Path, *, lines: int, wait: float = PATIENCE, **sections: Any
) -> Iterator[Door]:
    """Run a listener until the block ends; yields once it has said `lines` ready lines, with 0 at once."""
    settings = Settings(state_dir=home / "state", **sections)
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    intake = WatchedIntake.open(settings)
    assert isinstance(intake, WatchedIntake)
    door = Door(settings, intake, threading.Event())
    given = {"ready": door.said.put}
    door.thread = threading.Thread(target=run, args=(settings, intake, door.stop), kwargs=given, daemon=True)
    door.thread.start()
    try:
        door.lines = [door.said.get(timeout=wait) for _ in range(lines)]
        yield door
    finally:
        door.stop.set()
        door.thread.join(PATIENCE)
        intake.close()
    assert not door.thread.is_alive(), "the listener did not stop"


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for a condition, looking less often the longer it takes; fails when it does not come true."""
    deadline, pause = time.monotonic() + seconds, 0.01
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(pause)
        pause = min(pause * 1.3, 0.1)


class Dialog:
    """A raw conversation with a line protocol, for what no client library would send."""

    def __init__(self, address: tuple[str, int], timeout: float = PATIENCE) -> None:
        self.socket = socket.create_connection(address, timeout)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Dialog:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def reply(self) -> str:
        """One reply with all its lines; empty when the other side has closed."""
        lines = []
        while line := self.file.readline().decode():
            lines.append(line.rstrip())
            if line[3:4] != "-":
                break
        return "\n".join(lines)

    def say(self, line: str | bytes) -> str:
        """Send one line and read the reply."""
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.reply()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)
