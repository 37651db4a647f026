"""`postroom retry` and `postroom export`: jobs run again, one or all that fit, and told whole in a file."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from daemon.again import begins_at, run_again
from daemon.console import ledger_of, one_line, settings_of
from tasks.clock import iso, moment, now_ms
from tasks.errors import Permanent
from tasks.files import replacing
from tasks.intake import raw_of
from tasks.ledger import Ledger
from tasks.models import Job, Stage, State
from tasks.stores import Store, open_store
from tasks.story import story

commands = typer.Typer(rich_markup_mode=None)
PAGE = 500
WHY = "an admin asked for it"

States = Annotated[list[State] | None, typer.Option("--state", help="Jobs in this state; may be repeated.")]
Source = Annotated[str, typer.Option(help="Of these only what came this way, such as smtp or webhook:shop.")]
Label = Annotated[str, typer.Option(help="Of these only those with this label.")]
Since = Annotated[
    str,
    typer.Option(metavar="TIME", help="Of these only what came since: 2026-03-02, 2026-03-02T14:30Z, 3d or 12h ago."),
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Of these only those whose reason has this text.")]


@dataclass(frozen=True)
class Filter:
    """Which jobs are meant."""

    states: tuple[State, ...]
    source: str
    label: str
    since: int
    reason: str

    def jobs(self, ledger: Ledger) -> list[Job]:
        """All of them, oldest first, as they are now."""
        found: dict[str, Job] = {}
        last = ""
        while page := ledger.jobs.page(
            states=self.states,
            source=self.source,
            label=self.label,
            since=self.since,
            reason=self.reason,
            before=last,
            limit=PAGE,
        ):
            last = page[-1].id
            if last in found:  # the page before has been removed meanwhile
                break
            found |= {job.id: job for job in page}
        return list(reversed(found.values()))


@commands.command(rich_help_panel="Actions")
def retry(
    context: typer.Context,
    job: Annotated[
        str, typer.Argument(metavar="[JOB]", help="Job id, part of it, or Message-ID; else --state says which.")
    ] = "",
    stage: Annotated[
        Stage | None, typer.Option("--from", help="Run again from here.  [default: where it stopped]")
    ] = None,
    resend: Annotated[
        bool, typer.Option("--resend", help="Send again what was sent already, under the same key.")
    ] = False,
    state: States = None,
    source: Source = "",
    label: Label = "",
    since: Since = "",
    reason: Reason = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the jobs that would run again.")] = False,
) -> None:
    """Run a job again with today's routes, or all jobs that fit. What was sent is not sent again without --resend.

    Stored text and answers of the stages before --from are used as they are.
    """
    if bool(job) == bool(state):
        raise typer.BadParameter("name one of JOB and --state")
    if job and (source or label or since or reason):
        raise typer.BadParameter("--source, --label, --since and --reason go with --state, not with a JOB")
    with ledger_of(context) as ledger:
        found = [ledger.jobs.find(job)] if job else _filter(state, source, label, since, reason).jobs(ledger)
        left = (
            []
            if dry_run
            else [one for one in found if not run_again(ledger, one, stage, WHY, resend=resend, alone=bool(job))]
        )
    _tell(found, left, stage, dry_run=dry_run)
    if job and left:
        raise Permanent(f"{left[0].id} was not changed: a worker holds it; try again later")
    if not job:
        done = len(found) - len(left)
        print(f"{done} jobs {'would run' if dry_run else 'run'} again, {len(left)} were left as they are")


def _tell(found: list[Job], left: list[Job], stage: Stage | None, *, dry_run: bool) -> None:
    stay = {job.id for job in left}
    for job in found:
        if job.id not in stay:
            told = f"would run again from {begins_at(job, stage).value}: {one_line(job.reason)}"
            print(f"{job.id} {told if dry_run else f'runs again from {begins_at(job, stage).value}'}")


@commands.command(rich_help_panel="Questions")
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The file to write; - for standard output.")],
    state: States = None,
    source: Source = "",
    label: Label = "",
    since: Since = "",
    reason: Reason = "",
    raw: Annotated[bool, typer.Option("--raw", help="With the raw message as `raw`, in base64.")] = False,
) -> None:
    """Write jobs with their whole story to a file, one JSON object a line, oldest first. It holds people's mail: 0600."""
    settings = settings_of(context)
    chosen = _filter(state, source, label, since, reason)
    with ledger_of(context) as ledger:
        blobs = open_store(settings) if raw else None
        lines = (json.dumps(_told(ledger, blobs, job), ensure_ascii=False) for job in chosen.jobs(ledger))
        if str(file) == "-":
            _write(sys.stdout.buffer, lines)
            return
        with replacing(file) as target:
            number = _write(target, lines)
    print(f"{file}: {number} jobs, {iso(now_ms())}")


def _filter(states: list[State] | None, source: str, label: str, since: str, reason: str) -> Filter:
    try:
        return Filter(tuple(states or ()), source, label, moment(since, now_ms()) if since else 0, reason)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None


def _told(ledger: Ledger, blobs: Store | None, job: Job) -> dict[str, Any]:
    told = story(ledger, job)
    if blobs is not None:
        try:
            told["raw"] = base64.b64encode(raw_of(ledger, blobs, job.id, job.raw_sha256)).decode()
        except Permanent as error:
            told |= {"raw": None, "raw_missing": error.reason}
    return told


def _write(target: IO[bytes], lines: Iterator[str]) -> int:
    number = 0
    for line in lines:
        target.write(line.encode() + b"\n")
        number += 1
    target.flush()
    return number
