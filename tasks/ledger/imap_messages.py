"""What is known of each message in a watched mailbox, so that none is missed, taken twice or tried for ever.

The key is (account, folder, UIDVALIDITY, UID): what IMAP promises to name one message (RFC 9051 section 2.3.1.1). There
is no watermark: a message counts as taken only because it has a row here, and it gets its row after its job is
committed. A search that finds a UID without a row finds work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from tasks.errors import Unavailable
from tasks.ledger.engine import Database
from tasks.ledger.imap_folders import is_owner
from tasks.ledger.schema import jobs, metadata
from tasks.models import RESTING, State

imap_messages = sa.Table(
    "imap_messages",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("folder", sa.Text, primary_key=True),
    sa.Column("validity", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("uid", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("job_id", sa.Text, nullable=False, default=""),  # no foreign key: the row outlives a job that is purged
    sa.Column("message_id", sa.Text, nullable=False, default=""),
    sa.Column("size", sa.BigInteger, nullable=False, default=0),
    sa.Column("tries", sa.Integer, nullable=False, default=0),
    sa.Column("due_at", sa.BigInteger, nullable=False, default=0),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("settled", sa.Integer, nullable=False, default=0),
    sa.Column("follows", sa.Integer, nullable=False, default=0),  # 1: it is moved once more at its job's end
    sa.Column("at_folder", sa.Text, nullable=False, default=""),
    sa.Column("at_validity", sa.BigInteger, nullable=False, default=0),
    sa.Column("at_uid", sa.BigInteger, nullable=False, default=0),
    sa.Column("placed", sa.Text, nullable=False, default=""),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
    sa.Column("key", sa.Text, nullable=False, default="", server_default=""),
    sa.Column("to_folder", sa.Text, nullable=False, default="", server_default=""),  # a move that has begun
    sa.Column("to_validity", sa.BigInteger, nullable=False, default=0, server_default="0"),
    sa.Column("to_uid", sa.BigInteger, nullable=False, default=0, server_default="0"),
    sa.Index(
        "ix_imap_messages_key",
        "account",
        "key",
        sqlite_where=sa.text("key <> ''"),
        postgresql_where=sa.text("key <> ''"),
    ),
    sa.Index(
        "ix_imap_messages_follows",
        "account",
        "folder",
        sqlite_where=sa.text("follows = 1"),
        postgresql_where=sa.text("follows = 1"),
    ),
)

_KEY = (imap_messages.c.account, imap_messages.c.folder, imap_messages.c.validity)
_RESTING = [state.value for state in RESTING]
AT_ONCE = 500
"""UIDs in one statement."""


class Mark(StrEnum):
    """What became of a message."""

    FETCHING = "fetching"  # a try is under way, or ended with the process
    SUSPECT = "suspect"  # a try failed; due_at says when it is tried again, alone
    ACCEPTED = "accepted"
    FILTERED = "filtered"
    TOO_LARGE = "too large"
    QUARANTINED = "quarantined"
    CANARY = "canary"


FINAL = frozenset({Mark.ACCEPTED, Mark.FILTERED, Mark.TOO_LARGE, Mark.QUARANTINED, Mark.CANARY})


@dataclass(frozen=True)
class Place:
    """A folder as it is while its UIDVALIDITY lasts."""

    account: str
    folder: str
    validity: int


@dataclass(frozen=True)
class Spot:
    """Where one message is now. No folder: nowhere any more; uid 0: not known, it is found by its Message-ID.

    As an aim (where a message is about to be moved) `uid` is the lowest that it can get there.
    """

    folder: str
    validity: int = 0
    uid: int = 0


NOWHERE = Spot("")


@dataclass(slots=True)
class Known:
    """What is known of one message."""

    mark: Mark
    tries: int = 0
    due_at: int = 0
    """Milliseconds since the epoch before which it is left alone."""
    settled: bool = False
    """What is done after acceptance was done."""
    reason: str = ""
    aim: Spot = NOWHERE
    """Where a move that has begun, and may have been made, takes it."""


@dataclass(frozen=True)
class Taken:
    """A message whose job is committed."""

    uid: int
    job_id: str
    message_id: str
    size: int
    key: str = ""
    """What it is recognised by when it is seen again, even after its job was purged."""


@dataclass(frozen=True)
class Move:
    """A message whose job has come to rest, and which has not been moved for that yet."""

    place: Place
    uid: int
    state: State
    spot: Spot
    message_id: str
    size: int
    aim: Spot = NOWHERE


@dataclass(frozen=True)
class Trace:
    """By what a message is found after it was moved."""

    message_id: str
    size: int


class ImapMessages:
    """The messages' rows. With an `owner`, nothing is written of a folder that another process reads by now."""

    def __init__(self, database: Database, owner: str = "") -> None:
        self._database = database
        self._owner = owner

    def owned_by(self, owner: str) -> ImapMessages:
        """The same rows, as the process writes them that reads the folder."""
        return ImapMessages(self._database, owner)

    def known(self, place: Place) -> dict[int, Known]:
        """Every message of the folder that has a row, by UID."""
        table = imap_messages.c
        columns = (table.uid, table.state, table.tries, table.due_at, table.settled, table.reason, *_aim_columns())
        with self._database.read() as connection:
            return {
                row.uid: Known(Mark(row.state), row.tries, row.due_at, bool(row.settled), row.reason, _aim(row))
                for row in connection.execute(sa.select(*columns).where(_at(place)))
            }

    def taken_before(self, account: str, keys: Sequence[str]) -> dict[str, str]:
        """Which of these keys an account's mail had before, in whatever folder, with the id of its (first) job."""
        table = imap_messages.c
        query = sa.select(table.key, table.job_id).where(table.account == account, table.key.in_(keys), table.key != "")
        with self._database.read() as connection:
            return {row.key: row.job_id for row in connection.execute(query)}

    def traces(self, place: Place, uids: Sequence[int]) -> dict[int, Trace]:
        """By what these are found where they were moved to."""
        table = imap_messages.c
        found: dict[int, Trace] = {}
        with self._database.read() as connection:
            for start in range(0, len(uids), AT_ONCE):
                some = table.uid.in_(uids[start : start + AT_ONCE])
                rows = connection.execute(sa.select(table.uid, table.message_id, table.size).where(_at(place), some))
                found |= {row.uid: Trace(row.message_id, row.size) for row in rows}
        return found

    def begin(self, place: Place, uids: Sequence[int], now: int) -> None:
        """Write down that these are about to be fetched: if that ends the process, the next try is made alone."""
        rows = [_row(place, uid, Mark.FETCHING, now) for uid in uids]
        with self._write(place) as connection:
            connection.execute(self._database.insert_ignoring(imap_messages), rows)
            self._update(connection, place, uids, state=Mark.FETCHING.value)

    def accepted(self, place: Place, taken: Sequence[Taken], *, follows: bool, now: int) -> None:
        """These are in the ledger as jobs."""
        rows = [
            _row(place, one.uid, Mark.ACCEPTED, now)
            | {"job_id": one.job_id, "message_id": one.message_id, "size": one.size, "follows": int(follows)}
            | {"key": one.key}
            for one in taken
        ]
        self._replace(place, rows)

    def passed_over(self, place: Place, why: Mapping[int, str], mark: Mark, now: int) -> None:
        """These are not fetched (again): filtered, too large, or put into quarantine; each with its reason."""
        self._replace(place, [_row(place, uid, mark, now) | {"reason": reason} for uid, reason in why.items()])

    def failed(self, place: Place, uid: int, known: Known) -> None:
        """A try of this one failed: its count, its reason, and when it is due again."""
        with self._write(place) as connection:
            self._update(
                connection,
                place,
                [uid],
                state=known.mark.value,
                tries=known.tries,
                due_at=known.due_at,
                reason=known.reason,
            )

    def spared(self, place: Place, uids: Sequence[int], due_at: int) -> None:
        """These were about to be fetched, and what came in between was not their fault: no try is counted."""
        with self._write(place) as connection:
            self._update(connection, place, uids, state=Mark.SUSPECT.value, due_at=due_at)

    def aimed(self, place: Place, uids: Sequence[int], aim: Spot) -> None:
        """These are about to be moved: a process that ends in between has left word of it."""
        with self._write(place) as connection:
            self._update(connection, place, uids, **_to(aim))

    def settled(self, place: Place, spots: Mapping[int, Spot]) -> None:
        """What follows acceptance was done with these, and where they are now."""
        changes = [
            {
                "b_uid": uid,
                "at_folder": spot.folder,
                "at_validity": spot.validity,
                "at_uid": spot.uid,
            }
            for uid, spot in spots.items()
        ]
        if not changes:
            return
        statement = sa.update(imap_messages).where(_at(place), imap_messages.c.uid == sa.bindparam("b_uid"))
        with self._write(place) as connection:
            connection.execute(statement.values(settled=1, **_to(NOWHERE)), changes)

    def moves(self, account: str, folder: str, limit: int) -> list[Move]:
        """Messages that came by this folder, are settled, and whose job rests in a state they were not moved for."""
        table = imap_messages.c
        query = (
            sa.select(imap_messages, jobs.c.state.label("job_state"))
            .join(jobs, jobs.c.id == table.job_id)
            .where(table.account == account, table.folder == folder, table.follows == 1, table.settled == 1)
            .where(jobs.c.state.in_(_RESTING), jobs.c.state != table.placed)
            .order_by(table.validity, table.uid)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_move(row) for row in connection.execute(query)]

    def placed(self, moves: Sequence[tuple[Move, Spot]]) -> None:
        """These are where their job's state wants them. A job that failed or waits for a person may still go on."""
        self._put(
            (one, spot, {"placed": one.state.value, "follows": int(one.state in {State.FAILED, State.REVIEW})})
            for one, spot in moves
        )

    def found(self, moves: Sequence[tuple[Move, Spot]]) -> None:
        """This is where these are, after a move that was begun and not written down."""
        self._put((one, spot, {}) for one, spot in moves)

    def aimed_at(self, moves: Sequence[Move], aim: Spot) -> None:
        """The same as `aimed`, of messages whose job has come to rest."""
        with self._write(moves[0].place) as connection:
            for one in moves:
                self._update(connection, one.place, [one.uid], **_to(aim))

    def _put(self, changes: Iterable[tuple[Move, Spot, dict[str, Any]]]) -> None:
        """Write where messages are that came by one folder."""
        changed = list(changes)
        if not changed:
            return
        with self._write(changed[0][0].place) as connection:
            for one, spot, values in changed:
                where = {"at_folder": spot.folder, "at_validity": spot.validity, "at_uid": spot.uid}
                self._update(connection, one.place, [one.uid], **where, **_to(NOWHERE), **values)

    def forget(self, place: Place, present: Iterable[int], before: int) -> int:
        """Remove rows that nothing needs any more: seen before `before`, and gone from the folder; how many."""
        table = imap_messages.c
        here = (table.account == place.account) & (table.folder == place.folder)
        purged = sa.not_(sa.exists().where(jobs.c.id == table.job_id))
        over = (table.follows == 0) | (table.settled == 0) | purged
        old = sa.select(table.validity, table.uid).where(here, table.seen_at < before, over)
        kept = set(present)
        with self._write(place) as connection:
            rows = connection.execute(old).all()
            gone = [
                {"b_validity": row.validity, "b_uid": row.uid}
                for row in rows
                if row.validity != place.validity or row.uid not in kept
            ]
            if gone:
                connection.execute(
                    sa.delete(imap_messages).where(
                        here, table.validity == sa.bindparam("b_validity"), table.uid == sa.bindparam("b_uid")
                    ),
                    gone,
                )
        return len(gone)

    def counts(self, account: str) -> dict[tuple[str, str], int]:
        """How many messages of an account have which mark, by (folder, mark)."""
        table = imap_messages.c
        query = sa.select(table.folder, table.state, sa.func.count()).where(table.account == account)
        with self._database.read() as connection:
            rows = connection.execute(query.group_by(table.folder, table.state)).all()
        return {(row.folder, row.state): row[2] for row in rows}

    def _replace(self, place: Place, rows: list[dict[str, Any]]) -> None:
        """Write rows whole, whatever stood there."""
        if not rows:
            return
        with self._write(place) as connection:
            for start in range(0, len(rows), AT_ONCE):
                uids = [row["uid"] for row in rows[start : start + AT_ONCE]]
                connection.execute(sa.delete(imap_messages).where(_at(place), imap_messages.c.uid.in_(uids)))
            connection.execute(sa.insert(imap_messages), rows)

    @contextlib.contextmanager
    def _write(self, place: Place) -> Iterator[sa.Connection]:
        with self._database.write() as connection:
            if self._owner and not is_owner(connection, place.account, place.folder, self._owner):
                raise Unavailable("imap", "another process reads this folder by now")
            yield connection

    @staticmethod
    def _update(connection: sa.Connection, place: Place, uids: Sequence[int], **values: Any) -> None:
        for start in range(0, len(uids), AT_ONCE):
            some = imap_messages.c.uid.in_(uids[start : start + AT_ONCE])
            connection.execute(sa.update(imap_messages).where(_at(place), some).values(**values))


