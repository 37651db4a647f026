"""How each watched folder fares, and which process reads it: one at a time.

The right to read a folder has no end on any clock, like a stage's lease: its holder counts a beat. Another process takes
it when the beat has stood still for long enough by its own clock, or when it knows that the holder has ended.
"""

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
    sa.Column("since", sa.BigInteger, nullable=False, default=0, server_default="0"),
    sa.Column("owner", sa.Text, nullable=False, default="", server_default=""),
    sa.Column("beat", sa.BigInteger, nullable=False, default=0, server_default="0"),
    sa.Column("canary_at", sa.BigInteger, nullable=False, default=0, server_default="0"),
)
_ZERO = ("validity", "searched_at", "down_since", "alerted", "canary_ms", "since", "beat", "canary_at")


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
    since: int = 0
    """With max_age_days: all that arrived before is done, or was too old when the folder was first watched."""
    owner: str = ""
    """The process that reads it, as `tasks.heart` names processes; empty: none does."""
    beat: int = 0
    """Grows while the owner lives."""
    canary_at: int = 0
    """When the last mail to ourselves came back."""


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

    def update(self, account: str, folder: str, by: str = "", **values: Any) -> None:
        """Change some columns of a folder's row, making it when it is not there.

        With `by`, nothing is changed of a folder that another process reads by now.
        """
        with self._database.write() as connection:
            self._make(connection, account, folder)
            mine = imap_folders.c.owner.in_(("", by)) if by else sa.true()
            connection.execute(sa.update(imap_folders).where(_is(account, folder), mine).values(**values))

    def claim(self, account: str, folder: str, owner: str, instead_of: Watched) -> bool:
        """Become the one that reads a folder: of those that try at once, one does.

        It has to be free, ours already, or as it was seen in `instead_of`, whose holder was found to be gone.
        """
        table = imap_folders.c
        unchanged = (table.owner == instead_of.owner) & (table.beat == instead_of.beat)
        free = sa.or_(table.owner.in_(("", owner)), unchanged)
        with self._database.write() as connection:
            self._make(connection, account, folder)
            taken = sa.update(imap_folders).where(_is(account, folder), free).values(owner=owner, beat=table.beat + 1)
            return connection.execute(taken).rowcount == 1

    def beat(self, owner: str) -> None:
        """Say that the owner of these folders lives."""
        mine = sa.update(imap_folders).where(imap_folders.c.owner == owner)
        with self._database.write() as connection:
            connection.execute(mine.values(beat=imap_folders.c.beat + 1))

    def release(self, account: str, folder: str, owner: str) -> None:
        """Let another process read it."""
        mine = sa.and_(_is(account, folder), imap_folders.c.owner == owner)
        with self._database.write() as connection:
            connection.execute(sa.update(imap_folders).where(mine).values(owner=""))

    def _make(self, connection: sa.Connection, account: str, folder: str) -> None:
        row: dict[str, Any] = {"account": account, "folder": folder, "reason": "", "owner": ""}
        connection.execute(self._database.insert_ignoring(imap_folders), [row | dict.fromkeys(_ZERO, 0)])


def is_owner(connection: sa.Connection, account: str, folder: str, owner: str) -> bool:
    """Whether this owner still reads the folder, for the rest of the transaction; counts a beat."""
    mine = sa.update(imap_folders).where(_is(account, folder), imap_folders.c.owner == owner)
    return connection.execute(mine.values(beat=imap_folders.c.beat + 1)).rowcount == 1


def _is(account: str, folder: str) -> sa.ColumnElement[bool]:
    return sa.and_(imap_folders.c.account == account, imap_folders.c.folder == folder)
