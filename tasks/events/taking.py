"""An event taken apart by its route: its subject, its text, and its documents, ready to be read."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from config.events import EventSpec
from tasks.errors import Unreadable
from tasks.events.encoded import decode
from tasks.events.mapping import MAX_DOCUMENTS, Part, parts_of, subject_of
from tasks.events.paths import event_of
from tasks.events.text import as_json, by_template, put_in
from tasks.models import Job
from tasks.readers import Piece
from tasks.readers.names import clean_name, default_name

MAX_BYTES = 128 << 20
"""Bytes that all base64 files of one event may come to, decoded."""
SHORT = 100
"""Characters of a string that stays in the event's text although it is a document too."""
_TEXT = "text/plain"


@dataclass(frozen=True)
class Taken:
    """An event taken apart."""

    subject: str
    event: Piece
    """The event's own text."""
    documents: tuple[tuple[Piece, str], ...]
    """Each document, and the URL that it has to be fetched from, or empty."""


def take_apart(job: Job, raw: bytes, spec: EventSpec, templates: Path) -> Taken | None:
    """What `spec` makes of an event; None when its body is neither JSON nor a form, and is read as it is.

    Raises Permanent when the template asks for what the event does not have.
    """
    event = event_of(job.content_type, raw)
    if event is None:
        return None
    subject = subject_of(spec, event)
    parts = parts_of(spec, event)
    documents = _pieces(parts.taken)
    if parts.more:
        reason = f"the event holds more than {MAX_DOCUMENTS} documents; the others were left out"
        documents.append((Piece(f"document-{MAX_DOCUMENTS + 1}", status="skipped", reason=reason), ""))
    text = _text(event, spec, list(zip(parts.taken, documents, strict=False)), templates / "event")
    return Taken(subject, text, tuple(documents))


def _pieces(parts: tuple[Part, ...]) -> list[tuple[Piece, str]]:
    made: list[tuple[Piece, str]] = []
    room = MAX_BYTES
    for number, part in enumerate(parts, start=1):
        piece = _piece(part, number, room)
        room -= len(piece.data)
        made.append((piece, str(part.content) if part.form == "url" and not piece.status else ""))
    return made


def _piece(part: Part, number: int, room: int) -> Piece:
    """One document; of one with a URL, what the event itself tells of it."""
    name = clean_name(part.name)
    if part.form == "url":
        if not isinstance(part.content, str):
            name = name or default_name(part.claimed, number)
            return Piece(name, claimed=part.claimed, status="unreadable", reason="the event has no URL in its place")
        return Piece(name or _last_of(part.content) or default_name(part.claimed, number), claimed=part.claimed)
    if part.form == "text":
        return _text_piece(part, name or default_name(part.claimed or _TEXT, number))
    try:
        data, claimed = decode(part.content, room)
    except Unreadable as error:
        name = name or default_name(part.claimed, number)
        return Piece(name, claimed=part.claimed, status="unreadable", reason=error.reason)
    claimed = part.claimed or claimed
    return Piece(name or default_name(claimed, number), data, claimed)


def _text_piece(part: Part, name: str) -> Piece:
    try:
        text = part.content if isinstance(part.content, str) else as_json(part.content)
    except RecursionError:
        return Piece(name, claimed=part.claimed, status="unreadable", reason="nested too deep")
    return Piece(name, text.encode(), part.claimed or _TEXT, "utf-8", forced="" if part.claimed else _TEXT)


def _last_of(url: str) -> str:
    """The last part of a URL's path, as a name."""
    path = re.split(r"[?#]", re.sub(r"^[A-Za-z]+://[^/?#]*", "", url[:10_000]))[0]
    return clean_name(unquote(path.rpartition("/")[2]))


def _text(event: Any, spec: EventSpec, made: list[tuple[Part, tuple[Piece, str]]], templates: Path) -> Piece:
    """The event's own text, in which long base64, long texts and the queries of links give way to a remark."""
    encoded = {
        id(part.content): _remark(piece) for part, (piece, _) in made if part.form == "base64" and _is_long(part)
    }
    event = put_in(event, encoded)
    if spec.template:
        return _plain(by_template(templates, spec.template, event))
    others = {id(part.content): _remark(piece) for part, (piece, _) in made if part.form == "text" and _is_long(part)}
    links = {
        id(part.content): f"{re.split('[?#]', url)[0]} {_remark(piece)}" for part, (piece, url) in made if "://" in url
    }
    try:
        return _plain(as_json(put_in(event, others | links)))
    except RecursionError:
        return Piece("event", status="unreadable", reason="nested too deep")


def _is_long(part: Part) -> bool:
    return isinstance(part.content, str) and len(part.content) > SHORT


def _remark(piece: Piece) -> str:
    told = f", {len(piece.data)} bytes" if piece.data else f", {piece.reason}" if piece.reason else ""
    return f"[file {piece.name}{told}]"


def _plain(text: str) -> Piece:
    return Piece("event", text.encode(), _TEXT, "utf-8", forced=_TEXT)


def with_name(piece: Piece, found: Piece) -> Piece:
    """A file that was fetched, under the name and type that the event gives it."""
    return replace(found, name=piece.name, claimed=piece.claimed or found.claimed)
