"""Tells what came of each input, then which expectations came true."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from daemon.demo.expect import Check, posts_of, replies_to, text_of
from daemon.demo.scene import Scene
from daemon.demo.service import Json
from daemon.demo.watch import Followed


def tell(followed: Sequence[Followed], scene: Scene, console: Console) -> None:
    """Print the story of every input."""
    for one in followed:
        console.print()
        console.print(Text(f"{one.name}: {one.sending.input.title}", "bold"))
        say(console, "arrived", f"by {one.sending.way}, answered: {one.sending.answer}")
        if not one.job:
            say(console, "job", "none was seen")
            continue
        say(
            console, "job", f"{one.job['id']} {one.state} after {one.elapsed:.0f} s {one.job.get('reason', '')}".strip()
        )
        if first := one.sending.input.expected.duplicate_of:
            say(console, "same as", f"{first}: accepted before, so nothing more was done")
            continue
        _documents(one.job, console)
        _judgement(one.job, console)
        _answers(one, scene, console)
        say(console, "raw", str(_raw(one.job, scene.state)))
        say(console, "log", _log_line(one.job["id"], scene.log))


def report(checks: Sequence[Check], console: Console) -> bool:
    """Print the table of expectations and, again, those that are false. True when all are true."""
    table = Table(box=None, pad_edge=False)
    table.add_column("input", no_wrap=True)
    table.add_column("expected", overflow="fold")
    table.add_column("true")
    for check in checks:
        mark = Text("true", "green") if check.true else Text("false", "red")
        table.add_row(Text(check.input), Text(check.what), mark)
    console.print()
    console.print(table)
    wrong = [check for check in checks if not check.true]
    console.print()
    for check in wrong:
        console.print(Text(f"{check.input}: expected: {check.what}; seen: {check.seen}", "red"))
    console.print(f"{len(checks) - len(wrong)} of {len(checks)} expected outcomes came true.", highlight=False)
    return not wrong


def say(console: Console, what: str, text: str) -> None:
    """A labelled line; its text is never read as markup."""
    console.print(Text.assemble((f"  {what:<10}", "dim"), text), soft_wrap=True)


def _documents(job: Json, console: Console) -> None:
    for document in job.get("documents") or []:
        state = "" if document["status"] == "read" else f", {document['status']}: {document['reason']}"
        say(console, "document", f"{document['name']} ({document['content_type']}, {document['size']} bytes){state}")


def _judgement(job: Json, console: Console) -> None:
    judged = job.get("classification")
    if not judged:
        return
    say(console, "label", f"{judged['label']}, confidence {judged['confidence']:.2f} ({job.get('route')})")
    if judged["summary"]:
        say(console, "summary", judged["summary"])
    for field in judged["fields"]:
        say(console, "field", f"{field['name']} = {field['value']}{_evidence(field, job)}")


def _evidence(field: Json, job: Json) -> str:
    if not field["supported"]:
        return "  (not found in the text: not used)"
    names = {document["ordinal"]: document["name"] for document in job.get("documents") or []}
    places: list[Any] = [names.get(field["document"]), field["page"] and f"page {field['page']}"]
    places.append(field["line"] and f"line {field['line']}")
    where = ", ".join(str(place) for place in places if place)
    return f'  from "{" ".join(field["quote"].split())}" ({where})'


def _answers(one: Followed, scene: Scene, console: Console) -> None:
    replies = replies_to(one, scene.outbox)
    for mail in replies:
        say(console, "reply", f"{mail.path} to {', '.join(mail.recipients)}, subject: {mail.message['Subject']}")
        for line in text_of(mail).splitlines():
            say(console, "", f"| {line}")
    if not replies:
        say(console, "no reply", (one.job.get("reply") or {}).get("not_sent_because") or "none is due")
    for hook in posts_of(one, scene.hooks):
        say(console, "webhook", f"{hook.path}, signature {'right' if hook.verified else 'WRONG'}")


def _raw(job: Json, state: Path) -> Path:
    digest = str(job["raw_sha256"])
    return state / "blobs" / digest[:2] / digest[2:]


def _log_line(job_id: str, log: Path) -> str:
    """File and number of the last log line about a job."""
    last = 0
    with log.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if job_id in line:
                last = number
    return f"{log}:{last}" if last else f"{log} (no line about it)"