def _at(place: Place) -> sa.ColumnElement[bool]:
    return sa.and_(*(column == getattr(place, column.name) for column in _KEY))


def _row(place: Place, uid: int, mark: Mark, now: int) -> dict[str, Any]:
    return {
        "account": place.account,
        "folder": place.folder,
        "validity": place.validity,
        "uid": uid,
        "state": mark.value,
        "job_id": "",
        "message_id": "",
        "size": 0,
        "tries": 0,
        "due_at": 0,
        "reason": "",
        "settled": int(mark is Mark.FILTERED),  # what is passed over is not touched
        "follows": 0,
        "at_folder": "",
        "at_validity": 0,
        "at_uid": 0,
        "placed": "",
        "seen_at": now,
        "key": "",
        **_to(NOWHERE),
    }


def _aim_columns() -> tuple[sa.Column[Any], ...]:
    table = imap_messages.c
    return table.to_folder, table.to_validity, table.to_uid


def _aim(row: Any) -> Spot:
    return Spot(row.to_folder, row.to_validity, row.to_uid) if row.to_folder else NOWHERE


def _to(aim: Spot) -> dict[str, Any]:
    return {"to_folder": aim.folder, "to_validity": aim.validity, "to_uid": aim.uid}


def _move(row: Any) -> Move:
    return Move(
        place=Place(row.account, row.folder, row.validity),
        uid=row.uid,
        state=State(row.job_state),
        spot=Spot(row.at_folder, row.at_validity, row.at_uid),
        message_id=row.message_id,
        size=row.size,
        aim=_aim(row),
    )
