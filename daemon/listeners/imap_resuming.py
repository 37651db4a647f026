"""What a run that did not live to say so had begun to do to the mailbox: found out and brought to its end.

Before a message is moved, the ledger is told where to, and the lowest UID that it can get there. So the next run knows
whether the move was made: then the message is found among what came into that folder since. A copy that was made is not
made again, and of a copied or deleted message the original goes. What a person moved or deleted is left to them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from config.imap import ImapAccount
from daemon.listeners.imap_changes import delete, expunge
from daemon.listeners.imap_notes import Notes
from daemon.listeners.imap_session import ImapSession, RefusedError
from tasks.ledger.imap_messages import NOWHERE, ImapMessages, Mark, Move, Spot, Trace
from tasks.mailhead import first


@dataclass(frozen=True)
class Begun:
    """A move that was begun."""

    uid: int
    """In the folder that it began in; 0: it is not there any more."""
    aim: Spot
    trace: Trace


def resume(
    session: ImapSession,
    notes: Notes,
    account: ImapAccount,
    folder: str,
    waiting: Collection[int],
    but: Collection[int] = (),
) -> None:
    """End what was begun with messages of the folder that is open, `but` some; `waiting` was found by its search.

    What was not done yet is left as it is: it will be done. Raises RefusedError when the server will not.
    """
    there = set(waiting)
    aims, lost = notes.begun(there, but)
    expunge(session, [uid for uid, mark in lost.items() if deletes(account, mark)])
    notes.settled(dict.fromkeys(lost, NOWHERE))
    if not aims:
        return
    traces = notes.traces(list(aims))
    present = session.sizes(list(aims))
    begun = {uid: Begun(uid if uid in present else 0, aim, traces[uid]) for uid, aim in aims.items()}
    spots = ended(session, folder, begun)
    notes.settled(spots | {uid: NOWHERE for uid in aims if uid not in spots and uid not in there})


def deletes(account: ImapAccount, mark: Mark) -> bool:
    """Whether messages with this mark are removed from the folder, rather than moved or left."""
    return mark is Mark.CANARY or (mark is Mark.ACCEPTED and account.after == "delete")


def resume_ends(session: ImapSession, rows: ImapMessages, moves: Sequence[Move]) -> None:
    """The same for moves at a job's end. Another folder may be open afterwards."""
    by_folder: dict[tuple[str, int], list[Move]] = {}
    for one in moves:
        by_folder.setdefault((one.spot.folder, one.spot.validity), []).append(one)
    for (folder, validity), some in by_folder.items():
        same = session.select(folder) == validity
        present = session.sizes([one.spot.uid for one in some if one.spot.uid]) if same else {}
        begun = {
            number: Begun(one.spot.uid if one.spot.uid in present else 0, one.aim, Trace(one.message_id, one.size))
            for number, one in enumerate(some)
        }
        spots = ended(session, folder, begun)
        rows.found([(one, spots.get(number, one.spot)) for number, one in enumerate(some)])


def ended(session: ImapSession, folder: str, begun: Mapping[int, Begun]) -> dict[int, Spot]:
    """Where those are now that were moved; of those that were only copied, the original is removed from `folder`.

    `folder` is open, and open again afterwards.
    """
    uids = [one.uid for one in begun.values() if one.uid]
    heads, sizes = session.heads(uids), session.sizes(uids)
    spots: dict[int, Spot] = {}
    for aim in {(one.aim.folder, one.aim.validity) for one in begun.values()}:
        mine = {number: one for number, one in begun.items() if (one.aim.folder, one.aim.validity) == aim}
        spots |= _arrived(session, mine, heads, sizes)
    session.select(folder)
    delete(session, [begun[number].uid for number in spots if begun[number].uid])
    return spots


def _arrived(
    session: ImapSession, begun: Mapping[int, Begun], heads: Mapping[int, bytes], sizes: Mapping[int, int]
) -> dict[int, Spot]:
    """Which of some messages that were all on their way to one folder are there."""
    aim = next(iter(begun.values())).aim
    try:
        if session.select(aim.folder, readonly=True) != aim.validity:
            return {}
    except RefusedError:
        return {}  # there is no such folder any more
    lowest = min(one.aim.uid for one in begun.values())
    free = session.sizes(session.search_from(lowest))
    wanted = {sizes.get(one.uid, one.trace.size) for one in begun.values()}
    come = session.heads([uid for uid, size in free.items() if size in wanted])
    spots: dict[int, Spot] = {}
    for number, one in begun.items():
        size = sizes.get(one.uid, one.trace.size)
        for uid in sorted(come):
            if uid >= one.aim.uid and free[uid] == size and _is_same(one, heads.get(one.uid), come[uid]):
                spots[number] = Spot(aim.folder, aim.validity, uid)
                del come[uid]  # it is the copy of one message only
                break
    return spots


def _is_same(one: Begun, original: bytes | None, copy: bytes) -> bool:
    """Whether a message of the right size is the one that was to be moved: by its header, or at least its Message-ID."""
    if original is not None:
        return original == copy
    found, wanted = first(copy, b"message-id") or b"", one.trace.message_id.encode()
    return wanted in found if wanted else not found
