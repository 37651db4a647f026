"""How pages look: templates, times and numbers in words for people, style sheet and scripts."""

from __future__ import annotations

import hashlib
import mimetypes
from http import HTTPStatus
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from config.settings import TEMPLATES
from daemon.web.pages.ask import PREFIX, Ask, Stop
from tasks.clock import iso, now_ms
from tasks.models import State

STATIC = TEMPLATES / "web" / "static"
STATES = {
    State.RECEIVED: "received",
    State.FETCHING: "fetching files",
    State.EXTRACTING: "being read",
    State.CLASSIFYING: "being judged",
    State.REPLYING: "being answered",
    State.DELIVERING: "being sent",
    State.WAITING: "waiting",
    State.REVIEW: "needs a decision",
    State.DONE: "done",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
}
"""States in words for people."""
_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


class Frame:
    """Renders pages. Everything is escaped; what is missing is an error."""

    def __init__(self, static: Path = STATIC) -> None:
        self._files = {path.name: path.read_bytes() for path in sorted(static.iterdir()) if path.is_file()}
        self._version = hashlib.sha256(b"".join(self._files.values())).hexdigest()[:12]
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(static.parent),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            time=time_tag, ago=ago, span=span, size=size, percent=percent, state=in_words, many=many
        )
        self._environment.globals.update(ui=PREFIX, version=self._version)

    def page(self, ask: Ask, template: str, **context: Any) -> Response:
        """The page made by templates/web/TEMPLATE.html.j2."""
        known = {"visitor": ask.visitor, "csrf": ask.csrf, "path": ask.request.scope["path"].removeprefix(PREFIX)}
        made = self._environment.get_template(f"{template}.html.j2").render(**known, **context)
        return HTMLResponse(made)

    def static(self, ask: Ask) -> Response:
        """A style sheet or script; its address holds a version, so that it may be kept."""
        name = ask.path("name")
        if name not in self._files:
            raise Stop(HTTPStatus.NOT_FOUND, "No such file", "There is nothing at this address.")
        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        kept = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(self._files[name], media_type=content_type, headers=kept)


def time_tag(milliseconds: int | None) -> Markup:
    """A moment: in UTC, and in the reader's own time where scripts run."""
    if milliseconds is None:
        return Markup("")
    told = iso(milliseconds)
    return Markup('<time datetime="{}">{} {} UTC</time>').format(told, told[:10], told[11:16])


def ago(milliseconds: int | None) -> str:
    """How long ago a moment was, in its largest unit."""
    return "never" if not milliseconds else f"{span(now_ms() - milliseconds)} ago"


def span(milliseconds: float) -> str:
    """A length of time in its largest unit."""
    seconds = max(int(milliseconds // 1000), 0)
    for unit, name in _UNITS:
        if seconds >= unit:
            return many(seconds // unit, name)
    return "less than a second"


def size(number: int) -> str:
    """Bytes for people."""
    if number < 1000:
        return many(number, "byte")
    return f"{number / 1000:.0f} kB" if number < 1_000_000 else f"{number / 1_000_000:.1f} MB"


def percent(share: float | None) -> str:
    """A share of 1 as a whole percentage."""
    return "" if share is None else f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def many(number: int, noun: str) -> str:
    """So many of something: `1 job`, `2 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def in_words(state: str, number: int = 1) -> str:
    """A state as people say it, of so many jobs."""
    words = STATES[State(state)]
    return words if number == 1 else words.replace("needs", "need", 1)
