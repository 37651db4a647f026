"""What changes a mailbox: flags, moves, deletion. Nothing is ever removed by a plain EXPUNGE.

A plain EXPUNGE would also remove what other people marked as deleted; imap-tools does so in `flag`, `delete` and
`move`. Here it is MOVE (RFC 6851), or UID EXPUNGE (RFC 4315) of just these messages, or the mark alone.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence

from imap_tools.errors import MailboxFolderCreateError, MailboxFolderSubscribeError
from imap_tools.utils import encode_folder

from daemon.listeners.imap_session import ImapSession, RefusedError, is_busy, words
from tasks.ledger.imap_messages import Spot

_COPYUID = re.compile(rb"(\d{1,10}) ([\d:,]+) ([\d:,]+)")


class LeftError(RefusedError):
    """Copies were made, and the server will not remove the originals: not to be copied again."""


MOST_UIDS = 10_000
"""UIDs of one COPYUID that are read; a set can name billions in a few bytes."""


def ensure(session: ImapSession, folder: str) -> None:
    """Create and subscribe a folder when it is not there. Raises RefusedError."""
    if session.mailbox.folder.exists(folder):
        return
    try:
        session.mailbox.folder.create(folder)
    except MailboxFolderCreateError as error:
        raise RefusedError(
            f"cannot create folder {folder!r}: {words(error.command_result[1])}; create it, or write the name as "
            f'the server wants it, for example "INBOX.{folder}"'
        ) from None
    with contextlib.suppress(MailboxFolderSubscribeError):  # some servers show every folder anyway
        session.mailbox.folder.subscribe(folder, True)


def move(session: ImapSession, uids: Sequence[int], folder: str, begin: Callable[[Spot], None]) -> dict[int, Spot]:
    """Move messages and nothing else: MOVE, or COPY and then `delete`. Returns where each one is now.

    `begin` is told before it begins where they will be found, to leave word for who has to go on when this is broken
    off. A server with neither MOVE nor UIDPLUS keeps the originals, marked as deleted: `search` does not see them again.
    """
    aim = session.status(folder)
    if aim is None:
        ensure(session, folder)  # somebody removed it
        aim = session.status(folder) or Spot(folder)
    begin(aim)
    command = "MOVE" if session.has("MOVE") else "COPY"
    session.code("COPYUID")
    session.uid(command, uids, encode_folder(folder))
    spots = _copied(session.code("COPYUID"), folder)
    if command == "COPY":
        try:
            delete(session, uids)
        except RefusedError as error:
            raise LeftError(str(error)) from None
    return {uid: spots.get(uid, Spot(folder)) for uid in uids}


def apart(
    action: Callable[[Sequence[int]], Mapping[int, Spot]], uids: Sequence[int]
) -> tuple[dict[int, Spot], dict[int, str]]:
    """Do something with all of them, or with each alone when the server refuses all: the results, and who was refused.

    So a message that the server cannot move is in no other's way. One that is busy is not asked for each.
    """
    try:
        return dict(action(uids)), {}
    except RefusedError as error:
        if len(uids) == 1 or isinstance(error, LeftError) or is_busy(error):
            return {}, dict.fromkeys(uids, str(error))
    done: dict[int, Spot] = {}
    refused: dict[int, str] = {}
    for uid in uids:
        one, why = apart(action, [uid])
        done |= one
        refused |= why
    return done, refused


def delete(session: ImapSession, uids: Sequence[int]) -> None:
    """Remove just these; a server without UIDPLUS only marks them, for its owner's next EXPUNGE."""
    session.uid("STORE", uids, "+FLAGS.SILENT", r"(\Seen \Deleted)")
    expunge(session, uids)


def expunge(session: ImapSession, uids: Sequence[int]) -> None:
    """Remove those of just these that are marked as deleted, where the server can (RFC 4315)."""
    if session.has("UIDPLUS"):
        session.uid("EXPUNGE", uids)


def flag(session: ImapSession, uids: Sequence[int], name: str) -> None:
    r"""Set a flag (`\Seen`) or a keyword; setting it again changes nothing."""
    session.uid("STORE", uids, "+FLAGS.SILENT", f"({name})")


def _copied(code: bytes, folder: str) -> dict[int, Spot]:
    """What COPYUID says: from which UID to which (RFC 4315 section 3); empty when it says nothing that can be used."""
    found = _COPYUID.fullmatch(code.strip())
    if not found:
        return {}
    old, new = _expanded(found[2]), _expanded(found[3])
    if len(old) != len(new):
        return {}
    return {before: Spot(folder, int(found[1]), after) for before, after in zip(old, new, strict=True)}


def _expanded(text: bytes) -> list[int]:
    uids: list[int] = []
    for part in text.split(b","):
        first, _, last = part.partition(b":")
        if not first.isdigit() or (last and not last.isdigit()):
            return []
        low, high = int(first), int(last or first)
        step = 1 if high >= low else -1
        uids += range(low, high + step, step)[: MOST_UIDS - len(uids)]
    return uids
