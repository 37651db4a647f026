"""How jobs look on a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from daemon.console import one_line
from tasks.clock import iso
from tasks.models import Classification, Job

if TYPE_CHECKING:  # showing a job should not have to load what runs one
    from daemon.checks import Finding
    from daemon.tryout import Trip

COLOURS = {"done": "green", "failed": "red", "review": "yellow", "waiting": "yellow", "cancelled": "dim"}


def jobs_table(console: Console, jobs: Iterable[Job], counts: dict[str, int]) -> None:
    """One line a job, newest first, and the counts of all states."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("job", "received", "state", "label", "source", "subject", "reason"):
        table.add_column(
            name, overflow="ellipsis" if name in {"subject", "reason"} else "fold", no_wrap=name != "reason"
        )
    for job in jobs:
        table.add_row(*_cells(job), escape(one_line(job.reason)))
    console.print(table)
    console.print("  ".join(f"{state} {number}" for state, number in sorted(counts.items())) or "no jobs yet")


def near_table(console: Console, found: Iterable[tuple[float, Job]]) -> None:
    """One line a job, each with how near it is."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("near", "job", "received", "state", "label", "source", "subject"):
        width = {"near": 4, "job": 26}.get(name)  # never cut: the id goes into the next command
        table.add_column(name, overflow="ellipsis" if name == "subject" else "fold", no_wrap=True, min_width=width)
    for cosine, job in found:
        table.add_row(f"{cosine:.2f}", *_cells(job))
    console.print(table if table.row_count else "nothing is near")


def _cells(job: Job) -> tuple[str, ...]:
    colour = COLOURS.get(job.state.value, "cyan")
    label = f"{job.label} {job.confidence:.2f}" if job.label and job.confidence is not None else ""
    state = f"[{colour}]{job.state.value}[/]"
    return job.id, iso(job.received_at), state, label, escape(job.source), escape(one_line(job.subject))


def story(console: Console, told: dict[str, Any]) -> None:
    """The whole story of one job."""
    console.print(f"[bold]{told['id']}[/]  {told['state']}  {escape(one_line(told['reason']))}")
    for name in ("source", "kind", "sender", "subject", "message_id", "route", "attempts"):
        if told[name]:
            console.print(f"  {name:<12}{escape(one_line(str(told[name])))}")
    console.print(
        f"  {'received':<12}{iso(told['received_at'])}, {told['raw_size']} bytes, SHA-256 {told['raw_sha256']}"
    )
    if told["due_at"]:
        console.print(f"  {'due':<12}{iso(told['due_at'])}")
    if told["held_by"]:
        console.print(f"  {'held by':<12}{told['held_by']}  {_doing(told['progress'])}")
    _documents(console, told["documents"])
    if found := told["classification"]:
        _classification(console, found)
    if answer := told["reply"]:
        _reply(console, answer)
    _deliveries(console, told["deliveries"])
    console.print("[bold]events[/]")
    for event in told["events"]:
        detail = "  ".join(f"{key}={value}" for key, value in event["detail"].items() if value not in ("", None))
        console.print(f"  {iso(event['at'])}  {event['event']:<18}{escape(one_line(detail))}")


def _doing(progress: dict[str, Any]) -> str:
    """What the running stage is at: `fields, 12 tokens, 40 % of the stage`."""
    if not progress:
        return ""
    parts = [escape(one_line(str(progress.get("phase", ""))))]
    parts += [f"{progress['tokens']} tokens"] if progress.get("tokens") else []
    parts += [f"{progress['percent']} % of the stage"] if progress.get("percent") else []
    return ", ".join(parts)


def trip(console: Console, made: Trip) -> None:
    """What `postroom try` found, and what would be sent."""
    _documents(console, [document.model_dump() for document in made.extracted.documents])
    console.print(f"[bold]route[/] {made.route.name}")
    _classification(console, made.classification.model_dump())
    _reply(console, made.reply.model_dump())
    for delivery in made.reply.deliveries:
        console.rule(f"would go by {delivery.transport} to {escape(delivery.target)}")
        console.print(escape(delivery.body.decode("utf-8", "replace")), highlight=False)
    if not made.reply.deliveries:
        console.print("nothing would be sent")


def findings(console: Console, found: Iterable[Finding]) -> bool:
    """One line each as they come in; whether none has failed."""
    well = True
    for finding in found:
        colour = {"ok": "green", "warning": "yellow"}.get(finding.state, "red")
        well = well and finding.state != "failed"
        line = f"[{colour}]{finding.state:<8}[/]{escape(finding.sentence)}"
        console.print(line, soft_wrap=True, highlight=False)
    return well


def _documents(console: Console, documents: list[dict[str, Any]]) -> None:
    if documents:
        console.print("[bold]documents[/]")
    for one in documents:
        size = one.get("characters", len(one["text"]))
        state = f"{size} characters, {one['pages']} page(s)" if one["status"] == "read" else one["status"]
        reason = f": {one['reason']}" if one["reason"] else ""
        console.print(f"  {escape(one_line(one['name']))} ({one['content_type']}) {state}{escape(one_line(reason))}")


def _classification(console: Console, found: dict[str, Any]) -> None:
    told = Classification(**found)
    console.print(
        f"[bold]label[/] {told.label}  confidence {told.confidence:.2f}  by {told.method} {escape(told.model)}"
    )
    for name, probability in sorted(told.alternatives.items(), key=lambda item: -item[1])[1:4]:
        console.print(f"  or {name} {probability:.2f}")
    if told.summary:
        console.print(f"  {escape(one_line(told.summary))}")
    for one in told.fields:
        seen = f'"{one.quote}" page {one.page} line {one.line}' if one.supported else "not found in the text: not used"
        console.print(f"  {one.name:<16}{escape(one_line(one.value))}  [dim]{escape(one_line(seen))}[/]")
    for note in told.notes:
        console.print(f"  note: {escape(one_line(note))}")
    if told.review:
        console.print(f"  [yellow]review: {escape(one_line(told.review))}[/]")


def _reply(console: Console, answer: dict[str, Any]) -> None:
    if answer["not_sent_because"]:
        console.print(f"[bold]no reply[/] {escape(one_line(answer['not_sent_because']))}")
    elif answer["text"]:
        console.print(f"[bold]reply[/] by template {answer['template']}")
        console.print(escape(answer["text"]), highlight=False)
    for note in answer.get("notes", ()):
        console.print(f"  note: {escape(one_line(note))}")


def _deliveries(console: Console, deliveries: list[dict[str, Any]]) -> None:
    if deliveries:
        console.print("[bold]deliveries[/]")
    for one in deliveries:
        console.print(f"  {one['transport']} to {escape(one['target'])}  {one['state']}  {escape(one['key'])}")
        for attempt in one["tries"]:
            took = f"{attempt['ended_at'] - attempt['started_at']} ms" if attempt["ended_at"] else "running"
            told = f"#{attempt['number']} {attempt['outcome']} {attempt['detail']} ({took})"
            console.print(f"    {iso(attempt['started_at'])}  {escape(one_line(told))}")
