"""Group commit on SQLite: transactions of several threads that come while one is being written share the next fsync.

SQLite has one writer at a time and pays an fsync for each commit; a worker's threads would queue for both. PostgreSQL
does the same within its server, so there each has a transaction of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa

from tasks.errors import LeaseLost, Unavailable
from tasks.ledger.engine import Database

_T = TypeVar("_T")
MOST = 64
"""Pieces of work in one transaction."""


class _Work:
    """One caller's part of a transaction, and the lock on which it waits for its turn or its end."""

    __slots__ = ("do", "ended", "error", "turn", "value")

    def __init__(self, do: Callable[[sa.Connection], Any]) -> None:
        self.do = do
        self.ended = False
        self.error: Exception | None = None
        self.value: Any = None
        self.turn = threading.Lock()
        self.turn.acquire()


class Together:
    """Runs pieces of work in as few transactions as may be. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiting: list[_Work] = []
        self._leading = False

    def run(self, do: Callable[[sa.Connection], _T]) -> _T:
        """What `do` returns, after the commit. Raises what it raises, and Unavailable.

        `do` may run twice, the second time in a transaction of its own, when another one's work fails. It raises
        LeaseLost before it writes anything, or not at all.
        """
        if not self._database.is_sqlite:
            with self._database.write() as connection:
                return do(connection)
        mine = _Work(do)
        with self._lock:
            self._waiting.append(mine)
            leads, self._leading = not self._leading, True
        if not leads:
            mine.turn.acquire()
        if not mine.ended:
            self._lead()
        if mine.error:
            raise mine.error
        found: _T = mine.value
        return found

    def _lead(self) -> None:
        """Commit what waits, which the caller's own work is the first of, and pass the lead on."""
        with self._lock:
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        try:
            self._commit(batch)
        except BaseException as error:  # whatever ends this thread, the others' work is not done
            for work in batch:
                work.error = Unavailable("ledger", f"the commit was broken off: {error!r}")
            raise
        finally:
            with self._lock:
                following = self._waiting[0] if self._waiting else None
                self._leading = following is not None
            for work in batch:
                work.ended = True
                work.turn.release()
            if following:
                following.turn.release()

    def _commit(self, batch: list[_Work]) -> None:
        try:
            with self._database.write() as connection:
                for work in batch:
                    try:
                        work.error = None
                        work.value = work.do(connection)
                    except LeaseLost as error:  # it has written nothing, so that the others' work stands
                        work.error = error
        except Exception as error:
            if len(batch) == 1 or isinstance(error, Unavailable):
                for work in batch:
                    work.error = error
                return
            for work in batch:  # only the one that it is about
                self._commit([work])
