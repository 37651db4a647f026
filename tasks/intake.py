"""The one door in: dedupe, store, commit, and only then say so."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from config.settings import Settings
from tasks import log
from tasks.ledger import Arrival, Ledger
from tasks.ledger.arrivals import Arrivals
from tasks.mailhead import thread_of
from tasks.models import Envelope, Kind, Receipt, Stage, first_stage
from tasks.stores import Store, open_store


class Intake:
    """Accepts messages from every listener. Thread-safe; callers that come together share one fsync."""

    def __init__(
        self, ledger: Ledger, blobs: Store, inline_limit: int, nudge: Callable[[str, Stage], None] | None = None
    ) -> None:
        self.ledger = ledger
        self._blobs = blobs
        self._inline_limit = inline_limit
        self.nudge = nudge
        self._loops: dict[int, asyncio.AbstractEventLoop] = {}
        self._arrivals = Arrivals(ledger.database, self._stored)

    @classmethod
    def open(cls, settings: Settings, nudge: Callable[[str, Stage], None] | None = None) -> Intake:
        """Connect to the ledger. `nudge` is told each new job's id and first stage, and must neither block nor raise.

        Raises Unavailable when the ledger does not answer, Permanent when its schema is another version's.
        """
        return cls(Ledger.open(settings.ledger), open_store(settings), settings.inline_limit, nudge)

    def accept(self, envelope: Envelope, raw: bytes) -> Receipt:
        """Take a message over. When this returns, message and job are on disk.

        Raises Unavailable when that cannot be made true: the sender has to try again.
        """
        done: Future[Receipt] = Future()
        self._arrivals.submit(self._arrival(envelope, raw, done))
        return done.result()

    async def accept_async(self, envelope: Envelope, raw: bytes) -> Receipt:
        """`accept` for an event loop: it waits without blocking."""
        loop = self._running_loop()
        done: asyncio.Future[Receipt] = loop.create_future()
        make = partial(self._arrival, envelope, raw, done, loop)
        arrival = await asyncio.to_thread(make) if len(raw) > self._inline_limit else make()
        self._arrivals.submit(arrival)
        return await done

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """asyncio.get_running_loop, which makes a system call each time (Python 3.11)."""
        thread = threading.get_ident()
        loop = self._loops.get(thread)
        if loop is None or not loop.is_running():
            loop = self._loops[thread] = asyncio.get_running_loop()
        return loop

    def close(self) -> None:
        """Commit what waits, then close the ledger."""
        self._arrivals.close()
        self.ledger.close()

    def _arrival(
        self,
        envelope: Envelope,
        raw: bytes,
        done: Future[Receipt] | asyncio.Future[Receipt],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> Arrival:
        thread = thread_of(raw) if envelope.kind is Kind.MAIL else ""
        if len(raw) > self._inline_limit:
            return Arrival(envelope, self._blobs.put(raw), len(raw), None, thread, done, loop)
        return Arrival(envelope, hashlib.sha256(raw).hexdigest(), len(raw), raw, thread, done, loop)

    def _stored(self, stored: Sequence[tuple[Envelope, Receipt]]) -> None:
        """What is on disk now goes into the log, and to the workers."""
        log.accepted(stored)
        if self.nudge:
            for envelope, receipt in stored:
                if not receipt.duplicate:
                    self.nudge(receipt.job_id, first_stage(envelope.kind))


def raw_of(ledger: Ledger, blobs: Store, job_id: str, sha256: str) -> bytes:
    """The raw bytes of a job, from its row or the blob store. Raises Permanent when they are gone or damaged."""
    raw = ledger.jobs.raw(job_id)
    return raw if raw is not None else blobs.get(sha256)
