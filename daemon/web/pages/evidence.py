"""Where values stand in a document's text, as pieces for a page: plain text, and text that is evidence of fields."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tasks.models import Document, Field

SHOWN = 100_000
"""Characters of a document that a page shows."""


@dataclass(frozen=True)
class Piece:
    """Some text; `fields` are the names of the values that stand in it."""

    text: str
    fields: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()
    """Those of the fields whose words begin here."""


def pages_of(document: Document, fields: Iterable[Field]) -> list[list[Piece]]:
    """The document's pages, each cut where evidence begins and ends."""
    text = document.text[:SHOWN]
    spans = [
        (span, field.name) for field in fields if field.document == document.ordinal and (span := _span(text, field))
    ]
    pages, start = [], 0
    for page in text.split("\f"):
        inside = [
            ((begin - start, end - start), name) for (begin, end), name in spans if start <= begin < start + len(page)
        ]
        pages.append(_cut(page, inside))
        start += len(page) + 1
    return pages


def _span(text: str, field: Field) -> tuple[int, int] | None:
    """Where the quote stands, looked for from its page and line on."""
    words = field.quote.split()
    if not words:
        return None
    pattern = re.compile(r"\s+".join(map(re.escape, words)))
    found = pattern.search(text, _place(text, field)) or pattern.search(text)
    return found.span() if found else None


def _place(text: str, field: Field) -> int:
    page = 0
    for _ in range((field.page or 1) - 1):
        page = text.find("\f", page) + 1
        if not page:
            return 0
    line = page
    for _ in range((field.line or 1) - 1):
        following = text.find("\n", line) + 1
        if not following:
            return page
        line = following
    return line


def _cut(page: str, spans: Sequence[tuple[tuple[int, int], str]]) -> list[Piece]:
    edges = sorted({0, len(page), *(min(edge, len(page)) for span, _ in spans for edge in span)})
    pieces = []
    for begin, end in itertools.pairwise(edges):
        here = [(first, name) for (first, last), name in spans if first <= begin and end <= last]
        begins = tuple(name for first, name in here if first == begin)
        pieces.append(Piece(page[begin:end], tuple(name for _, name in here), begins))
    return pieces
