"""Which watched folders have not been searched for too long, as /readyz tells it."""

from __future__ import annotations

from collections.abc import Mapping

from config.imap import ImapAccount
from tasks.clock import iso
from tasks.ledger import Watched


def stale_folders(
    accounts: Mapping[str, ImapAccount], watched: Mapping[tuple[str, str], Watched], *, since: int, now: int
) -> dict[str, str]:
    """A sentence for each folder that is stale, by `imap:account/folder`: not searched, or searched and not taken.

    `since` is when the asker began to look: a folder that was never searched gets `stale_after` from there. Times are
    milliseconds since the epoch.
    """
    found = {}
    for name, account in accounts.items():
        for folder in account.folders:
            row = watched.get((name, folder), Watched(name, folder))
            alive_at = min(row.searched_at, row.down_since) if row.down_since else row.searched_at
            if now - max(alive_at, since) > account.stale_after * 1000:
                last = f"last searched {iso(row.searched_at)}" if row.searched_at else "never searched"
                reason = f": {row.reason}" if row.reason else "; is `postroom imap` running?"
                found[f"imap:{name}/{folder}"] = f"{last}{reason}"
    return found
