"""`postroom token`: who may use the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from daemon.console import console, ledger_of, print_json
from tasks.clock import iso
from tasks.ledger import Scope, Token

commands = typer.Typer(
    name="token",
    help="Make, list and revoke the tokens that programs send to the HTTP API.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
DEFAULT = (Scope.READ, Scope.SUBMIT)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program instead of text for a person.")]


@commands.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which program it is for.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it may do; may be repeated.  [default: read and submit]", show_default=False),
    ] = None,
) -> None:
    """Make a token and print it. It is shown this once: the ledger keeps only its hash."""
    with ledger_of(context) as ledger:
        token, text = ledger.tokens.create(name, scope or DEFAULT)
    typer.echo(f"token {token.id} for {token.name}: {_scopes(token)}; send it as `Authorization: Bearer ...`", err=True)
    print(text)


@commands.command(name="list")
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """List tokens: id, name, scopes, made, last used (to the minute), revoked."""
    with ledger_of(context) as ledger:
        found = ledger.tokens.all()
    if as_json:
        print_json([token.model_dump(mode="json") for token in found])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("id", "name", "scopes", "made", "last used", "revoked"):
        table.add_column(name)
    for token in found:
        times = [iso(at) for at in (token.created_at, token.last_used_at, token.revoked_at)]
        table.add_row(token.id, escape(token.name), _scopes(token), *times)
    console().print(table)


@commands.command()
def revoke(
    context: typer.Context,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As `postroom token list` shows it.")],
) -> None:
    """End a token for good, at once."""
    with ledger_of(context) as ledger:
        token = ledger.tokens.revoke(token_id)
    print(f"{token.id} ({token.name}) is revoked")


def _scopes(token: Token) -> str:
    return ",".join(token.scopes)
