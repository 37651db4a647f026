"""What becomes of a message when its job has come to its end: moved to the folder for done, review or failed.

Idempotent, and safe to break off anywhere: the ledger says where each message was put last. A message that is not there
any more was moved by a run that did not live to write it down, or by a person, and is left where it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from config.imap import ImapAccount
from daemon.listeners.imap_changes import move
from daemon.listeners.imap_session import ImapSession
from tasks.ledger.imap_messages import ImapMessages, Move, Spot
from tasks.models import State

AT_ONCE = 200
NOWHERE = Spot("")


def follows(account: ImapAccount) -> bool:
    """Whether messages of this account are moved once more at their job's end."""
    return account.after != "delete" and bool(account.done_folder or account.review_folder or account.failed_folder)


def target(account: ImapAccount, state: State) -> str:
    """The folder for messages whose job rests in `state`; empty: they stay where they are."""
    if state is State.REVIEW:
        return account.review_folder
    if state is State.FAILED:
        return account.failed_folder
    return account.done_folder or (account.move_to if account.after == "move" else "")


def put_away(session: ImapSession, rows: ImapMessages, name: str, account: ImapAccount, folder: str) -> int:
    """Move what came by `folder` and whose job rests. Another folder may be open afterwards. Returns how many moved.

    Raises RefusedError when the server will not, Unavailable when the ledger does not answer.
    """
    groups: dict[tuple[str, str], list[Move]] = {}
    for one in rows.moves(name, folder, AT_ONCE):
        groups.setdefault((one.spot.folder, target(account, one.state)), []).append(one)
    moved = 0
    for (here, there), moves in groups.items():
        if not there or not here or here == there:
            rows.placed([(one, one.spot) for one in moves])
            continue
        moved += _move(session, rows, here, there, moves)
    return moved


def _move(session: ImapSession, rows: ImapMessages, here: str, there: str, moves: Sequence[Move]) -> int:
    validity = session.select(here)
    present = session.sizes([one.spot.uid for one in moves if one.spot.uid and one.spot.validity == validity])
    found: dict[int, Move] = {}
    for one in moves:
        if uid := _uid(session, one, validity, present):
            found.setdefault(uid, one)
    spots = move(session, list(found), there) if found else {}
    uids = {id(one): uid for uid, one in found.items()}
    rows.placed([(one, spots.get(uids.get(id(one), 0), NOWHERE)) for one in moves])
    return len(found)


def _uid(session: ImapSession, one: Move, validity: int, present: dict[int, int]) -> int:
    """The message's UID in the folder that is open; 0 when it is not there."""
    if one.spot.validity == validity and one.spot.uid:
        return one.spot.uid if one.spot.uid in present else 0
    sizes = session.sizes(session.find(one.message_id))
    return next((uid for uid, size in sizes.items() if not one.size or size == one.size), 0)
