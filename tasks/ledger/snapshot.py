"""The whole ledger as one file, taken while others write, and put back from one.

SQLite: its online backup in one step, which sees one moment however many write meanwhile. PostgreSQL: pg_dump on an
exported snapshot, so that the file and the list of blobs are of the same moment.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import sqlalchemy as sa

from tasks.errors import Permanent, Unavailable
from tasks.files import sync_folder
from tasks.ledger.engine import Database
from tasks.ledger.schema import job_blobs, jobs

_BLOBS = sa.union(sa.select(jobs.c.raw_sha256).where(jobs.c.raw.is_(None)), sa.select(job_blobs.c.sha256))


def save(database: Database, target: Path) -> list[str]:
    """Write the ledger to `target`; the SHA-256 of each blob that it refers to.

    Raises Unavailable when the ledger does not answer, Permanent when it is damaged or a program is missing.
    """
    return _save_sqlite(database, target) if database.is_sqlite else _save_postgresql(database, target)


def load(database: Database, source: Path) -> None:
    """Put the ledger in `source` in the place of this one. Raises Permanent when somebody works with this one."""
    if database.is_sqlite:
        _load_sqlite(database, source)
    else:
        _load_postgresql(database, source)


def holds_jobs(database: Database) -> bool:
    """Whether there is anything that could be lost."""
    if database.is_sqlite and not Path(str(database.url.database)).exists():
        return False
    if database.revision() is None:
        return False
    with database.read() as connection:
        return connection.execute(sa.select(jobs.c.id).limit(1)).first() is not None


def _save_sqlite(database: Database, target: Path) -> list[str]:
    try:
        with (
            contextlib.closing(sqlite3.connect(str(database.url.database))) as source,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
            if (found := copy.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise Permanent(f"the ledger is damaged: {found}")
            return [row[0] for row in copy.execute(str(_BLOBS))]
    except sqlite3.OperationalError as error:
        raise Unavailable("ledger", f"the ledger cannot be copied: {error}") from error
    except sqlite3.DatabaseError as error:
        raise Permanent(f"the ledger is damaged: {error}") from error


def _load_sqlite(database: Database, source: Path) -> None:
    place = Path(str(database.url.database))
    database.close()
    if place.exists():
        _leave_wal(place)
    for suffix in ("-wal", "-shm"):
        Path(f"{place}{suffix}").unlink(missing_ok=True)
    fresh = place.with_name(f"{place.name}.restoring")
    shutil.copyfile(source, fresh)
    fresh.chmod(0o600)
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.replace(place)
    sync_folder(place.parent)


def _leave_wal(place: Path) -> None:
    """SQLite leaves WAL only when nobody else has the file open: so it tells whether a process works with it."""
    with contextlib.closing(sqlite3.connect(place, timeout=2)) as connection:
        try:
            connection.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.OperationalError as error:
            raise Permanent(f"the ledger {place} is in use ({error}); stop Postroom first") from None
        except sqlite3.DatabaseError:
            return  # damaged: that is why it is replaced


def _save_postgresql(database: Database, target: Path) -> list[str]:
    with database.snapshot() as (connection, name):
        _run(database, "pg_dump", f"--snapshot={name}", "--format=custom", f"--file={target}")
        return list(connection.execute(_BLOBS).scalars())


def _load_postgresql(database: Database, source: Path) -> None:
    database.close()
    others = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'postroom' AND pid <> pg_backend_pid()"
    )
    with database.read() as connection:
        if found := connection.execute(others).scalar_one():
            raise Permanent(f"{found} connections of Postroom are open to this ledger; stop it on every host first")
    database.close()
    _run(
        database, "pg_restore", "--clean", "--if-exists", "--single-transaction", "--exit-on-error", last=[str(source)]
    )


def _run(database: Database, program: str, *options: str, last: list[str] | None = None) -> None:
    """One of PostgreSQL's client programs, on this database; the password goes by the environment."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    places = [str(folder) for folder in reversed(folders)] + [os.environ.get("PATH", os.defpath)]
    found = shutil.which(program, path=os.pathsep.join(places))
    if found is None:
        raise Permanent(f"{program} is not there; install PostgreSQL's client programs (Debian: postgresql-client)")
    target, password = database.conninfo()
    environment = {**os.environ, **({"PGPASSWORD": password} if password else {})}
    command = [found, "--no-owner", "--no-privileges", "--no-password", *options, f"--dbname={target}", *(last or [])]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise Permanent(f"{program} failed: {' '.join(ended.stderr.split())[-500:]}")
