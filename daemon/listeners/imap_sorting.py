"""Which of a folder's messages are fetched: asked by size, then by header, and only then in full."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from config.imap import ImapAccount
from daemon.listeners.imap_asking import Asker
from daemon.listeners.imap_filters import passed_over_because
from daemon.listeners.imap_session import ImapSession

Spared = Callable[[bytes], object]
HEADS_AT_ONCE = 50
"""Headers in memory at once."""


@dataclass(frozen=True)
class Sorted:
    """Messages by what is to become of them."""

    wanted: dict[int, int]
    """Sizes by UID."""
    too_large: dict[int, str]
    unwanted: dict[int, str]
    """Passed over by the filter, with the reason."""
    refused: dict[int, str]
    """The server does not tell what the filter needs, with its words."""


def sort_out(
    session: ImapSession, account: ImapAccount, sizes: Mapping[int, int], spared: Spared | None = None
) -> Sorted:
    """Sort the messages of the folder that is open; headers are fetched only when the filter needs them.

    `spared` says of a header whether the message is taken whatever the filter says. Raises Unavailable when the server is
    busy, or answers for none of them.
    """
    too_large = {
        uid: f"{size} bytes are more than max_size = {account.max_size}"
        for uid, size in sizes.items()
        if size > account.max_size
    }
    small = {uid: size for uid, size in sizes.items() if uid not in too_large}
    heads, structures = Asker(), Asker()
    unwanted = _unwanted(session, account, (heads, structures), small, spared)
    refused = {uid: why for uid, why in (heads.refused() | structures.refused()).items() if uid not in unwanted}
    wanted = {uid: size for uid, size in small.items() if uid not in unwanted and uid not in refused}
    return Sorted(wanted, too_large, unwanted, refused)


def _unwanted(
    session: ImapSession,
    account: ImapAccount,
    askers: tuple[Asker, Asker],
    sizes: Mapping[int, int],
    spared: Spared | None,
) -> dict[int, str]:
    rule = account.filter
    if not rule.reads_header:
        why = ((uid, passed_over_because(rule, size)) for uid, size in sizes.items())
        return {uid: reason for uid, reason in why if reason}
    found = {}
    uids = list(sizes)
    for_heads, for_structures = askers
    for start in range(0, len(uids), HEADS_AT_ONCE):
        some = uids[start : start + HEADS_AT_ONCE]
        for uid, head in for_heads.ask(session.heads, some, HEADS_AT_ONCE).items():  # without those that have just gone
            if spared and spared(head):
                continue
            structure = for_structures.ask(session.structures, [uid], 1) if rule.has_attachment is not None else {}
            if reason := passed_over_because(rule, sizes[uid], head, structure.get(uid, b"")):
                found[uid] = reason
    return found
