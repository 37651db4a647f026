"""What is done with a message once it is through: marked, moved, deleted or left, as the account says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from config.imap import ImapAccount
from daemon.listeners.imap_changes import apart, delete, ensure, flag, move
from daemon.listeners.imap_notes import Notes
from daemon.listeners.imap_resuming import deletes
from daemon.listeners.imap_session import ImapSession
from tasks.ledger.imap_messages import Mark, Spot

AT_ONCE = 200
"""Messages in one command: a line that every server takes, and an action that ends within the timeout."""


def ensure_folders(session: ImapSession, account: ImapAccount) -> None:
    """Make the folders that messages are moved to. Raises RefusedError."""
    for option in account.targets:
        ensure(session, getattr(account, option))


def settle(
    session: ImapSession, notes: Notes, account: ImapAccount, folder: str, waiting: Mapping[Mark, Sequence[int]]
) -> dict[int, str]:
    """Do it with messages of the folder that is open, by what became of them, and write it down.

    Each action may be broken off anywhere: a flag that is set stays set, and imap_resuming.py finds out what was moved.
    Returns those with which the server will not, and its words; the others are done.
    """
    refused: dict[int, str] = {}
    for mark, uids in ((mark, some) for mark, all_of in waiting.items() for some in _portions(all_of)):
        here = Spot("") if deletes(account, mark) else Spot(folder, notes.place.validity)
        spots, why = apart(partial(_act, session, notes, account, mark), uids)
        notes.settled({uid: spots.get(uid, replace(here, uid=uid)) for uid in uids if uid not in why})
        refused |= why
    return refused


def _act(
    session: ImapSession, notes: Notes, account: ImapAccount, mark: Mark, uids: Sequence[int]
) -> Mapping[int, Spot]:
    """Where they are now; without those that stayed, or are nowhere."""
    if deletes(account, mark):
        delete(session, uids)
    elif target := _target(account, mark):
        return move(session, uids, target, partial(notes.aimed, uids))
    elif mark is Mark.ACCEPTED and account.after != "nothing":
        flag(session, uids, "\\Seen" if account.after == "seen" else account.keyword)
    return {}


def _portions(uids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (uids[start : start + AT_ONCE] for start in range(0, len(uids), AT_ONCE))


def _target(account: ImapAccount, mark: Mark) -> str:
    """The folder that messages with this mark are moved to; empty: they stay."""
    if mark is Mark.ACCEPTED:
        return account.move_to if account.after == "move" else ""
    return account.failed_folder
