"""The way into the ledger: many callers, one transaction, one fsync (group commit)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from tasks.clock import now_ms
from tasks.errors import Unavailable
from tasks.ids import new_job_id
from tasks.ledger.engine import Database, retried
from tasks.ledger.schema import events, jobs
from tasks.models import Envelope, Receipt, Stage, State

BATCH = 256


@dataclass
class Arrival:
    """One message that waits for its commit."""

    envelope: Envelope
    raw_sha256: str
    raw_size: int
    raw: bytes | None
    """None when the bytes are in the blob store already."""
    done: Future[Receipt] = field(default_factory=Future)
    job_id: str = field(default_factory=new_job_id)
    at: int = field(default_factory=now_ms)


class Arrivals:
    """One writer thread commits whatever waits, at once when only one does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: queue.SimpleQueue[Arrival | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger-arrivals", daemon=True)
        self._thread.start()

    def submit(self, arrival: Arrival) -> Future[Receipt]:
        """Queue `arrival`; its future ends after the commit, with a Receipt or Unavailable."""
        self._waiting.put(arrival)
        return arrival.done

    def close(self) -> None:
        """Commit what waits and stop."""
        self._waiting.put(None)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, ends = [first], False
            while len(batch) < BATCH and not ends:
                try:
                    following = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    ends = True
                else:
                    batch.append(following)
            self._settle(batch)
            if ends:
                return

    def _settle(self, batch: list[Arrival]) -> None:
        try:
            receipts = retried(lambda: self._commit(batch))
        except Exception as error:  # whatever it is, each caller has to hear of it and the thread must live
            cause = error if isinstance(error, Unavailable) else Unavailable("ledger", f"cannot commit: {error}")
            for arrival in batch:
                arrival.done.set_exception(cause)
            return
        for arrival, receipt in zip(batch, receipts, strict=True):
            arrival.done.set_result(receipt)

    def _commit(self, batch: list[Arrival]) -> list[Receipt]:
        with self._database.write() as connection:
            ordered = sorted(batch, key=lambda one: (one.envelope.source, one.envelope.key))  # as every process does
            connection.execute(self._database.insert_ignoring(jobs), [_row(arrival) for arrival in ordered])
            first = _first_ones(connection, batch)
            new = [
                arrival
                for arrival in batch
                if first[arrival.envelope.source, arrival.envelope.key][0] == arrival.job_id
            ]
            if new:
                connection.execute(sa.insert(events), [_event(arrival) for arrival in new])
        return [_receipt(arrival, *first[arrival.envelope.source, arrival.envelope.key]) for arrival in batch]


def _row(arrival: Arrival) -> dict[str, Any]:
    envelope = arrival.envelope
    return {
        "id": arrival.job_id,
        "source": envelope.source,
        "kind": envelope.kind.value,
        "key": envelope.key,
        "state": State.RECEIVED.value,
        "stage": Stage.EXTRACT.value,
        "sender": envelope.sender,
        "recipients": list(envelope.recipients),
        "content_type": envelope.content_type,
        "name": envelope.name,
        "headers": envelope.headers,
        "raw_sha256": arrival.raw_sha256,
        "raw_size": arrival.raw_size,
        "raw": arrival.raw,
        "progress": {},
        "received_at": arrival.at,
        "updated_at": arrival.at,
    }


def _event(arrival: Arrival) -> dict[str, Any]:
    detail = {"source": arrival.envelope.source, "bytes": arrival.raw_size}
    return {"job_id": arrival.job_id, "at": arrival.at, "event": "accepted", "stage": "", "detail": detail}


def _first_ones(connection: sa.Connection, batch: Sequence[Arrival]) -> dict[tuple[str, str], tuple[str, str, int]]:
    """Who holds each (source, key) now: job id, SHA-256 and time of the first one."""
    columns = (jobs.c.source, jobs.c.key, jobs.c.id, jobs.c.raw_sha256, jobs.c.received_at)
    pairs = {(arrival.envelope.source, arrival.envelope.key) for arrival in batch}
    found = connection.execute(sa.select(*columns).where(sa.tuple_(jobs.c.source, jobs.c.key).in_(pairs)))
    return {(row.source, row.key): (row.id, row.raw_sha256, row.received_at) for row in found}


def _receipt(arrival: Arrival, job_id: str, sha256: str, received_at: int) -> Receipt:
    duplicate = job_id != arrival.job_id
    return Receipt(
        job_id=job_id,
        duplicate=duplicate,
        conflict=duplicate and sha256 != arrival.raw_sha256,
        received_at=received_at,
    )
