"""`postroom imap test` and `postroom imap import`: look at a mailbox, and take old mail out of it."""

# ruff: noqa: PLC0415  # as in daemon/cli.py: each command imports only what it needs, `postroom jobs` starts quickly

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer

from config.imap import ImapAccount
from config.settings import Settings
from daemon.console import console, settings_of
from tasks.errors import Permanent, Unavailable

commands = typer.Typer(rich_markup_mode=None)
Account = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's name: `support` for [imap.support].")]


@commands.command(name="test")
def test(context: typer.Context, account: Account) -> None:
    """Log in, list folders and what the server can do, and what would be taken. Changes nothing."""
    from daemon.mailbox_look import look

    settings = settings_of(context)
    with _errors(account):
        well = look(console(), settings, account, _section(settings, account))
    raise typer.Exit(0 if well else 1)


@commands.command(name="import")
def take(
    context: typer.Context,
    account: Account,
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where the old mail is; it need not be watched.")],
    since: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Take what arrived on this day or later.")],
) -> None:
    """Take old mail. What was taken before is recognised; the mailbox is not changed."""
    from daemon.mailbox_import import run

    settings = settings_of(context)
    with _errors(account):
        told = run(console(), settings, account, _section(settings, account), folder, since.replace(tzinfo=UTC))
    print(told.sentence())
    raise typer.Exit(1 if told.failed else 0)


def _section(settings: Settings, name: str) -> ImapAccount:
    if name not in settings.imap:
        known = ", ".join(settings.imap) or "none"
        raise Permanent(f"no account {name!r}; configured: {known}. Write a table [imap.{name}]")
    return settings.imap[name]


@contextlib.contextmanager
def _errors(name: str) -> Iterator[None]:
    """What the other side does, as one sentence."""
    from imaplib import IMAP4

    from daemon.listeners.imap_session import LoginRefusedError, RefusedError

    try:
        yield
    except (LoginRefusedError, RefusedError) as error:
        raise Permanent(f"account {name!r}: {error}") from None
    except (OSError, IMAP4.error) as error:
        raise Unavailable("imap", f"account {name!r}: {type(error).__name__}: {error}") from None
