"""From a raw message to its documents: the extract stage's reading."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from tasks.errors import Unreadable
from tasks.models import LOCKED, Document, Extracted, Kind, MailFacts
from tasks.readers.known import Known, Reading, found_in
from tasks.readers.language import language_of
from tasks.readers.limits import Limits
from tasks.readers.mail import ParsedMail, Part
from tasks.readers.names import clean_name, default_name
from tasks.readers.opening import mail_of
from tasks.readers.sandbox.client import SANDBOX, Result
from tasks.readers.sniffing import OCTETS, sniff

_NAMED = ("application/gzip", "application/x-bzip2", "application/x-xz")
"""Types of which the name counts, since the file inside has none of its own."""
_CLAIMED = ("application/x-www-form-urlencoded", "multipart/form-data", OCTETS)
"""Types of which the carrier's claim counts: how a form is parted, what unknown bytes were said to be."""
_WORDED = ("application/json", "application/xml")
"""Types beside `text/*` of which the charset counts."""
_HEAD_BYTES = 64 * 1024
_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
_CONTENT_ID = re.compile(rb"cid:([^\s\"'<>()]{1,300})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Item:
    """A file waiting to be read."""

    name: str
    claimed: str
    charset: str
    content_type: str
    """As found in its bytes."""
    sha256: str
    size: int
    data: bytes | None
    """None for a file in another that was read before: `box` is asked for it when it is needed."""
    parent: str = ""
    depth: int = 0
    box: _Item | None = None
    place: int = 0
    kept: bool = True
    """Whether what is read of it may be kept for other messages."""
    locked: bool = False
    """It was not taken out of `box` for want of a password."""


def _item(
    data: bytes, name: str, claimed: str = "", charset: str = "", *, forced: str = "", kept: bool = True
) -> _Item:
    """A file with its bytes. `forced` is a content type not to be doubted: a body stays text, whatever it looks like."""
    content_type = forced or sniff(data, name, claimed)
    digest = hashlib.sha256(data).hexdigest()
    return _Item(name, claimed, charset, content_type, digest, len(data), data, kept=kept)


@dataclass(frozen=True, slots=True)
class Piece:
    """One document of an event that a route has taken apart."""

    name: str
    data: bytes = b""
    claimed: str = ""
    charset: str = ""
    forced: str = ""
    """Content type not to be doubted."""
    status: str = ""
    """`unreadable` or `skipped`: there is nothing to read, and `reason` says why."""
    reason: str = ""


def read_message(
    raw: bytes,
    *,
    kind: Kind,
    name: str,
    content_type: str,
    limits: Limits | None = None,
    known: Known | None = None,
    unlocking: Callable[[Extracted], Sequence[str]] = lambda _: (),
) -> Extracted:
    """Read everything in one message, event or file, each piece in a child process of its own.

    The first document is the body (`body`), the event (`event`) or the file; files found inside another follow it and
    name it as `parent`. What cannot be read becomes a document with status `unreadable` or `skipped` and a reason.
    What is `known` is not read again. When something needs a password, `unlocking` is told what was read without one,
    and what it returns is tried.

    Raises:
        Transient: no child process can be had at all.
    """
    reading = _Walk(limits or Limits(), known or Known())
    found = reading.message(raw, kind, name, content_type)
    passwords = unlocking(found) if reading.locked else ()
    return reading.with_passwords(passwords).message(raw, kind, name, content_type) if passwords else found


def read_pieces(
    pieces: Iterable[Piece], limits: Limits | None = None, known: Known | None = None, passwords: Sequence[str] = ()
) -> tuple[Document, ...]:
    """Read documents one after the other, as if they had come in one message.

    Raises:
        Transient: no child process can be had at all.
    """
    reading = _Walk(limits or Limits(), known or Known()).with_passwords(passwords)
    for piece in pieces:
        reading.piece(piece)
    return tuple(reading.documents)


class _Walk:
    """One message's documents so far, and what is left of its budgets."""

    def __init__(self, limits: Limits, known: Known) -> None:
        self.documents: list[Document] = []
        self.locked = False
        """Something needs a password that was not among those tried."""
        self._limits = limits
        self._known = known
        self._passwords: tuple[str, ...] = ()
        self._unpacked = limits.unpacked_bytes
        self._deadline = time.monotonic() + limits.message_seconds
        self._opened: tuple[_Item, list[bytes]] | None = None

    def with_passwords(self, passwords: Sequence[str]) -> _Walk:
        """The same message from its beginning, within the same time, with passwords."""
        again = _Walk(self._limits, self._known)
        again._passwords = tuple(passwords)
        again._deadline = self._deadline
        return again

    def message(self, raw: bytes, kind: Kind, name: str, content_type: str) -> Extracted:
        """Read a whole message."""
        if kind is Kind.MAIL:
            return self.mail(raw)
        if kind is Kind.EVENT:
            self.file(_item(raw, "event", content_type or "application/json", kept=False))
        else:
            self.file(_item(raw, clean_name(name) or "file", content_type))
        return Extracted(documents=tuple(self.documents))

    def mail(self, raw: bytes) -> Extracted:
        """Read a mail: its structure first, then its body, then each attachment."""
        try:
            parsed = mail_of(SANDBOX.call({"op": "mail"}, raw, self._limits))
        except Unreadable as error:
            self._add(_item(raw, "body", forced="message/rfc822"), _refused(error, "message/rfc822"))
            return Extracted(mail=self._head_only(raw), documents=tuple(self.documents))
        self._body(parsed)
        attachments = [part for part in parsed.parts if not part.is_body]
        shown = _shown_pictures(parsed.parts) if self.documents[0].text else frozenset()
        for number, part in enumerate(attachments, start=1):
            name = part.name or default_name(part.content_type, number)
            item = _item(part.data, name, _claim(part), part.charset)
            if part.content_id in shown and self._is_ornament(item):
                reason = f"a small picture within the text ({item.size} bytes), such as a logo"
                self._add(item, _skipped(item, reason))
            else:
                self.file(item)
        return Extracted(mail=parsed.facts, documents=tuple(self.documents))

    def _is_ornament(self, item: _Item) -> bool:
        """Whether it is a small picture, by its bytes: a PDF that calls itself a picture is no ornament."""
        return item.size <= self._limits.inline_bytes and item.content_type.startswith("image/")

    def file(self, item: _Item) -> None:
        """Read one file and, after it, what was found inside it."""
        waiting = [item]
        while waiting:
            current = waiting.pop()
            waiting += reversed(self._one(current))

    def piece(self, piece: Piece) -> None:
        """Read one document of an event, or note why it is none."""
        if piece.status:
            claim = piece.claimed.partition(";")[0].strip().lower()[:100] or OCTETS
            item = _item(piece.data, piece.name, piece.claimed, piece.charset, forced=claim)
            self._add(item, Reading(status=piece.status, content_type=claim, reason=piece.reason))
        else:
            kept = not piece.forced
            self.file(_item(piece.data, piece.name, piece.claimed, piece.charset, forced=piece.forced, kept=kept))

    def _head_only(self, raw: bytes) -> MailFacts | None:
        """Facts of a mail whose body broke the parser: from its header alone."""
        end = _END_OF_HEADER.search(raw, 0, _HEAD_BYTES)
        try:
            return mail_of(SANDBOX.call({"op": "mail"}, raw[: end.start() if end else _HEAD_BYTES], self._limits)).facts
        except Unreadable:
            return None

    def _body(self, parsed: ParsedMail) -> None:
        """The body's document: plain text where there is some, else HTML, per group of alternatives."""
        texts: list[str] = []
        notes = list(parsed.notes)
        chosen: list[Part] = []
        unread = False
        for group in _groups(parsed.parts):
            plain = [part for part in group if part.content_type == "text/plain"]
            html = [part for part in group if part.content_type == "text/html"]
            text, failed = self._read_all(plain, notes)
            if text.strip() or not html:
                chosen += plain
            else:
                chosen += html
                text, failed = self._read_all(html, notes)
            texts.append(text)
            unread = unread or failed
        text = "\n\n".join(piece for piece in texts if piece.strip())
        data = b"".join(part.data for part in chosen)
        if not text:
            notes.insert(0, "the message has no text of its own" if not data.strip() else "its body holds no words")
        status = "unreadable" if unread and not text else "read"
        most = self._limits.text_chars
        if len(text) > most:
            notes.append(f"only the first {most} of {len(text)} characters were kept")
        content_type = chosen[0].content_type if chosen else "text/plain"
        reason = "; ".join(dict.fromkeys(notes))
        kept = text[:most]
        body = Reading(status=status, content_type=content_type, reason=reason, text=kept, language=language_of(text))
        self._add(_item(data, "body", forced=content_type), body)

    def _read_all(self, parts: Sequence[Part], notes: list[str]) -> tuple[str, bool]:
        """The text of body parts, and whether any of them could not be read."""
        texts = []
        failed = False
        for part in parts:
            if not part.data.strip():
                continue
            item = _item(part.data, "", _claim(part), part.charset, forced=part.content_type, kept=False)
            reading, _ = self._read(item)
            if reading.status == "unreadable":
                failed = True
                notes.append(f"a {part.content_type} part cannot be read: {reading.reason}")
                continue
            texts.append(reading.text)
            if reading.reason:
                notes.append(reading.reason)
        return "\n\n".join(texts), failed

    def _one(self, item: _Item) -> list[_Item]:
        refusal = self._refusal(item)
        if refusal:
            self._add(item, _skipped(item, refusal))
            return []
        if item.locked:
            self._add(item, _refused(Unreadable(f"it is encrypted in the archive and {LOCKED}"), OCTETS))
            return []
        reading, blobs = self._read(item)
        children = self._children(item, reading, blobs)
        self._add(item, reading)
        return children

    def _refusal(self, item: _Item) -> str:
        if len(self.documents) >= self._limits.files:
            return f"the message holds more than {self._limits.files} files"
        if item.depth > self._limits.depth:
            return f"packed over {self._limits.depth} deep"
        if time.monotonic() > self._deadline:
            return f"the message took longer than {self._limits.message_seconds:g} seconds"
        return ""

    def _children(self, item: _Item, reading: Reading, blobs: list[bytes] | None) -> list[_Item]:
        room = max(self._limits.files - len(self.documents) + 1, 0)
        self._unpacked -= reading.unpacked
        return [
            _Item(
                clean_name(child.name) or default_name(child.claimed, place + 1),
                child.claimed,
                child.charset,
                child.content_type,
                child.sha256,
                child.size,
                data=blobs[place] if blobs is not None else None,
                parent=item.name,
                depth=item.depth + 1,
                box=item if blobs is None else None,
                place=place,
                locked=child.locked,
            )
            for place, child in enumerate(reading.children[:room])
        ]

    def _read(self, item: _Item) -> tuple[Reading, list[bytes] | None]:
        """What is in a file and, where they were taken out of it this time, the bytes of the files inside."""
        found = self._ask(item, ())
        if found[0].locked and self._passwords:
            found = self._ask(item, self._passwords)
        self.locked = self.locked or found[0].locked
        return found

    def _ask(self, item: _Item, passwords: tuple[str, ...]) -> tuple[Reading, list[bytes] | None]:
        """Ask a child, once for equal files.

        What a file comes to does not depend on what came before it in the message, so that it can be kept: it has the
        whole budget for what it unpacks to, while more than half of the message's is left. Where that is too much for
        what is left, it is read again with that, for this message only.
        """
        request = _request(item, passwords)
        key = self._known.key(item.sha256, request, self._limits)
        with self._known.turn(key):
            reading, blobs = self._known.get(key, kept=item.kept), None
            if reading is None and self._unpacked * 2 > self._limits.unpacked_bytes:
                reading, blobs = self._child(item, request, self._limits)
                self._known.put(key, item.sha256, reading, kept=item.kept)
        if reading is None or reading.unpacked > self._unpacked:
            reading, blobs = self._child(item, request, replace(self._limits, unpacked_bytes=max(self._unpacked, 0)))
        return reading, blobs

    def _child(self, item: _Item, request: dict[str, Any], limits: Limits) -> tuple[Reading, list[bytes]]:
        try:
            result = SANDBOX.call(request, self._bytes(item), limits)
        except Unreadable as error:
            return _refused(error, item.content_type), []
        return _reading(result), result.blobs

    def _bytes(self, item: _Item) -> bytes:
        """The file itself. Raises Unreadable when what it is in, which was read before, does not give it out again."""
        if item.data is not None:
            return item.data
        assert item.box is not None
        if self._opened is None or self._opened[0] is not item.box:
            self._opened = None
            request = _request(item.box, self._passwords)
            blobs = SANDBOX.call(request, self._bytes(item.box), self._limits).blobs
            self._opened = (item.box, blobs)
        blobs = self._opened[1]
        if item.place >= len(blobs) or hashlib.sha256(blobs[item.place]).hexdigest() != item.sha256:
            raise Unreadable(f"{item.parent} does not give it out a second time", lasting=False)
        return blobs[item.place]

    def _add(self, item: _Item, reading: Reading) -> None:
        if len(self.documents) > self._limits.files:
            return
        self.documents.append(
            Document(
                ordinal=len(self.documents),
                name=item.name,
                content_type=reading.content_type,
                size=item.size,
                sha256=item.sha256,
                status=reading.status,
                reason=reading.reason,
                text=reading.text,
                pages=reading.pages,
                language=reading.language,
                parent=item.parent,
            )
        )


def _request(item: _Item, passwords: Sequence[str]) -> dict[str, Any]:
    """What a child is told of a file: only what counts for its type, so that equal files are asked for in equal words."""
    kind = item.content_type
    return {
        "op": "read",
        "as": kind,
        "name": item.name if kind in _NAMED else "",
        "claimed": item.claimed if kind in _CLAIMED else "",
        "charset": item.charset if kind.startswith("text/") or kind in _WORDED else "",
        "passwords": list(passwords),
    }


def _reading(result: Result) -> Reading:
    """What a child answered."""
    told = {**result.header}
    children = found_in(told.pop("children"), result.blobs)
    return Reading(content_type=told.pop("type"), children=children, **told)


def _refused(error: Unreadable, content_type: str) -> Reading:
    return Reading(
        status="unreadable",
        content_type=content_type,
        reason=error.reason,
        locked=error.locked,
        lasting=error.lasting,
    )


def _skipped(item: _Item, reason: str) -> Reading:
    return Reading(status="skipped", content_type=item.content_type, reason=reason)


def _groups(parts: Sequence[Part]) -> list[list[Part]]:
    groups: dict[int, list[Part]] = {}
    for part in parts:
        if part.is_body:
            groups.setdefault(part.group, []).append(part)
    return list(groups.values())


def _shown_pictures(parts: Sequence[Part]) -> frozenset[str]:
    """The Content-IDs that the HTML of the body refers to."""
    bodies = (part.data for part in parts if part.is_body and part.content_type == "text/html")
    return frozenset(
        unquote(found.decode("utf-8", "replace")) for data in bodies for found in _CONTENT_ID.findall(data)
    )


def _claim(part: Part) -> str:
    boundary = part.parameters.get("boundary")
    return f"{part.content_type}; boundary={boundary}" if boundary else part.content_type
