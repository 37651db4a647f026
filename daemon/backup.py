"""`postroom backup` and `postroom restore`: ledger and blobs in one file, made while everything runs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from config.settings import Settings
from daemon.console import as_owner, ledger_of, settings_of
from tasks import bundle
from tasks.clock import iso, now_ms
from tasks.errors import Permanent
from tasks.ledger import Ledger, snapshot
from tasks.ledger.engine import HEAD
from tasks.stores import open_store

commands = typer.Typer(rich_markup_mode=None)


@commands.command(rich_help_panel="Actions")
def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The tar file to write; an older one is replaced when this is whole.")],
) -> None:
    """Write ledger, blobs and secret to one file, while Postroom runs.

    Exit status 1 when blobs were missing or damaged: all else is in the file, and they are named.
    """
    settings = settings_of(context)
    with ledger_of(context) as ledger:
        made = take(settings, ledger, file)
    print(
        f"{file}: the ledger ({made.kind}, schema {made.schema_revision}) and {made.blobs} blobs, {iso(made.made_at)}"
    )
    if made.without:
        raise Permanent(f"{len(made.without)} blobs are missing or damaged: {', '.join(made.without[:20])}")


@commands.command(rich_help_panel="Actions")
def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A file that `postroom backup` wrote.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a ledger that holds jobs.")] = False,
) -> None:
    """Put a backup in place of the ledger, with Postroom stopped. Every checksum is compared first.

    What was delivered after the backup was made is delivered again, under the same Message-ID or Idempotency-Key.
    """
    settings = settings_of(context)
    with as_owner(settings):
        made = put_back(settings, file, force=force)
    print(f"restored what was accepted until {iso(made.made_at)}: {made.blobs} blobs and the ledger")


def take(settings: Settings, ledger: Ledger, file: Path, revision: str = HEAD) -> bundle.Manifest:
    """Make the backup of a ledger with the schema `revision`.

    Raises Permanent or Unavailable; then an older `file` is as it was.
    """
    blobs, begun = open_store(settings), now_ms()
    kept = settings.state_dir / "secret"
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with blobs.kept_for_backup(), tempfile.TemporaryDirectory(prefix=".backup-", dir=settings.state_dir) as folder:
        copy = Path(folder) / "ledger"
        digests = snapshot.save(ledger.database, copy)
        return bundle.write(
            file,
            ledger=copy,
            kind="sqlite" if ledger.database.is_sqlite else "postgresql",
            revision=revision,
            begun=begun,
            secret=kept.read_bytes() if kept.exists() else None,
            blobs=blobs,
            digests=digests,
        )


def put_back(settings: Settings, file: Path, *, force: bool) -> bundle.Manifest:
    """Restore `file`. Raises Permanent, and has not touched the ledger, when file or place are not fit for it."""
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = bundle.check(file)
    if made.schema_revision > HEAD:
        raise Permanent(f"{file} has schema {made.schema_revision}, this version knows {HEAD}; restore it with a newer")
    ledger = Ledger(settings.ledger)
    try:
        _check_place(ledger, made, force=force)
        with tempfile.TemporaryDirectory(prefix=".restore-", dir=settings.state_dir) as folder:
            copy = Path(folder) / "ledger"
            secret = bundle.unpack(file, copy, open_store(settings))
            snapshot.load(ledger.database, copy)
        if secret is not None:
            place = settings.state_dir / "secret"
            place.touch(mode=0o600)
            place.write_bytes(secret)
        ledger.database.migrate()
    finally:
        ledger.close()
    return made


def _check_place(ledger: Ledger, made: bundle.Manifest, *, force: bool) -> None:
    here = "sqlite" if ledger.database.is_sqlite else "postgresql"
    if here != made.kind:
        raise Permanent(f"the backup is of a ledger on {made.kind}; ledger_url names one on {here}")
    if not force and snapshot.holds_jobs(ledger.database):
        raise Permanent("the ledger holds jobs; --force replaces them, or name an empty state_dir or database")
