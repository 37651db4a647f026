"""From a raw message to its documents: the extract stage's reading."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

from tasks.errors import Unreadable
from tasks.models import Document, Extracted, Kind, MailFacts
from tasks.readers.language import language_of
from tasks.readers.limits import Limits
from tasks.readers.mail import ParsedMail, Part
from tasks.readers.names import clean_name, default_name
from tasks.readers.opening import mail_of
from tasks.readers.sandbox.client import SANDBOX, Result
from tasks.readers.sniffing import OCTETS, sniff

_HEAD_BYTES = 64 * 1024
_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
_CONTENT_ID = re.compile(rb"cid:([^\s\"'<>()]{1,300})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Item:
    """A file waiting to be read."""

    data: bytes
    name: str = ""
    claimed: str = ""
    charset: str = ""
    parent: str = ""
    depth: int = 0
    forced: str = ""
    """Content type not to be doubted: a mail's body stays text, whatever it looks like."""


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
    passwords: tuple[str, ...] = (),
) -> Extracted:
    """Read everything in one message, event or file, each piece in a child process of its own.

    The first document is the body (`body`), the event (`event`) or the file; files found inside another follow it and
    name it as `parent`. What cannot be read becomes a document with status `unreadable` or `skipped` and a reason.

    Raises:
        Transient: no child process can be had at all.
    """
    reading = _Reading(limits or Limits(), passwords)
    if kind is Kind.MAIL:
        return reading.mail(raw)
    if kind is Kind.EVENT:
        reading.file(_Item(raw, "event", content_type or "application/json"))
    else:
        reading.file(_Item(raw, clean_name(name) or "file", content_type))
    return Extracted(documents=tuple(reading.documents))


def read_pieces(pieces: Iterable[Piece], limits: Limits | None = None) -> tuple[Document, ...]:
    """Read documents one after the other, as if they had come in one message.

    Raises:
        Transient: no child process can be had at all.
    """
    reading = _Reading(limits or Limits(), ())
    for piece in pieces:
        reading.piece(piece)
    return tuple(reading.documents)


