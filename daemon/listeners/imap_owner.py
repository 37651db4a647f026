"""One process reads a folder. A second one waits, says so, and takes over when the first has ended."""

from __future__ import annotations

import contextlib

from daemon.listeners.imap_clock import Clock
from tasks.errors import Unavailable
from tasks.heart import is_gone, this_process
from tasks.ledger.imap_folders import ImapFolders

BEAT_EVERY = 15.0
"""Seconds between two beats."""
TAKE_AFTER = 60.0
"""Seconds for which the beat of a process elsewhere stands still before its folder is taken from it."""


class Claim:
    """The right of this process to read one folder; the ledger's rows can be written only with it."""

    def __init__(self, rows: ImapFolders, account: str, folder: str, clock: Clock) -> None:
        self.owner = this_process()
        self._rows = rows
        self._where = (account, folder)
        self._clock = clock
        self._seen = ("", 0)
        self._seen_at = 0.0
        self._beat_at = 0.0

    def take(self) -> str:
        """Take it where it is free, or its holder is gone: empty. Else who holds it, in words. Raises Unavailable."""
        row = self._rows.get(*self._where)
        if (
            row.owner not in {"", self.owner}
            and not is_gone(row.owner)
            and not self._stands_still((row.owner, row.beat))
        ):
            return _words(row.owner, self.owner)
        if not self._rows.claim(*self._where, self.owner, row):
            return "a process that was faster"
        self._beat_at = self._clock.monotonic()
        return ""

    def beat(self) -> None:
        """Say that this process lives, for all the folders that it holds, if it has not just said so."""
        if self._clock.monotonic() - self._beat_at >= BEAT_EVERY:
            self._beat_at = self._clock.monotonic()
            with contextlib.suppress(Unavailable):  # the next one comes soon
                self._rows.beat(self.owner)

    def release(self) -> None:
        """Leave it to another process."""
        with contextlib.suppress(Unavailable):  # that this process has ended is seen too
            self._rows.release(*self._where, self.owner)

    def _stands_still(self, seen: tuple[str, int]) -> bool:
        now = self._clock.monotonic()
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        return now - self._seen_at > TAKE_AFTER


def _words(owner: str, own: str) -> str:
    """`process 123` when it runs here, where an admin can look for it."""
    host, _, rest = owner.partition(":")
    return f"process {rest.partition(':')[0]}" if host == own.partition(":")[0] else "a process of another machine"
