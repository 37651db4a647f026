"""What reviewers decided, as labelled cases: a ZIP file for `postroom eval`, or one JSON object a line.

Both are written while they are sent, so that they cost the same memory however much was decided.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import PurePath

from starlette.responses import Response, StreamingResponse

from daemon.web.pages.ask import Ask
from daemon.web.pages.site import Site
from tasks.clock import iso
from tasks.errors import Permanent
from tasks.intake import raw_of
from tasks.ledger import Decision, Ledger
from tasks.models import Job, Kind
from tasks.stores import Store

ENDINGS = {Kind.MAIL: ".eml", Kind.EVENT: ".json"}


def install(site: Site, ledger: Ledger, store: Store) -> None:
    """The routes."""

    def lines(_ask: Ask) -> Response:
        return _saved((_line(*one) for one in _approved(ledger)), "application/x-ndjson", "corrections.jsonl")

    def cases(_ask: Ask) -> Response:
        return _saved(_zipped(ledger, store), "application/zip", "cases.zip")

    site.get("/review/corrections.jsonl", lines, "reviewer")
    site.get("/review/cases.zip", cases, "reviewer")


def _saved(parts: Iterator[str] | Iterator[bytes], media_type: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(parts, media_type=media_type, headers=headers)


def _approved(ledger: Ledger) -> Iterator[tuple[Decision, Job]]:
    """The last approval of each job, oldest first."""
    for one in ledger.decisions.all():
        job = ledger.jobs.get(one.job_id) if one.verdict == "approved" else None
        if job and ledger.decisions.of(job.id)[-1] == one:
            yield one, job


def _line(one: Decision, job: Job) -> str:
    told = {
        "job": job.id,
        "source": job.source,
        "route": job.route,
        "subject": job.subject,
        "raw_sha256": job.raw_sha256,
        "label": one.label,
        "fields": one.fields,
        "corrected": one.corrects,
        "model_label": one.label_before,
        "model_fields": one.fields_before,
        "by": one.who,
        "how": "by mail" if one.mail else "page",
        "at": iso(one.at),
    }
    return json.dumps(told, ensure_ascii=False) + "\n"


class _Pipe:
    """What was written to it is taken out again: a file that has no end to seek to."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back."""

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _zipped(ledger: Ledger, store: Store) -> Iterator[bytes]:
    """JOB.eml and JOB.expected.toml for each job whose message is still there."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as file:  # type: ignore[call-overload]  # it asks for more than it uses
        for one, job in _approved(ledger):
            try:
                raw = raw_of(ledger, store, job.id, job.raw_sha256)
            except Permanent:  # gone from the blob store, or damaged
                continue
            file.writestr(job.id + _ending(job), raw)
            file.writestr(f"{job.id}.expected.toml", _expected(one, job))
            yield pipe.taken()
    yield pipe.taken()


def _ending(job: Job) -> str:
    suffix = PurePath(job.name).suffix
    return ENDINGS.get(job.kind) or (suffix if suffix[1:].isascii() and suffix[1:].isalnum() else ".bin")


def _expected(one: Decision, job: Job) -> str:
    """What is right about it (docs/evaluation.md)."""
    head = [
        f"# decided by {_flat(one.who)}, {iso(one.at)}",
        f"label = {_toml(one.label)}",
        f"source = {_toml(job.source)}",
    ]
    fields = [f"{_toml(name)} = {_toml(value)}" for name, value in one.fields.items() if value]
    return "\n".join([*head, "", "[fields]", *fields]) + "\n"


def _toml(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _flat(text: str) -> str:
    return "".join(one for one in text if one.isprintable())
