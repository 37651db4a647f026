"""The way into the ledger: many callers, one transaction, one fsync (group commit)."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from tasks.clock import DAY_MS, now_ms
from tasks.errors import Unavailable
from tasks.ids import new_job_id
from tasks.ledger.bulk import BulkInsert, OwnConnection, json_text
from tasks.ledger.engine import Database, retried
from tasks.ledger.schema import jobs
from tasks.models import Envelope, Receipt, State, first_stage
from tasks.texts import clean, indexable

BATCH = 256
GATHER = 0.003
"""Seconds to wait for company when the last ones did not come alone: they are answered together, and ask together."""


@dataclass(frozen=True)
class First:
    """The job that holds a (source, key)."""

    job_id: str
    raw_sha256: str
    received_at: int
    key_until: int | None

    def outlived(self, now: int) -> bool:
        """Whether its name may be given to another job."""
        return self.key_until is not None and self.key_until < now


@dataclass(slots=True)
class Arrival:
    """One message that waits for its commit."""

    envelope: Envelope
    raw_sha256: str
    raw_size: int
    raw: bytes | None
    """None when the bytes are in the blob store already."""
    thread: str
    """What a mail's conversation is known by; replies within it keep their order."""
    done: Future[Receipt] | asyncio.Future[Receipt]
    loop: asyncio.AbstractEventLoop | None
    """The event loop of `done`; None when a thread waits for it."""
    job_id: str = field(default_factory=new_job_id)
    at: int = field(default_factory=now_ms)

    def receipt(self, first: First | None) -> Receipt:
        """What its sender is told; `first` holds the name already."""
        if first is None:
            return Receipt(job_id=self.job_id, received_at=self.at)
        other = first.raw_sha256 != self.raw_sha256
        return Receipt(job_id=first.job_id, duplicate=True, conflict=other, received_at=first.received_at)


class Arrivals:
    """One writer thread commits whatever waits, at once when only one does."""

    def __init__(self, database: Database, stored: Callable[[Sequence[tuple[Envelope, Receipt]]], None]) -> None:
        """`stored` is called in the writer's thread with what one commit stored, before its callers are told."""
        self._database = database
        self._stored = stored
        self._jobs = BulkInsert(database, jobs, _JOB)
        self._own = OwnConnection(database, self._jobs) if database.is_sqlite else None
        self._waiting: queue.SimpleQueue[Sequence[Arrival] | None] = queue.SimpleQueue()
        self._gathered: dict[asyncio.AbstractEventLoop, list[Arrival]] = {}
        self._thread = threading.Thread(target=self._run, name="ledger-arrivals", daemon=True)
        self._thread.start()

    def submit(self, arrival: Arrival) -> None:
        """Queue `arrival`; its `done` ends after the commit, with a Receipt or Unavailable.

        Those that an event loop submits in one turn are handed over together: waking the writer costs a loop as much as
        all else that accepting does.
        """
        if arrival.loop is None:
            self._waiting.put((arrival,))
            return
        gathered = self._gathered.setdefault(arrival.loop, [])
        gathered.append(arrival)
        if len(gathered) == 1:
            arrival.loop.call_soon(self._hand_over, arrival.loop)

    def close(self) -> None:
        """Commit what waits and stop."""
        self._waiting.put(None)
        self._thread.join(timeout=30)
        if self._own and not self._thread.is_alive():
            self._own.close()

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waiting.put(self._gathered.pop(loop))

    def _run(self) -> None:
        company = 1
        while (first := self._waiting.get()) is not None:
            batch = [*first]
            ends = self._gather(batch, company)
            company = len(batch)
            for start in range(0, len(batch), BATCH):
                self._settle(batch[start : start + BATCH])
            if ends:
                return

    def _gather(self, batch: list[Arrival], company: int) -> bool:
        """Add what waits, or comes within GATHER while they are fewer than the last time; True: nothing comes any more."""
        end = time.monotonic() + GATHER
        while len(batch) < BATCH:
            left = end - time.monotonic() if len(batch) < company else 0
            try:
                following = self._waiting.get(timeout=left) if left > 0 else self._waiting.get_nowait()
            except queue.Empty:
                return False
            if following is None:
                return True
            batch.extend(following)
        return False

    def _settle(self, batch: list[Arrival]) -> None:
        outcomes: Sequence[Receipt | Unavailable]
        try:
            outcomes = retried(lambda: self._commit(batch))
        except Unavailable as error:
            outcomes = [error] * len(batch)
        except Exception as error:  # whatever it is, each caller has to hear of it and the thread must live
            if len(batch) > 1:  # only the one that it is about
                for arrival in batch:
                    self._settle([arrival])
                return
            outcomes = [Unavailable("ledger", f"cannot commit: {error}")]
        told = list(zip(batch, outcomes, strict=True))
        try:
            self._stored([(arrival.envelope, outcome) for arrival, outcome in told if isinstance(outcome, Receipt)])
        finally:
            _tell(told)

    def _commit(self, batch: list[Arrival]) -> list[Receipt]:
        # in order of name, so that two processes with the same names cannot lock each other out
        rows = [_row(arrival) for arrival in sorted(batch, key=_name)]
        if self._own and self._own.store(rows) == len(rows):
            return [arrival.receipt(None) for arrival in batch]
        with self._database.write() as connection:
            new = self._insert(connection, batch, rows)
            repeats = [arrival for arrival in batch if arrival.job_id not in new]
            first = _first_ones(connection, repeats)
            if outlived := [arrival for arrival in repeats if first[_name(arrival)].outlived(arrival.at)]:
                _release(connection, [first[_name(arrival)].job_id for arrival in outlived])
                new |= self._insert(connection, outlived, [_row(arrival) for arrival in sorted(outlived, key=_name)])
                first = _first_ones(connection, repeats)
        return [arrival.receipt(None if arrival.job_id in new else first[_name(arrival)]) for arrival in batch]

    def _insert(self, connection: sa.Connection, batch: list[Arrival], rows: Sequence[tuple[Any, ...]]) -> set[str]:
        """Insert what has a name that is not taken; the ids of those. One statement, and a look only at repeats."""
        inserted = self._jobs.run(connection, rows)
        ids = {arrival.job_id for arrival in batch}
        if inserted == len(batch):
            return ids
        return set(connection.execute(sa.select(jobs.c.id).where(jobs.c.id.in_(ids))).scalars())


