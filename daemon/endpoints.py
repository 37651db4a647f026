"""`postroom endpoints`: how each webhook endpoint does, and stopping it or letting it go on."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.markup import escape

from config.settings import Settings
from daemon.console import AsJson, console, ledger_of, one_line, print_json, settings_of
from tasks.clock import iso, now_ms
from tasks.errors import Permanent
from tasks.ledger import Endpoint, Ledger

commands = typer.Typer(
    name="endpoints",
    help="Tell how each webhook endpoint does; disable one, or let it go on.",
    rich_markup_mode=None,
)
_COLOURS = {"disabled": "red", "failing": "yellow", "well": "green"}
_Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of an [endpoint.NAME] section.")]


@commands.callback(invoke_without_command=True)
def listed(context: typer.Context, as_json: AsJson = False) -> None:
    """Tell how each webhook endpoint does: since when it fails, its last success, what waits for it and what failed."""
    if context.invoked_subcommand:
        return
    with ledger_of(context) as ledger:
        found = states(ledger, settings_of(context))
    if as_json:
        print_json(found)
        return
    out = console()
    for one in found:
        _print(out, one)
    if not found:
        out.print("no endpoint is configured; add [endpoint.NAME] with url and secrets")


@commands.command()
def enable(context: typer.Context, name: _Name) -> None:
    """Let a disabled endpoint go on. What failed meanwhile is sent again only when it is asked for."""
    with ledger_of(context) as ledger:
        before = ledger.endpoints.enable(known(ledger, settings_of(context), name))
        failed = ledger.endpoints.unsent().get(name, {}).get("failed", 0)
    if before is None:
        print(f"{name} was not disabled")
        return
    since = iso(min(filter(None, (before.failing_since, before.disabled_at))))
    print(f"{name} goes on; {failed} of its deliveries have failed")
    if failed:
        print(f"those since {since} are sent again by: postroom redeliver --endpoint {name} --since {since}")


@commands.command()
def disable(
    context: typer.Context,
    name: _Name,
    because: Annotated[str, typer.Option(metavar="TEXT", help="Why, for whoever finds it so.")] = "",
) -> None:
    """Send nothing there any more: what waits for it and what comes for it fails at once, without a request."""
    with ledger_of(context) as ledger:
        found = known(ledger, settings_of(context), name)
        if not ledger.endpoints.disable(found, one_line(because) or "an admin disabled it", now_ms()):
            raise Permanent(f"{name} is disabled already")
        waiting = ledger.endpoints.unsent().get(name, {}).get("pending", 0)
    print(f"{name} is disabled; {waiting} waiting deliveries end now. `postroom endpoints enable {name}` lets it go on")


def states(ledger: Ledger, settings: Settings) -> list[dict[str, Any]]:
    """Each endpoint that is configured or known from before, for a program."""
    rows = {one.name: one for one in ledger.endpoints.all()}
    unsent = ledger.endpoints.unsent()
    return [
        _state(settings, rows.get(name) or Endpoint(name=name), unsent.get(name, {}))
        for name in sorted({*settings.endpoint, *rows})
    ]


def known(ledger: Ledger, settings: Settings, name: str) -> str:
    """`name`, when it is an endpoint's. Raises Permanent."""
    if name in settings.endpoint or ledger.endpoints.get(name):
        return name
    configured = ", ".join(sorted(settings.endpoint)) or "none"
    raise Permanent(f"no endpoint {name!r}; configured: {configured}")


def _state(settings: Settings, endpoint: Endpoint, unsent: dict[str, int]) -> dict[str, Any]:
    config = settings.endpoint.get(endpoint.name)
    state = "disabled" if endpoint.disabled_at else "failing" if endpoint.failing_since else "well"
    return {
        "state": state,
        **endpoint.model_dump(),
        "host": urlsplit(config.url).hostname if config else None,
        "waiting": unsent.get("pending", 0),
        "failed": unsent.get("failed", 0),
    }


def _print(out: Console, one: dict[str, Any]) -> None:
    since = one["disabled_at"] or one["failing_since"]
    why = one["disabled_because"] if one["disabled_at"] else one["last_failure"] if one["failing_since"] else ""
    line = f"[bold]{escape(one['name'])}[/]  [{_COLOURS[one['state']]}]{one['state']}[/]"
    line += f" since {iso(since)}" if since else ""
    line += f"  last success {iso(one['last_success_at']) or 'never'}, waiting {one['waiting']}, failed {one['failed']}"
    line += "" if one["host"] else "  [yellow]not configured[/]"
    out.print(line)
    if why:
        out.print(f"   {escape(one_line(why))}")