class _Reading:
    """One message's documents so far, and what is left of its budgets."""

    def __init__(self, limits: Limits, passwords: tuple[str, ...]) -> None:
        self.documents: list[Document] = []
        self._limits = limits
        self._passwords = passwords
        self._unpacked = limits.unpacked_bytes
        self._deadline = time.monotonic() + limits.message_seconds
        self._seen: dict[str, Result | Unreadable] = {}

    def mail(self, raw: bytes) -> Extracted:
        """Read a mail: its structure first, then its body, then each attachment."""
        try:
            parsed = mail_of(SANDBOX.call({"op": "mail"}, raw, self._limits))
        except Unreadable as error:
            self._add(_Item(raw, "body", "message/rfc822"), "message/rfc822", status="unreadable", reason=error.reason)
            return Extracted(mail=self._head_only(raw), documents=tuple(self.documents))
        self._body(parsed)
        attachments = [part for part in parsed.parts if not part.is_body]
        shown = _shown_pictures(parsed.parts) if self.documents[0].text else frozenset()
        for number, part in enumerate(attachments, start=1):
            name = part.name or default_name(part.content_type, number)
            item = _Item(part.data, name, _claim(part), part.charset)
            if part.content_id in shown and self._is_ornament(item):
                reason = f"a small picture within the text ({len(item.data)} bytes), such as a logo"
                self._add(item, sniff(item.data, item.name, item.claimed), "skipped", reason)
            else:
                self.file(item)
        return Extracted(mail=parsed.facts, documents=tuple(self.documents))

    def _is_ornament(self, item: _Item) -> bool:
        """Whether it is a small picture, by its bytes: a PDF that calls itself a picture is no ornament."""
        small = len(item.data) <= self._limits.inline_bytes
        return small and sniff(item.data, item.name, item.claimed).startswith("image/")

    def file(self, item: _Item) -> None:
        """Read one file and, after it, what was found inside it."""
        waiting = [item]
        while waiting:
            current = waiting.pop()
            waiting += reversed(self._one(current))

    def piece(self, piece: Piece) -> None:
        """Read one document of an event, or note why it is none."""
        item = _Item(piece.data, piece.name, piece.claimed, piece.charset, forced=piece.forced)
        if piece.status:
            claim = piece.claimed.partition(";")[0].strip().lower()
            self._add(item, claim[:100] or OCTETS, piece.status, piece.reason)
        else:
            self.file(item)

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
        self._add(
            _Item(data, "body", content_type),
            content_type,
            status=status,
            reason="; ".join(dict.fromkeys(notes)),
            text=text[:most],
            language=language_of(text),
        )

    def _read_all(self, parts: Sequence[Part], notes: list[str]) -> tuple[str, bool]:
        """The text of body parts, and whether any of them could not be read."""
        texts = []
        failed = False
        for part in parts:
            if not part.data.strip():
                continue
            try:
                header = self._call(_Item(part.data, "", _claim(part), part.charset, forced=part.content_type)).header
            except Unreadable as error:
                failed = True
                notes.append(f"a {part.content_type} part cannot be read: {error.reason}")
                continue
            texts.append(str(header.get("text", "")))
            if header["reason"]:
                notes.append(str(header["reason"]))
        return "\n\n".join(texts), failed

    def _one(self, item: _Item) -> list[_Item]:
        refusal = self._refusal(item)
        if refusal:
            self._add(item, sniff(item.data, item.name, item.claimed), "skipped", refusal)
            return []
        try:
            result = self._call(item)
        except Unreadable as error:
            self._add(item, item.forced or sniff(item.data, item.name, item.claimed), "unreadable", error.reason)
            return []
        header = result.header
        children = self._children(item, result)
        self._add(
            item,
            str(header["type"]),
            str(header["status"]),
            str(header["reason"]),
            text=str(header.get("text", "")),
            pages=int(header.get("pages", 1)),
            language=str(header.get("language", "")),
        )
        return children

    def _refusal(self, item: _Item) -> str:
        if len(self.documents) >= self._limits.files:
            return f"the message holds more than {self._limits.files} files"
        if item.depth > self._limits.depth:
            return f"packed over {self._limits.depth} deep"
        if time.monotonic() > self._deadline:
            return f"the message took longer than {self._limits.message_seconds:g} seconds"
        return ""

    def _children(self, item: _Item, result: Result) -> list[_Item]:
        found = []
        room = self._limits.files - len(self.documents) + 1
        described = zip(result.header.get("children", ()), result.blobs, strict=False)
        for number, ((name, claimed, charset), data) in enumerate(described, start=1):
            self._unpacked -= len(data)
            child = clean_name(str(name)) or default_name(str(claimed), number)
            found.append(_Item(data, child, str(claimed), str(charset), item.name, item.depth + 1))
        return found[: max(room, 0)]

    def _call(self, item: _Item) -> Result:
        """Ask the sandbox, once for equal bytes: signatures and logos come many times in one thread."""
        key = f"{hashlib.sha256(item.data).hexdigest()}/{item.forced}/{item.claimed}/{item.charset}"
        known = self._seen.get(key)
        if isinstance(known, Unreadable):
            raise known
        if known is not None:
            return known
        request = {
            "op": "read",
            "as": item.forced,
            "name": item.name,
            "claimed": item.claimed,
            "charset": item.charset,
            "passwords": list(self._passwords),
        }
        limits = replace(self._limits, unpacked_bytes=max(self._unpacked, 0), files=self._limits.files)
        try:
            result = SANDBOX.call(request, item.data, limits)
        except Unreadable as error:
            self._seen[key] = error
            raise
        if not result.blobs:  # what holds files is kept out: its bytes would stay in memory to the end
            self._seen[key] = result
        return result

    def _add(
        self,
        item: _Item,
        content_type: str,
        status: str,
        reason: str,
        *,
        text: str = "",
        pages: int = 1,
        language: str = "",
    ) -> None:
        if len(self.documents) > self._limits.files:
            return
        self.documents.append(
            Document(
                ordinal=len(self.documents),
                name=item.name,
                content_type=content_type,
                size=len(item.data),
                sha256=hashlib.sha256(item.data).hexdigest(),
                status=status,
                reason=reason,
                text=text,
                pages=pages,
                language=language,
                parent=item.parent,
            )
        )


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
