"""What commands outside daemon/cli.py share with it: the settings that were chosen, the ledger, and printing."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from config.settings import Settings, load
from tasks import log
from tasks.ledger import Ledger

JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="Job id (four characters of either end are enough) or Message-ID.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program instead of text for a person.")]


def config_of(context: typer.Context) -> Path | None:
    """The file that `postroom --config` names."""
    found: Path | None = context.find_root().params.get("config")
    return found


def settings_of(context: typer.Context, process: str = "") -> Settings:
    """The settings. `process` names who logs; without it only errors are logged. Raises ConfigError."""
    settings = load(config_of(context))
    quiet = settings if process else settings.model_copy(update={"log_level": "error"})
    log.configure(quiet, process or "cli")
    return settings


@contextlib.contextmanager
def ledger_of(context: typer.Context) -> Iterator[Ledger]:
    """The ledger, closed at the end. Raises Unavailable, or Permanent for another version's schema.

    Root opens it as the owner of state_dir: what is made there is the processes' own, and PostgreSQL on this host knows
    that user.
    """
    settings = settings_of(context)
    with as_owner(settings):
        ledger = Ledger.open(settings.ledger)
    try:
        yield ledger
    finally:
        ledger.close()


@contextlib.contextmanager
def as_owner(settings: Settings) -> Iterator[None]:
    """For root: write as the owner of state_dir, so that the processes can read what a command wrote."""
    owner = settings.state_dir.stat() if settings.state_dir.exists() else None
    if os.geteuid() or owner is None or not owner.st_uid:
        yield
        return
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def console() -> Console:
    """For people: colours and folding on a terminal, plain lines elsewhere."""
    return Console(soft_wrap=not sys.stdout.isatty(), highlight=False)


def print_json(value: Any) -> None:
    """For programs."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def printable(text: str) -> str:
    """`text` without what could steer a terminal; line breaks and tabs stay."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}" for one in text)


def one_line(text: str) -> str:
    """`text` on one line, without control characters: a subject must not draw on an admin's terminal."""
    return "".join(one if one.isprintable() else " " for one in text)
