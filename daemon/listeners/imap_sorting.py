"""Which of a folder's messages are fetched: asked by size, then by header, and only then in full."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from config.imap import ImapAccount
from daemon.listeners.imap_filters import passed_over_because
from daemon.listeners.imap_session import ImapSession

Spared = Callable[[bytes], object]


@dataclass(frozen=True)
class Sorted:
    """Messages by what is to become of them."""

    wanted: dict[int, int]
    """Sizes by UID."""
    too_large: dict[int, str]
    unwanted: dict[int, str]
    """Passed over by the filter, with the reason."""


def sort_out(
    session: ImapSession, account: ImapAccount, sizes: Mapping[int, int], spared: Spared | None = None
) -> Sorted:
    """Sort the messages of the folder that is open; headers are fetched only when the filter needs them.

    `spared` says of a header whether the message is taken whatever the filter says.
    """
    too_large = {
        uid: f"{size} bytes are more than max_size = {account.max_size}"
        for uid, size in sizes.items()
        if size > account.max_size
    }
    small = {uid: size for uid, size in sizes.items() if uid not in too_large}
    unwanted = _unwanted(session, account, small, spared)
    return Sorted({uid: size for uid, size in small.items() if uid not in unwanted}, too_large, unwanted)


def _unwanted(
    session: ImapSession, account: ImapAccount, sizes: Mapping[int, int], spared: Spared | None
) -> dict[int, str]:
    rule = account.filter
    heads = session.heads(list(sizes)) if rule.reads_header else {}
    found = {}
    for uid, size in sizes.items():
        if rule.reads_header and uid not in heads:
            continue  # it has just gone, and the fetch will say so
        if spared and spared(heads.get(uid, b"")):
            continue
        structure = session.structure(uid) if rule.has_attachment is not None else b""
        if reason := passed_over_because(rule, size, heads.get(uid, b""), structure):
            found[uid] = reason
    return found
