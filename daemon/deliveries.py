"""`postroom deliveries` and `postroom redeliver`: what a job sends, and sending it again."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from config.settings import Settings
from daemon.console import AsJson, JobArgument, console, ledger_of, print_json, printable, settings_of
from daemon.redelivery import Which, chosen, report, wanted
from tasks.clock import iso
from tasks.errors import Permanent
from tasks.ledger import DeliveryState, Ledger, Redelivery
from tasks.models import Attempt
from tasks.story import delivery as told

commands = typer.Typer(rich_markup_mode=None)
_COLOURS = {"sent": "green", "failed": "red", "pending": "yellow"}
WHY = "an admin asked for a redelivery"


@commands.command(rich_help_panel="Questions")
def deliveries(context: typer.Context, job: JobArgument, as_json: AsJson = False) -> None:
    """List what a job sends, where to, and every attempt with the other side's answer."""
    with ledger_of(context) as ledger:
        found = ledger.jobs.find(job)
        planned, tries = ledger.deliveries.of(found.id), ledger.deliveries.attempts_of(found.id)
    if as_json:
        print_json([told(one, tries) for one in planned])
        return
    out = console()
    for one in planned:
        _print(out, one, [attempt for attempt in tries if attempt.delivery == one.delivery.ordinal])
    if not planned:
        out.print(f"{found.id} sends nothing{f': {escape(printable(found.reason))}' if found.reason else ''}")


@commands.command(rich_help_panel="Actions")
def redeliver(
    context: typer.Context,
    job: Annotated[
        str, typer.Argument(metavar="[JOB]", help="Job id, part of it, or Message-ID; else say which.")
    ] = "",
    delivery: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Only this one, as `postroom deliveries` numbers them.")
    ] = None,
    endpoint: Annotated[str, typer.Option(metavar="NAME", help="All that went to this [endpoint.NAME].")] = "",
    to: Annotated[str, typer.Option(metavar="ADDRESS", help="All that went to this mail address.")] = "",
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Failed or sent since: 2026-03-02, 2026-03-02T14:30Z, 3d or 12h ago.")
    ] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="Failed or sent until then.")] = "",
    state: Annotated[
        Which | None, typer.Option(help="Of many, those that are so.  [default: failed; all with --resend]")
    ] = None,
    resend: Annotated[bool, typer.Option("--resend", help="Send again what was sent already.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="So many deliveries at most, oldest first.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be sent, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send again what failed, at once: the same bytes under the same key, so that a receiver can tell a repeat.

    One job, or all that went to an endpoint or an address. The rescue feeds them to the workers bit by bit.
    """
    many = {"--since": since, "--until": until, "--state": state, "--limit": limit}
    if sum(map(bool, (job, endpoint, to))) != 1:
        raise typer.BadParameter("name one of JOB, --endpoint NAME and --to ADDRESS")
    if job and any(many.values()):
        raise typer.BadParameter(
            f"{next(name for name in many if many[name])} goes with --endpoint or --to, not with a JOB"
        )
    if not job and delivery is not None:
        raise typer.BadParameter("--delivery goes with a JOB")
    with ledger_of(context) as ledger:
        if job:
            found = [chosen(ledger, ledger.jobs.find(job), delivery, resend=resend)]
        else:
            asked: dict[str, Any] = {"endpoint": endpoint, "to": to, "since": since, "until": until, "limit": limit}
            found = _many(ledger, settings_of(context), state=state, resend=resend, **asked)
        told = found if dry_run else ledger.redeliveries.again(found, WHY)
    if job and told[0].obstacle:
        raise Permanent(f"{told[0].job_id} was not changed: {told[0].obstacle}")
    if as_json:
        print_json(report(told, dry_run=dry_run))
    else:
        _tell(told, dry_run=dry_run)
        if not job:
            _sum(told, dry_run=dry_run)


def _many(ledger: Ledger, settings: Settings, **asked: Any) -> list[Redelivery]:
    try:
        return ledger.redeliveries.find(wanted(ledger, settings, **asked))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _tell(found: list[Redelivery], *, dry_run: bool) -> None:
    go, left = [one for one in found if not one.obstacle], [one for one in found if one.obstacle]
    for one in go:
        print(f"{one.job_id} {'would send' if dry_run else 'sends'} again: {', '.join(map(str, one.ordinals))}")
    for one in left:
        print(f"{one.job_id} is left: {one.obstacle}")


def _sum(found: list[Redelivery], *, dry_run: bool) -> None:
    go = [one for one in found if not one.obstacle]
    number = sum(len(one.ordinals) for one in go)
    end = "; nothing was changed" if dry_run else ""
    print(f"deliveries {number}, jobs {len(go)}, left {len(found) - len(go)}{end}")


def _print(out: Console, state: DeliveryState, tries: list[Attempt]) -> None:
    delivery = state.delivery
    due = f", due {iso(state.due_at)}" if state.state == "pending" and state.due_at else ""
    out.print(
        f"[bold]{delivery.ordinal}[/]  [{_COLOURS.get(state.state, 'cyan')}]{state.state}[/]{due}  "
        f"{delivery.transport} to {escape(printable(delivery.target))}, {len(delivery.body)} bytes, "
        f"key {escape(delivery.key)}"
    )
    for attempt in tries:
        took = f"{(attempt.ended_at - attempt.started_at) / 1000:.2f} s" if attempt.ended_at else "no end"
        told = escape(printable(attempt.detail))
        out.print(f"   {attempt.number}. {iso(attempt.started_at)}  {attempt.outcome}  {took}  {told}")
