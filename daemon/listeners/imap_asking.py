"""Whose fault it is when a server does not answer for messages: its own, or that of one message among them.

A provider that throttles, or whose store is sick, refuses message after message; one broken message is refused among
others that are not. So a refusal is held against a message only when the server has answered for another one; where it
had none to answer for, imap_doubts.py asks it for one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from imaplib import IMAP4
from typing import TypeVar

import structlog

from daemon.listeners.imap_doubts import UnprovenError
from daemon.listeners.imap_notes import Notes
from daemon.listeners.imap_session import ImapSession, LoginRefusedError, RefusedError, is_busy
from tasks.errors import Unavailable

T = TypeVar("T")

log = structlog.get_logger("postroom.imap")


def reason_of(error: Exception) -> str:
    """An error as an admin reads it, at most 300 characters."""
    if isinstance(error, LoginRefusedError | RefusedError | Unavailable):
        return str(error)[:300]
    if isinstance(error, IMAP4.abort):
        return f"the connection was lost: {error}"[:300]
    return f"{type(error).__name__}: {error}"[:300]


def raise_outage(error: Exception) -> None:
    """Raise Unavailable when the server tells that it is busy."""
    if is_busy(error):
        raise Unavailable("imap", reason_of(error)) from error


class Asker:
    """Asks for many messages at once and, where that is refused, for each alone, so that one is not in all others' way."""

    def __init__(self) -> None:
        self._answered = False
        self._refused: dict[int, str] = {}

    def ask(self, question: Callable[[Sequence[int]], dict[int, T]], uids: Sequence[int], at_once: int) -> dict[int, T]:
        """The answers by UID, without the refused ones. Raises Unavailable when the server says that it is busy."""
        found: dict[int, T] = {}
        for start in range(0, len(uids), at_once):
            found |= self._some(question, uids[start : start + at_once])
        self._answered = self._answered or bool(found)
        return found

    def refused(self) -> dict[int, str]:
        """The messages that the server refused, with its words. Raises UnprovenError when it answered for no other."""
        if self._refused and not self._answered:
            raise UnprovenError(next(iter(self._refused.values())), self._refused)
        return dict(self._refused)

    def _some(self, question: Callable[[Sequence[int]], dict[int, T]], uids: Sequence[int]) -> dict[int, T]:
        try:
            return question(uids)
        except RefusedError as error:
            raise_outage(error)
            if len(uids) == 1:
                self._refused[uids[0]] = str(error)
                return {}
        found: dict[int, T] = {}
        for uid in uids:
            found |= self._some(question, [uid])
        return found


class Fetcher:
    """Fetches the bulks of one round."""

    def __init__(self, session: ImapSession, notes: Notes) -> None:
        self._session = session
        self._notes = notes
        self._proven = False
        """Whether a message came in full since the last one that did not."""

    def fetch(self, bulk: list[int]) -> dict[int, bytes]:
        """The messages' bytes. A fault that one alone has is noted, and raised when it broke the connection.

        Raises Unavailable when the fault is the server's, or may as well be (UnprovenError); no message is charged then.
        """
        self._notes.begin(bulk)
        try:
            messages = self._session.fetch(bulk)
        except Exception as error:
            self._failed(bulk, error)
            if not isinstance(error, RefusedError):
                raise
            return {}
        if len(bulk) == 1 and not messages.get(bulk[0]):
            self._notes.failed(bulk[0], "the server gives no content")  # or it has just gone, which costs nothing
            return {}
        self._proven = self._proven or any(messages.values())
        return messages

    def _failed(self, bulk: list[int], error: Exception) -> None:
        """Charge a message that was alone; within a bulk it may have been any, and without proof the server."""
        alone, proven, self._proven = len(bulk) == 1, self._proven, False
        busy = is_busy(error)
        why = f"cannot be fetched: {reason_of(error)}"
        if alone and proven and not busy:
            self._notes.failed(bulk[0], why)
            return
        with contextlib.suppress(Unavailable):  # the ledger's outage must not hide this one
            self._notes.spare(bulk)
        if busy:
            raise Unavailable("imap", reason_of(error)) from error
        if alone:
            raise UnprovenError(reason_of(error), {bulk[0]: why}) from error
        place = self._notes.place
        reason = reason_of(error)
        log.warning("imap.unreadable", account=place.account, folder=place.folder, messages=len(bulk), reason=reason)
