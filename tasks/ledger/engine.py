"""Connections: SQLite as WAL with synchronous=FULL, PostgreSQL as it comes; the schema by Alembic."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from tasks.errors import Unavailable, WrongSchema
from tasks.texts import dump_json

_T = TypeVar("_T")
MIGRATIONS = Path(__file__).resolve().parent / "migrations"
HEAD = "0014"
"""The newest revision in MIGRATIONS; a constant, so that a program that only looks need not load Alembic."""
BUSY_MS = 15_000
"""How long a write waits for another one."""
SQLITE = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "cache_size=-8000",  # KiB: the upper parts of every index
    "wal_autocheckpoint=4000",  # pages: what many commits change again and again is carried over once
)
POSTGRESQL = {
    "application_name": "postroom",
    "connect_timeout": "5",
    # a server that vanished without a word is noticed in half a minute, not after the kernel's quarter of an hour
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
    # a process frozen in the middle of a transaction does not hold its locks for ever
    "options": f"-c lock_timeout={BUSY_MS} -c idle_in_transaction_session_timeout=60000",
}
"""libpq's connection parameters; those in the URL go before."""
TRIES = 4
_AGAIN = {"40001", "40P01"}  # serialization_failure, deadlock_detected: the same transaction may well succeed now
_TOO_BIG = "54"  # program_limit_exceeded and its class: waiting does not make it smaller
_ELSEWHERE = {"25006"}  # read_only_sql_transaction: connected to a standby, or to a primary that became one


class Database:
    """One engine. `read()` and `write()` give a connection inside a transaction."""

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database:
            _make_folder(Path(self.url.database).parent)
        given = {} if self.is_sqlite else {name: POSTGRESQL[name] for name in POSTGRESQL.keys() - self.url.query.keys()}
        self.engine = sa.create_engine(
            self.url,
            pool_size=16,
            max_overflow=16,
            pool_pre_ping=not self.is_sqlite,
            json_serializer=dump_json,
            connect_args=given,
        )
        self._writer = self.engine.execution_options(postroom_begin="BEGIN IMMEDIATE")
        if self.is_sqlite:
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads. Raises Unavailable when the ledger does not answer."""
        with _ledger_errors(), self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that writes: on SQLite it takes the write lock at once. Raises Unavailable."""
        with _ledger_errors(), self._writer.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[tuple[sa.Connection, str]]:
        """PostgreSQL: a transaction that sees one moment, and the name under which pg_dump can see the same one."""
        engine = self.engine.execution_options(isolation_level="REPEATABLE READ")
        with _ledger_errors(), engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            yield connection, connection.execute(sa.text("SELECT pg_export_snapshot()")).scalar_one()

    def conninfo(self) -> tuple[str, str]:
        """PostgreSQL: the connection string that libpq's programs take, and the password, which must stay out of it."""
        from psycopg.conninfo import make_conninfo  # noqa: PLC0415  # only where PostgreSQL is used

        _, given = self.engine.dialect.create_connect_args(self.url)
        parameters = {name: value for name, value in given.items() if name not in {"password", "context"}}
        return make_conninfo(**parameters), str(self.url.password or "")

    def own_connection(self) -> sqlite3.Connection:
        """A connection to SQLite that belongs to its caller, set up like all others. Raises sqlite3.Error."""
        connection = sqlite3.connect(str(self.url.database), isolation_level=None, check_same_thread=False)
        _prepare_sqlite(connection, None)
        return connection

    def insert_ignoring(self, table: sa.Table) -> Any:
        """`INSERT ... ON CONFLICT DO NOTHING` in this database's dialect."""
        if self.is_sqlite:
            from sqlalchemy.dialects.sqlite import insert as sqlite_insert  # noqa: PLC0415  # one of two dialects

            return sqlite_insert(table).on_conflict_do_nothing()
        from sqlalchemy.dialects.postgresql import insert as postgresql_insert  # noqa: PLC0415  # one of two dialects

        return postgresql_insert(table).on_conflict_do_nothing()

    def revision(self) -> str | None:
        """The schema's revision in the database; None when there is none yet."""
        with self.read() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()

    def migrate(self) -> None:
        """Bring the schema to the code's revision; safe when several processes do it at once."""
        from alembic import command  # noqa: PLC0415  # a third of a second that only a new schema has to wait for
        from alembic.config import Config  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["database"] = self
        with self._migration_lock():
            if self.revision() != HEAD:
                command.upgrade(config, "head")

    def check_schema(self) -> None:
        """Make a new database's schema; raise WrongSchema when an old or a newer one is found."""
        found = self.revision()
        if found is None:
            self.migrate()
        elif found != HEAD:
            raise WrongSchema(f"the ledger has schema {found}, this version needs {HEAD}; run `postroom migrate`")

    def check_writable(self) -> None:
        """Commit something that changes nothing. Raises Unavailable: locked, full or read-only."""
        with self.write() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = version_num"))

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextlib.contextmanager
    def _migration_lock(self) -> Iterator[None]:
        if not (self.is_sqlite and self.url.database):
            yield  # PostgreSQL's DDL is transactional; env.py takes an advisory lock
            return
        path = Path(f"{self.url.database}.migrating")
        try:
            lock = path.open("w")
        except OSError as error:
            raise Unavailable("ledger", f"cannot open {path}: {error.strerror}") from error
        with lock as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Unavailable("ledger", f"cannot make {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise Unavailable("ledger", f"{folder} is not writable")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours, so that it can be IMMEDIATE
    cursor = connection.cursor()
    for pragma in (*SQLITE, f"busy_timeout={BUSY_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    """Begin; a write waits for its turn, and looks for it often.

    SQLite's own waiters sleep up to a tenth of a second between two looks, so that beside a process that writes all the
    time another one found the gap after seconds.
    """
    begin = connection.get_execution_options().get("postroom_begin")
    if begin is None:
        connection.exec_driver_sql("BEGIN")
        return
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    deadline = time.monotonic() + BUSY_MS / 1000
    driver.execute("PRAGMA busy_timeout=0")
    try:
        while time.monotonic() < deadline:
            try:
                driver.execute(begin)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
                time.sleep(random.uniform(0.0005, 0.0015))  # noqa: S311  # so that two of them do not keep step
            else:
                return
        connection.exec_driver_sql(begin)  # which says what is wrong as SQLAlchemy does
    finally:
        driver.execute(f"PRAGMA busy_timeout={BUSY_MS}")


def retried(work: Callable[[], _T]) -> _T:
    """The result of `work`, a whole transaction, run again when another one crossed it. Raises what it raises."""
    for left in range(TRIES - 1, -1, -1):
        try:
            return work()
        except Unavailable as error:
            if not left or _state_of(error.__cause__) not in _AGAIN:
                raise
    raise AssertionError


def _state_of(error: BaseException | None) -> str:
    """PostgreSQL's five characters for what went wrong; empty when there are none."""
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")


@contextlib.contextmanager
def _ledger_errors() -> Iterator[None]:
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
        state = _state_of(error)
        passing = isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError))
        damaged = type(error) is sa.exc.DatabaseError  # SQLite: malformed, or no database at all
        if state.startswith(_TOO_BIG) or not (passing or damaged or state in _ELSEWHERE):
            raise
        raise Unavailable("ledger", f"the ledger does not answer: {getattr(error, 'orig', None) or error}") from error
