"""`postroom trace`: one message's whole story in order of time, from the ledger and the journal."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from daemon import journal
from daemon.console import AsJson, console, ledger_of, one_line, print_json
from tasks.clock import iso
from tasks.errors import Permanent
from tasks.ids import LENGTH
from tasks.ledger import Ledger
from tasks.ledger.jobs import SeveralFitError
from tasks.ledger.traces import Seen
from tasks.models import Job
from tasks.story import summary
from tasks.timeline import Line, timeline

commands = typer.Typer(rich_markup_mode=None)


@commands.command(rich_help_panel="Questions")
def trace(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Message-ID of what came or of what was sent, or a job's id.")
    ],
    without_journal: Annotated[bool, typer.Option("--no-journal", help="Only what the ledger knows.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tell a message's whole way in order of time: events, stages, attempts to deliver, and the journal's lines.

    Exit status 1, with names that look alike, when nothing is known of it.
    """
    with ledger_of(context) as ledger:
        found, seen = jobs_of(ledger, name), ledger.traces.seen(name)
        if not found and not seen:
            raise Permanent(_unknown(ledger, name))
        told = [(job, *_whole(ledger, job, without_journal)) for job in found]
    if as_json:
        jobs = [_as_dict(job, lines, note) for job, lines, note in told]
        print_json({"jobs": jobs, "mailboxes": [vars(one) for one in seen]})
        return
    for one in seen:
        _show_seen(one)
    for job, lines, note in told:
        _show(job, lines, note)


def jobs_of(ledger: Ledger, name: str) -> list[Job]:
    """The jobs that `name` means: by Message-ID, of what came or was sent; else by id. Raises Permanent for a vague id."""
    if found := ledger.traces.named(name):
        return found
    text = name.strip().lower()
    if not 4 <= len(text) <= LENGTH or not text.isalnum():
        return []
    try:
        return [ledger.jobs.find(text)]
    except SeveralFitError:
        raise
    except Permanent:
        return []


def _whole(ledger: Ledger, job: Job, without_journal: bool) -> tuple[list[Line], str]:
    """Its lines in order of time, and why none are from the journal."""
    known = timeline(ledger, job)
    if without_journal:
        return known, ""
    said = journal.lines_of(job.id)
    return sorted([*known, *said.lines], key=lambda line: line.at), said.why_none


def _unknown(ledger: Ledger, name: str) -> str:
    alike = [f"{job.id} {one_line(job.message_id)}".rstrip() for job in ledger.traces.alike(name)]
    said = f"nothing is known of {one_line(name)!r}: no job has this id or Message-ID, and none sent it"
    if alike:
        return f"{said}; it looks like\n" + "\n".join(f"  {one}" for one in alike)
    return f"{said}; `postroom jobs --search TEXT` looks into subjects and senders"


def _as_dict(job: Job, lines: list[Line], note: str) -> dict[str, Any]:
    return {**summary(job), "lines": [line.as_dict() for line in lines], "journal": note or "read"}


def _show_seen(one: Seen) -> None:
    job = f", job {one.job_id}" if one.job_id else ""
    reason = f": {one_line(one.reason)}" if one.reason else ""
    line = f"{iso(one.seen_at)}  mailbox {one.account}/{one.folder}, UID {one.uid}: {one.state}{reason}{job}"
    console().print(escape(one_line(line)), soft_wrap=True)


def _show(job: Job, lines: list[Line], note: str) -> None:
    out = console()
    rests = f": {escape(one_line(job.reason))}" if job.reason else ""
    out.print(f"[bold]{job.id}[/]  {job.state.value}{rests}", soft_wrap=True)
    for name, value in (("subject", job.subject), ("message_id", job.message_id), ("source", job.source)):
        if value:
            out.print(f"  {name:<12}{escape(one_line(value))}", soft_wrap=True)
    width = max((len(line.source) for line in lines), default=0)
    for line in lines:
        milliseconds = f"{iso(line.at).removesuffix('Z')}.{line.at % 1000:03}Z"
        told = escape(one_line(f"{line.what:<20}  {line.detail}".rstrip()))
        out.print(f"{milliseconds}  {escape(one_line(f'{line.source:<{width}}'))}  {told}", soft_wrap=True)
    if job.due_at:
        out.print(f"it goes on at {iso(job.due_at)}")
    if note:
        out.print(f"[dim]without the journal: {escape(one_line(note))}[/]", soft_wrap=True)
