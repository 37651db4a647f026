"""What commands outside daemon/cli.py share with it: the settings that were chosen, the ledger, and printing."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console

from config.settings import Settings, load
from tasks import log
from tasks.ledger import Ledger


def settings_of(context: typer.Context) -> Settings:
    """The settings, from the file that `postroom --config` names. Raises ConfigError."""
    settings = load(context.find_root().params.get("config"))
    log.configure(settings.model_copy(update={"log_level": "error"}), "cli")
    return settings


@contextlib.contextmanager
def ledger_of(context: typer.Context) -> Iterator[Ledger]:
    """The ledger, closed at the end. Raises Unavailable, or Permanent for another version's schema."""
    ledger = Ledger.open(settings_of(context).ledger)
    try:
        yield ledger
    finally:
        ledger.close()


def console() -> Console:
    """For people: colours and folding on a terminal, plain lines elsewhere."""
    return Console(soft_wrap=not sys.stdout.isatty(), highlight=False)


def print_json(value: Any) -> None:
    """For programs."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def printable(text: str) -> str:
    """`text` without what could steer a terminal; line breaks and tabs stay."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}" for one in text)
