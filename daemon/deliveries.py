"""`postroom deliveries` and `postroom redeliver`: what a job sends, and sending it again."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from daemon.console import AsJson, JobArgument, console, ledger_of, print_json, printable
from tasks.clock import iso
from tasks.errors import Permanent
from tasks.ledger import DeliveryState
from tasks.models import Attempt, Job, Stage, State
from tasks.story import delivery as told

commands = typer.Typer(rich_markup_mode=None)
_COLOURS = {"sent": "green", "failed": "red", "pending": "yellow"}


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
    job: JobArgument,
    delivery: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Only this one, as `postroom deliveries` numbers them.")
    ] = None,
    resend: Annotated[bool, typer.Option("--resend", help="Send again what was sent already.")] = False,
) -> None:
    """Send again what failed, at once: the same bytes under the same key, so that a receiver can tell a repeat."""
    with ledger_of(context) as ledger:
        found = ledger.jobs.find(job)
        chosen = _chosen(found, ledger.deliveries.of(found.id), delivery, resend=resend)
        if not ledger.jobs.retry(found.id, Stage.DELIVER, why="an admin asked for a redelivery"):
            raise Permanent(f"{found.id} was not changed: a worker holds it; try again later")
        ledger.deliveries.reopen(found.id, resend=resend, ordinal=delivery)
    numbers = ", ".join(str(one.delivery.ordinal) for one in chosen)
    print(f"{found.id} sends again: {numbers}")


def _chosen(job: Job, planned: list[DeliveryState], number: int | None, *, resend: bool) -> list[DeliveryState]:
    """What will be sent. Raises Permanent when that is nothing, or when the job does not stand at its deliveries."""
    if not planned:
        raise Permanent(f"{job.id} has nothing to send")
    if job.state is State.CANCELLED:
        raise Permanent(f"{job.id} was cancelled; `postroom retry {job.id} --from deliver` runs it again")
    if job.stage not in {None, Stage.DELIVER} or job.state is State.REVIEW:
        raise Permanent(
            f"{job.id} is {job.state.value} and what it sends may still change; let it come to deliver first"
        )
    asked = [one for one in planned if number in {None, one.delivery.ordinal}]
    if not asked:
        known = ", ".join(str(one.delivery.ordinal) for one in planned)
        raise Permanent(f"{job.id} has no delivery {number}; it has {known}")
    chosen = [one for one in asked if resend or one.state != "sent"]
    if not chosen:
        raise Permanent("all of it was sent; --resend sends it again under the same key")
    return chosen


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
