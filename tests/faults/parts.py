"""What fault tests share: messages at the door, processes to kill, and a look at what became of each job."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from config.settings import load
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.models import Kind, Stage
from tests.conftest import envelope
from tests.integration.webhook_parts import Seen, Sink
from tests.street import Street, until

FULL = bool(os.environ.get("POSTROOM_TEST_FULL"))
full = pytest.mark.skipif(not FULL, reason="takes long: set POSTROOM_TEST_FULL=1, as `make faults` does")
QUICK = "lease = 4\nbackoff_base = 0.2\nmax_attempts = 3\ncanary = 2\n"
"""Lines of [worker]: short waits, so that a test sees what takes minutes by default."""


def accept(street: Street, number: int, start: int = 0, body: bytes = b'{"order": 1}') -> list[str]:
    """Take over so many events; the ids of their jobs. The rescue publishes them."""
    intake = Intake.open(load(street.config))
    try:
        return [
            intake.accept(
                envelope(f"k{key}", source="webhook:shop", kind=Kind.EVENT, content_type="application/json"), body
            ).job_id
            for key in range(start, start + number)
        ]
    finally:
        intake.close()


def states(ledger: Ledger) -> dict[str, int]:
    """Jobs by state."""
    return ledger.jobs.counts()


def until_done(ledger: Ledger, number: int, seconds: float = 120) -> None:
    """Wait until so many jobs are done and no other is there."""
    until(lambda: states(ledger) == {"done": number}, seconds, f"the end of {number} jobs")


def ended_once(ledger: Ledger, job_ids: Sequence[str], stages: Sequence[str] = tuple(Stage)) -> None:
    """Each of these went through each stage once."""
    for job_id in job_ids:
        told = Counter(event.event for event in ledger.jobs.events(job_id) if event.event.endswith(" done"))
        assert told == Counter(f"{stage} done" for stage in stages), job_id


def by_key(receiver: Sink) -> dict[str, list[bytes]]:
    """The bodies that came under each Idempotency-Key."""
    came: dict[str, list[bytes]] = {}
    for seen in list(receiver.seen):
        came.setdefault(seen.headers["idempotency-key"], []).append(seen.body)
    return came


def child_of(pid: int) -> int:
    """The one child of tests/faults/forking.py; 0 while there is none."""
    with contextlib.suppress(FileNotFoundError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else 0
    return 0


def holder(ledger: Ledger, state: str) -> int:
    """Process id of the worker that has a job in this state; 0 when none has."""
    for job in ledger.jobs.page(limit=200):
        if job.lease_owner and job.state.value == state:
            return int(job.lease_owner.split(":")[-2])
    return 0


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """SIGSTOP for the block, then SIGCONT."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def slowly(seconds: float, first: int = 1) -> Callable[[Any, Seen], None]:
    """An answer of a sink: 200, to the first so many requests only after some seconds."""
    left = [first]

    def answer(connection: Any, _: Seen) -> None:
        left[0] -= 1
        if left[0] >= 0:
            time.sleep(seconds)
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    return answer
