"""A private PostgreSQL for the tests: its own cluster in a temporary folder, reached by a socket in it.

    with running() as server:
        url = server.create("name")           # SQLAlchemy URL of an empty database

Fails with the name of the package when PostgreSQL's programs are not there: a ledger that is not tested is not promised.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from tasks.ledger import Ledger
from tests import memory

SUPERUSER = "postgres"
TEMPLATE = "postroom_template"
_BY_FILE = " STRATEGY FILE_COPY"
"""Takes half as long as through the log; the choice came with PostgreSQL 15."""
_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",  # what is tested is what Postroom asks for, not this machine's disk
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "deadlock_timeout": "200ms",
    "log_min_messages": "warning",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "128MB",
}


@dataclass
class Postgres:
    """A running server."""

    base: Path
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://{SUPERUSER}@/{database}?host={self.base}"

    def create(self, database: str, template: str = "template0") -> str:
        """Make a database; its URL."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}" + (_BY_FILE if _version() >= 15 else ""))
        self.run(statement.format(sql.Identifier(database), sql.Identifier(template)))
        return self.url(database)

    def migrated(self, database: str) -> str:
        """Make a database with the ledger's schema, as a copy of one that is migrated once; its URL."""
        with contextlib.suppress(psycopg.errors.DuplicateDatabase):
            Ledger.open(self.create(TEMPLATE)).close()
        return self.create(database, TEMPLATE)

    def drop(self, database: str) -> None:
        """Remove a database, whoever is still connected."""
        self.run(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))

    def run(self, statement: sql.Composable | str) -> list[Any]:
        """Run one statement as superuser outside every database of a test."""
        with psycopg.connect(host=str(self.base), user=SUPERUSER, dbname="postgres", autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[arg-type]  # text of ours
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Start it (again) and wait until it answers."""
        options = [part for name, value in _OPTIONS.items() for part in ("-c", f"{name}={value}")]
        command = [program("postgres"), "-D", str(self.base / "data"), "-k", str(self.base), *options]
        with (self.base / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, cwd=self.base, **_as_user())
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, f"PostgreSQL ended: {(self.base / 'log').read_text()}"
            try:
                self.run("SELECT 1")
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, f"PostgreSQL does not answer: {(self.base / 'log').read_text()}"
                time.sleep(0.05)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT ends every session first (a fast shutdown), SIGQUIT drops all as a crash does."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(30)


@functools.cache
def program(name: str) -> str:
    """Where one of PostgreSQL's programs lies; Debian keeps those of the server out of PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    found = shutil.which(name) or next((str(folder / name) for folder in reversed(folders)), None)
    if found is None or not Path(found).exists():
        pytest.fail(f"these tests need PostgreSQL's {name}: apt install postgresql", pytrace=False)
    return str(Path(found).resolve())


@functools.cache
def _version() -> int:
    told = subprocess.run([program("postgres"), "--version"], capture_output=True, text=True, check=True).stdout
    return int(re.findall(r"\d+", told)[0])


@contextmanager
def running() -> Iterator[Postgres]:
    """Make a cluster and run it for the block."""
    base = Path(tempfile.mkdtemp(prefix="pr-postgres-", dir=memory.folder()))
    try:
        if user := _as_user().get("user"):
            os.chown(base, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        base.chmod(0o755)
        command = [program("initdb"), "-D", str(base / "data"), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8"]
        made = subprocess.run(
            [*command, "--locale=C", "--no-sync"], cwd=base, capture_output=True, text=True, check=False, **_as_user()
        )
        assert made.returncode == 0, made.stderr
        server = Postgres(base)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _as_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then it runs as `postgres`, or `nobody` where there is none."""
    if os.getuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = "postgres" if "postgres" in names else "nobody"
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def raw_connection(url: str) -> psycopg.Connection[Any]:
    """A connection past Postroom's own code, to the database of an SQLAlchemy URL."""
    parts = sa.make_url(url)
    return psycopg.connect(host=str(parts.query["host"]), user=parts.username, dbname=parts.database, autocommit=True)
