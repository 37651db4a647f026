"""A message that the server does not give while it gives no other either: is it the message's fault, or the server's?

The server is asked for another message of the mailbox, one that was taken before, say. When it gives that one, the first
is at fault, and every try counts against it. When it does not, the server is; nothing counts. In a mailbox that holds
nothing to compare with, a try counts every LONE_WAIT seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import structlog

from config.imap import ImapAccount
from daemon.listeners.imap_clock import Clock
from daemon.listeners.imap_notes import Notes
from daemon.listeners.imap_session import ImapSession, RefusedError
from tasks.errors import Unavailable

LONE_WAIT = 14_400.0
"""Seconds; with six tries a message that nothing can be compared with goes to quarantine after a day."""
CANDIDATES = 20
"""Messages of a folder among which the smallest is asked for."""
LARGEST = 1_048_576
"""Bytes of a message that is fetched only to see whether it is given."""

log = structlog.get_logger("postroom.imap")


class UnprovenError(Unavailable):
    """The server did not give these messages, and no other."""

    def __init__(self, reason: str, messages: Mapping[int, str]) -> None:
        super().__init__("imap", reason)
        self.messages = dict(messages)


class Doubts:
    """The messages of one folder that are in doubt."""

    def __init__(self, account: ImapAccount, folder: str, clock: Clock) -> None:
        self._account = account
        self._folder = folder
        self._clock = clock
        self._why: dict[int, str] = {}
        self._asked: set[tuple[str, int]] = set()
        self._since = 0.0

    def add(self, error: UnprovenError) -> None:
        """These were not given, and why."""
        if not self._why:
            self._since = self._clock.monotonic()
        self._why |= error.messages

    def judge(self, session: ImapSession, notes: Notes, waiting: Collection[int]) -> None:
        """Count a try against those in doubt, if it is theirs. The folder is open, and open again afterwards.

        Raises Unavailable when the server does not give another message either.
        """
        there = set(waiting)
        self._why = {uid: why for uid, why in self._why.items() if uid in there and notes.is_due(uid)}
        if not self._why:
            self._asked.clear()
            return
        late = self._clock.monotonic() - self._since >= LONE_WAIT
        if self._other_is_given(session, there) or (late and not self._asked):
            notes.unanswered(self._why)
            self._why = {}
        if late or not self._why:
            self._since = self._clock.monotonic()
            self._asked.clear()

    def _other_is_given(self, session: ImapSession, waiting: Collection[int]) -> bool:
        """Whether the server gives another message in full; False when there is none that it was not asked for yet."""
        for folder, uid in self._others(session, waiting):
            self._asked.add((folder, uid))
            try:
                given = session.fetch([uid]).get(uid)
            except RefusedError as error:
                raise Unavailable("imap", str(error)) from error
            session.select(self._folder)
            if given:
                return True
        return False

    def _others(self, session: ImapSession, waiting: Collection[int]) -> Iterator[tuple[str, int]]:
        """A message of each folder that we know; the folder that it is in is open when it is told."""
        yield from self._smallest(session, self._folder, waiting)
        for folder in sorted({getattr(self._account, option) for option in self._account.targets}):
            try:
                session.select(folder, readonly=True)
                yield from self._smallest(session, folder, session.search())
            except RefusedError:
                log.info("imap.not_compared", folder=folder)
        session.select(self._folder)

    def _smallest(self, session: ImapSession, folder: str, uids: Collection[int]) -> list[tuple[str, int]]:
        mine = self._why if folder == self._folder else {}
        free = [uid for uid in sorted(uids) if uid not in mine and (folder, uid) not in self._asked]
        try:
            sizes = {uid: size for uid, size in session.sizes(free[-CANDIDATES:]).items() if size <= LARGEST}
        except RefusedError as error:
            raise Unavailable("imap", str(error)) from error
        return [(folder, min(sizes, key=lambda uid: sizes[uid]))] if sizes else []
