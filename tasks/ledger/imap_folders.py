"""How each watched folder fares: when it was last searched, since when it cannot be, and whether that was told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tasks.ledger.engine import Database
from tasks.ledger.schema import metadata

imap_folders = sa.Table(
    "imap_folders",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("folder", sa.Text, primary_key=True),
    sa.Column("validity", sa.BigInteger, nullable=False, default=0),
    sa.Column("searched_at", sa.BigInteger, nullable=False, default=0),
    sa.Column("down_since", sa.BigInteger, nullable=False, default=0),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("alerted", sa.Integer, nullable=False, default=0),
    sa.Column("canary_ms", sa.BigInteger, nullable=False, default=0),
    sa.Column("canary_at", sa.BigInteger, nullable=False, default=0, server_default="0"),
    sa.Column("since", sa.BigInteger, nullable=False, default=0, server_default="0"),
)


@dataclass(frozen=True)
class Watched:
    """A folder's row. Times are milliseconds since the epoch; 0: never."""

    account: str
    folder: str
    validity: int = 0
    searched_at: int = 0
    """When a search of the whole folder last came to its end."""
    down_since: int = 0
    """When the outage began that still lasts: the folder cannot be searched, or what is in it cannot be taken."""
    reason: str = ""
    alerted: int = 0
    """1: an alert for this outage went out."""
    canary_ms: int = 0
    """How long the last mail to ourselves took from sent to accepted."""
    canary_at: int = 0
    """When it was accepted."""
    since: int = 0
    """With max_age_days: all that arrived before is done, or was too old when the folder was first watched."""


class ImapFolders:
    """The folders' rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[tuple[str, str], Watched]:
        """Every folder that was ever watched, by (account, folder)."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(imap_folders)).all()
        return {(row.account, row.folder): Watched(**row._mapping) for row in rows}

    def get(self, account: str, folder: str) -> Watched:
        """One folder; one that was never watched has nothing but its name."""
        return self.all().get((account, folder), Watched(account, folder))

    def update(self, account: str, folder: str, **values: Any) -> None:
        """Change some columns of a folder's row, making it when it is not there."""
        key = {"account": account, "folder": folder}
        zero = dict.fromkeys(("validity", "searched_at", "down_since", "alerted", "canary_ms", "canary_at", "since"), 0)
        mine = (imap_folders.c.account == account) & (imap_folders.c.folder == folder)
        with self._database.write() as connection:
            connection.execute(self._database.insert_ignoring(imap_folders), [key | zero | {"reason": ""}])
            connection.execute(sa.update(imap_folders).where(mine).values(**values))
