"""What becomes of a message when its job has come to its end: moved to the folder for done, review or failed.

Idempotent, and safe to break off anywhere: the ledger says where each message was put last, and where it was about to be
moved (imap_resuming.py). A message that is in neither place was moved by a person, and is left where it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from config.imap import ImapAccount
from daemon.listeners.imap_changes import apart, move
from daemon.listeners.imap_resuming import resume_ends
from daemon.listeners.imap_session import ImapSession, RefusedError
from tasks.ledger.imap_messages import NOWHERE, ImapMessages, Move, Spot
from tasks.models import State

AT_ONCE = 200


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


def put_away(session: ImapSession, rows: ImapMessages, name: str, account: ImapAccount, folder: str) -> str:
    """Move what came by `folder` and whose job rests. Another folder may be open afterwards.

    Returns the words with which the server refused to move one, if any; the others are moved. Raises RefusedError when it
    will not tell what was begun, Unavailable when the ledger does not answer.
    """
    pending = rows.moves(name, folder, AT_ONCE)
    if begun := [one for one in pending if one.aim.folder]:
        resume_ends(session, rows, begun)
        pending = rows.moves(name, folder, AT_ONCE)
    groups: dict[tuple[str, str], list[Move]] = {}
    for one in pending:
        groups.setdefault((one.spot.folder, target(account, one.state)), []).append(one)
    refused = ""
    for (here, there), moves in groups.items():
        if not there or not here or here == there:
            rows.placed([(one, one.spot) for one in moves])
            continue
        try:
            refused = _move(session, rows, here, there, moves) or refused
        except RefusedError as error:
            if session.mailbox.folder.exists(here):
                refused = str(error)
            else:  # somebody removed it, and the mail with it
                rows.placed([(one, NOWHERE) for one in moves])
    return refused


def _move(session: ImapSession, rows: ImapMessages, here: str, there: str, moves: Sequence[Move]) -> str:
    """Returns the words of a refusal."""
    validity = session.select(here)
    present = session.sizes([one.spot.uid for one in moves if one.spot.uid and one.spot.validity == validity])
    found: dict[int, Move] = {}
    for one in moves:
        if uid := _uid(session, one, validity, present):
            found.setdefault(uid, one)

    def act(uids: Sequence[int]) -> dict[int, Spot]:
        return move(session, uids, there, lambda aim: rows.aimed_at([found[uid] for uid in uids], aim))

    spots, refused = apart(act, list(found)) if found else ({}, {})
    uids = {id(one): uid for uid, one in found.items()}
    moved = [(one, spots.get(uids.get(id(one), 0), NOWHERE)) for one in moves if uids.get(id(one)) not in refused]
    rows.placed(moved)
    return next(iter(refused.values()), "")


def _uid(session: ImapSession, one: Move, validity: int, present: dict[int, int]) -> int:
    """The message's UID in the folder that is open; 0 when it is not there."""
    if one.spot.validity == validity and one.spot.uid:
        return one.spot.uid if one.spot.uid in present else 0
    sizes = session.sizes(session.find(one.message_id))
    return next((uid for uid, size in sizes.items() if not one.size or size == one.size), 0)
