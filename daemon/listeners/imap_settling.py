"""What is done with a message once it is through: marked, moved, deleted or left, as the account says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from config.imap import ImapAccount
from daemon.listeners.imap_changes import delete, ensure, flag, move
from daemon.listeners.imap_notes import Notes
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
) -> None:
    """Do it with messages of the folder that is open, by what became of them, and write it down.

    Each action may be done again: a flag that is set stays set, and what has been moved is not there any more. Raises
    RefusedError when the server will not.
    """
    for mark, uids in ((mark, some) for mark, all_of in waiting.items() for some in _portions(all_of)):
        if mark is Mark.ACCEPTED:
            spots = _after_acceptance(session, account, uids)
        elif mark is Mark.CANARY:
            delete(session, uids)
            spots = {}
        else:
            spots = move(session, uids, account.failed_folder) if account.failed_folder else {}
        here = "" if mark is Mark.CANARY or account.after == "delete" else folder
        notes.settled({uid: spots.get(uid, Spot(here, notes.place.validity, uid)) for uid in uids})


def _portions(uids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (uids[start : start + AT_ONCE] for start in range(0, len(uids), AT_ONCE))


def _after_acceptance(session: ImapSession, account: ImapAccount, uids: Sequence[int]) -> dict[int, Spot]:
    """Where they are now; without those that stayed."""
    if account.after == "move":
        return move(session, uids, account.move_to)
    if account.after == "delete":
        delete(session, uids)
    elif account.after != "nothing":
        flag(session, uids, "\\Seen" if account.after == "seen" else account.keyword)
    return {}