def _tell(outcomes: Iterable[tuple[Arrival, Receipt | Unavailable]]) -> None:
    """End every `done`; those of one event loop in one call, because each call wakes it."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[Arrival, Receipt | Unavailable]]] = {}
    for arrival, outcome in outcomes:
        if arrival.loop is None:
            _end(arrival, outcome)
        else:
            loops.setdefault(arrival.loop, []).append((arrival, outcome))
    for loop, mine in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_end_all, mine)


def _end_all(outcomes: Iterable[tuple[Arrival, Receipt | Unavailable]]) -> None:
    for arrival, outcome in outcomes:
        if not arrival.done.done():  # else its caller gave up
            _end(arrival, outcome)


def _end(arrival: Arrival, outcome: Receipt | Unavailable) -> None:
    if isinstance(outcome, Unavailable):
        arrival.done.set_exception(outcome)
    else:
        arrival.done.set_result(outcome)


def _name(arrival: Arrival) -> tuple[str, str]:
    return arrival.envelope.source, arrival.envelope.key


_JOB = (
    "id", "source", "kind", "key", "key_until", "state", "stage", "sender", "recipients", "subject", "message_id", "thread",
    "content_type", "name", "headers", "raw_sha256", "raw_size", "raw", "reason", "approved", "attempts", "outages",
    "lease_token", "lease_owner", "lease_beat", "progress", "received_at", "updated_at",
)  # fmt: skip


def _row(arrival: Arrival) -> tuple[Any, ...]:
    """The values of _JOB. Cleaned is what a sender may have written; `key` is already."""
    told, at = arrival.envelope, arrival.at
    until = at + told.key_days * DAY_MS if told.key_days else None
    return (
        arrival.job_id, told.source, told.kind.value, told.key, until, State.RECEIVED.value,
        first_stage(told.kind).value, clean(told.sender), json_text(list(told.recipients)), "", "",
        indexable(arrival.thread), clean(told.content_type), clean(told.name), json_text(told.headers),
        arrival.raw_sha256, arrival.raw_size, arrival.raw, "", 0, 0, 0, 0, "", 0, "{}", at, at,
    )  # fmt: skip


def _first_ones(connection: sa.Connection, repeats: Sequence[Arrival]) -> dict[tuple[str, str], First]:
    """Who holds each name now. Asked source by source: SQLite would read the whole table for pairs."""
    keys: dict[str, set[str]] = {}
    for arrival in repeats:
        keys.setdefault(arrival.envelope.source, set()).add(arrival.envelope.key)
    columns = (jobs.c.source, jobs.c.key, jobs.c.id, jobs.c.raw_sha256, jobs.c.received_at, jobs.c.key_until)
    return {
        (row.source, row.key): First(row.id, row.raw_sha256, row.received_at, row.key_until)
        for source, mine in keys.items()
        for row in connection.execute(sa.select(*columns).where(jobs.c.source == source, jobs.c.key.in_(mine)))
    }


def _release(connection: sa.Connection, job_ids: Sequence[str]) -> None:
    """Let go of names that were kept for as long as they had to be: the jobs keep them, with their id behind."""
    connection.execute(
        sa.update(jobs).where(jobs.c.id.in_(job_ids)).values(key=jobs.c.key + " " + jobs.c.id, key_until=None)
    )
