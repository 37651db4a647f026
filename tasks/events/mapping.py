"""Where a route says that an event's documents stand, applied to one event."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from config.events import EventDocument, EventSpec
from tasks.events.paths import find

MAX_DOCUMENTS = 100
"""Documents of one event."""
_LONGEST_SUBJECT = 300


@dataclass(frozen=True)
class Part:
    """One document as the event holds it: base64, a URL or text in `content`, if it is what the route expects."""

    form: Literal["base64", "url", "text"]
    content: Any
    name: str
    claimed: str
    """Content type as the event tells it; may be empty."""


@dataclass(frozen=True)
class Parts:
    """The documents of an event, and whether it holds more of them than are taken."""

    taken: tuple[Part, ...]
    more: bool = False


def parts_of(spec: EventSpec, event: Any) -> Parts:
    """The documents that `spec` finds in `event`. What is missing, null or empty text is no document."""
    found: list[Part] = []
    for document in spec.documents:
        for holder in find(document.each, event):
            found += _parts_in(document, holder)
            if len(found) > MAX_DOCUMENTS:
                return Parts(tuple(found[:MAX_DOCUMENTS]), more=True)
    return Parts(tuple(found))


def subject_of(spec: EventSpec, event: Any) -> str:
    """The event's subject on one line; empty when the route names none or the event has none."""
    found = [_word(value) for value in find(spec.subject, event)] if spec.subject else []
    first = next(filter(None, found), "")
    return " ".join("".join(c if c.isprintable() else " " for c in first).split())[:_LONGEST_SUBJECT]


def urls_of(spec: EventSpec, event: Any) -> tuple[str, ...]:
    """The addresses that the event's documents are fetched from, each once."""
    taken = parts_of(spec, event).taken
    return tuple(dict.fromkeys(part.content for part in taken if part.form == "url" and isinstance(part.content, str)))


def _parts_in(document: EventDocument, holder: Any) -> list[Part]:
    form: Literal["base64", "url", "text"] = "base64" if document.base64 else "url" if document.url else "text"
    contents = find(document.content, holder)
    names = find(document.name, holder) if document.name else []
    types = find(document.type, holder) if document.type else []
    return [
        Part(form, content, _beside(names, index, len(contents)), _beside(types, index, len(contents)))
        for index, content in enumerate(contents)
        if content is not None and content != ""
    ]


def _beside(values: list[Any], index: int, count: int) -> str:
    """The name or type of one of `count` contents: the one in the same place, or the one that all share."""
    if len(values) == count:
        return _word(values[index])
    return _word(values[0]) if len(values) == 1 else ""


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else ""
