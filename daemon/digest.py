"""`postroom digest`: the mail of the day, for postroom-digest.timer and for a person who asks."""

from __future__ import annotations

from typing import Annotated

import typer

from daemon.console import ledger_of, printable, settings_of
from tasks import digest as letters
from tasks.clock import moment, now_ms

commands = typer.Typer(rich_markup_mode=None)


@commands.command(rich_help_panel="Actions")
def digest(
    context: typer.Context,
    since: Annotated[
        str, typer.Option(help="Tell what happened since then: 2026-03-02, 12h.  [default: the last digest]")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print it and send nothing.")] = False,
) -> None:
    """Mail what came, was answered, waits for a decision and failed to [alerts] mail; once a day, however often called."""
    now = now_ms()
    try:
        begin = moment(since, now) if since else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None
    settings = settings_of(context)
    with ledger_of(context) as ledger:
        if dry_run:
            subject, text = letters.written(settings, ledger, now, begin)
            print(printable(f"{subject}\n\n{text}"))
        elif not settings.alerts.mail:
            print('nobody is told: write mail = ["admin@example.org"] into [alerts]')  # no failed unit each morning
        elif job_id := letters.send(settings, ledger, now, begin):
            print(f"{job_id} goes to {len(settings.alerts.mail)} addresses")
        else:
            print("today's digest was made before; nothing is sent (--dry-run prints one)")
