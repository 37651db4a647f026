"""An RFC 5322 message taken apart: what its header says, and its parts. Bounded in every direction.

The compat32 parser is used because `policy.default` takes seconds to minutes on hostile headers and raises on real
ones. `message/*` parts stay one unit, with the bytes as they came. Runs in a child process (tasks/readers/sandbox).
"""

from __future__ import annotations

import binascii
import quopri
import re
from email.errors import MessageError
from email.message import Message
from email.parser import BytesFeedParser
from email.policy import compat32
from email.utils import parsedate_to_datetime
from typing import Any

from pydantic import Field as Attribute

from tasks.invisible import cleaned
from tasks.models import MailFacts, Noun
from tasks.readers import headers as header
from tasks.readers.names import clean_name

MOST_PARTS = 500
DEEPEST = 20
_MOST_HEADERS = 1_000
_MOST_PER_NAME = 200
_MOST_ADDRESSES = 200
_INLINE_MEDIA = ("image/", "audio/", "video/")
_BODY_TYPES = ("text/plain", "text/html")
REPLY_HEADERS = frozenset(
    [
        "auto-submitted", "precedence", "x-auto-response-suppress", "x-autoreply", "x-auto-reply",
        "x-autorespond", "x-autoresponder", "x-loop", "return-path", "received", "delivered-to",
        "x-original-to", "envelope-to", "authentication-results", "content-type", "sender", "from",
        "x-spam-flag", "x-spam-status", "x-failed-recipients", "feedback-id", "x-mailer", "message-id",
        "x-ms-exchange-inbox-rules-loop", "x-mailing-list", "mailing-list", "x-campaign", "x-csa-complaints",
    ]
)  # fmt: skip
"""What rules on automatic replies look at; every `List-*` field besides (RFC 3834, RFC 2369, RFC 2919, MS-OXCMAIL)."""
_FOLD = re.compile(r"\r\n|\r|\n")
_ANGLED = re.compile(r"<[^<>\s]+>")
_FIELD = re.compile(rb"(?:[!-9;-~]{1,200}:|[ \t]|From )")
_LOOSE_FIELD = re.compile(rb"([A-Za-z][A-Za-z0-9-]{1,60})[ \t]{1,3}:")
_COMMON_FIELD = re.compile(rb"(?:from|to|cc|subject|date|message-id|mime-version|content-type|received)[ \t]*:", re.I)
_MENDED_HEADER = 256 * 1024
_END_OF_HEADER = re.compile(rb"\r?\n\r?\n|\r\r")
_UU_BEGIN = re.compile(rb"^begin [0-7]{3,4} (.*)$", re.MULTILINE)


class Part(Noun):
    """One leaf of the MIME tree, its transfer encoding undone."""

    name: str = ""
    """Cleaned file name; empty when the sender gave none."""
    content_type: str = "text/plain"
    """As claimed, lower case, without parameters."""
    charset: str = ""
    data: bytes = b""
    is_body: bool = False
    """Text that a mail program shows as the message itself (RFC 8621 section 4.1.4)."""
    inline: bool = False
    """Shown within the body, such as a picture in HTML."""
    content_id: str = ""
    """Under which HTML refers to it as `cid:...` (RFC 2392), without angle brackets."""
    group: int = 0
    """Body parts of one group are the same words in different form (multipart/alternative)."""
    parameters: dict[str, str] = Attribute(default_factory=dict)
    """Of Content-Type, decoded; with `field` for the name of a form's field."""


class ParsedMail(Noun):
    """What `parse` found in one message."""

    facts: MailFacts
    parts: tuple[Part, ...] = ()
    headers: dict[str, list[str]] = Attribute(default_factory=dict)
    """Every header by lower-case name, values in order from the top, decoded, each cut to 8 KB (Received to 200)."""
    received_count: int = 0
    """Number of Received headers: the hops so far (RFC 5321 section 6.3)."""
    notes: tuple[str, ...] = ()
    """What was cut or could not be decoded."""


class _Cut(Exception):
    """Raised out of the parser when a message has too many parts or is nested too deep."""


class _Node(Message):
    """A message whose `message/*` parts the parser takes for leaves, so that their bytes stay as they came."""

    depth = 0

    def get_content_type(self) -> str:
        real = super().get_content_type()
        return "text/plain" if real.startswith("message/") else real

    def get_content_maintype(self) -> str:
        return self.get_content_type().partition("/")[0]

    def get_boundary(self, failobj: Any = None) -> Any:
        """The boundary on one line: a header may be folded within its quotes (RFC 5322 section 2.2.3)."""
        found = super().get_boundary(failobj)
        return _FOLD.sub("", found) if isinstance(found, str) else found

    def real_type(self) -> str:
        """The type that the header states (or the default one inside multipart/digest)."""
        return super().get_content_type()

    def attach(self, payload: Any) -> None:
        super().attach(payload)
        payload.depth = self.depth + 1
        if payload.depth > DEEPEST:
            raise _Cut(f"parts nested over {DEEPEST} deep were not read")


def parse(raw: bytes) -> ParsedMail:
    """Take a message apart. Whatever the bytes are, something comes back; what was cut is told in `notes`."""
    root, notes = _tree(raw)
    collected, total = _headers(root)
    if total > _MOST_HEADERS:
        notes.append(f"{total - _MOST_HEADERS} headers over the limit of {_MOST_HEADERS} were not read")
    shown = header.decode_words(f"{_raw(root, 'subject')}\n{_raw(root, 'from')}")
    notes += [f"in the mail's header {note}" for note in cleaned(shown)[1]]
    parts = _Parts(notes)
    parts.walk(root)
    return ParsedMail(
        facts=_facts(root, collected),
        parts=tuple(parts.found),
        headers=collected,
        received_count=sum(1 for name, _ in root.raw_items() if name.lower() == "received"),
        notes=tuple(notes),
    )


def _tree(raw: bytes) -> tuple[_Node, list[str]]:
    nodes: list[_Node] = []
    notes: list[str] = []

    def factory(policy: Any = compat32) -> _Node:
        if len(nodes) > MOST_PARTS:
            raise _Cut(f"only the first {MOST_PARTS} parts were read")
        nodes.append(_Node(policy))
        return nodes[-1]

    raw, skipped = _mended(raw.lstrip(b"\r\n"))
    if skipped:
        notes.append(f"{skipped} damaged header lines were skipped")
    try:
        parser = BytesFeedParser(factory)  # BytesParser would translate line ends, and break what is sent as binary
        parser.feed(raw)
        return parser.close(), notes
    except _Cut as cut:
        notes.append(str(cut))
    except (MessageError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        notes.append(f"the structure is damaged after part {len(nodes)} ({type(error).__name__})")
    # Everything read hangs from the first node with a header; the parser makes an empty one first.
    return next((node for node in nodes if len(node)), _Node()), notes


def _mended(raw: bytes) -> tuple[bytes, int]:
    """The message with a header that the parser reads to its end, and how many lines that cost.

    A line that is no field ends the header for the parser. Where well-known fields still follow it, it is damage (as
    after a line break in the wrong place), not the body; `Subject :` with a blank is a field (RFC 5322 section 4.5).
    """
    end = _END_OF_HEADER.search(raw, 0, _MENDED_HEADER)
    lines = raw[: end.start() if end else 0].splitlines(keepends=True)
    if end is None or all(_FIELD.match(line) for line in lines):
        return raw, 0
    last = max((number for number, line in enumerate(lines) if _COMMON_FIELD.match(line)), default=-1)
    kept, skipped = [], 0
    for number, line in enumerate(lines):
        loose = _LOOSE_FIELD.match(line)
        if _FIELD.match(line) or number > last:
            kept.append(line)
        elif loose:
            kept.append(loose[1] + line[loose.end() - 1 :])
        else:
            skipped += 1
    return b"".join(kept) + raw[end.start() :], skipped


def _headers(root: _Node) -> tuple[dict[str, list[str]], int]:
    collected: dict[str, list[str]] = {}
    total = 0
    for name, value in root.raw_items():
        total += 1
        if total <= _MOST_HEADERS:
            values = collected.setdefault(name.lower()[:100], [])
            if len(values) < _MOST_PER_NAME:
                text = header.header_text(str(value))
                values.append(text[:200] if name.lower() == "received" else text)
    return collected, total


def _raw(root: _Node, wanted: str) -> str:
    """The first non-empty header of that name; senders that write two mean the first."""
    for name, value in root.raw_items():
        if name.lower() == wanted and str(value).strip():
            return str(value)
    return ""


def _facts(root: _Node, collected: dict[str, list[str]]) -> MailFacts:
    sender = header.addresses(_raw(root, "from")) or header.addresses(_raw(root, "sender"))
    name, address = next((pair for pair in sender if "@" in pair[1]), sender[0] if sender else ("", ""))
    reply_to = [found for _, found in header.addresses(_raw(root, "reply-to")) if found]
    return MailFacts(
        subject=next((value for value in collected.get("subject", []) if value), ""),
        from_address=address,
        from_name=name,
        reply_to=reply_to[0] if reply_to else "",
        to=_all_addresses(root, "to"),
        cc=_all_addresses(root, "cc"),
        message_id=_first_id(_raw(root, "message-id")),
        in_reply_to=_first_id(_raw(root, "in-reply-to")),
        references=tuple(_ANGLED.findall(header.raw_text(_raw(root, "references")))),
        date=_date(header.header_text(_raw(root, "date"))),
        headers={
            name: tuple(values)
            for name, values in collected.items()
            if name in REPLY_HEADERS or name.startswith("list-")
        },
    )


def _all_addresses(root: _Node, wanted: str) -> tuple[str, ...]:
    found = [
        address
        for name, value in root.raw_items()
        if name.lower() == wanted
        for _, address in header.addresses(str(value))
        if address
    ]
    return tuple(found[:_MOST_ADDRESSES])


def _first_id(value: str) -> str:
    text = header.raw_text(value).strip()
    found = _ANGLED.search(text)
    return found[0] if found else f"<{text}>" if text and " " not in text and "@" in text else ""


def _date(value: str) -> str:
    """ISO 8601 with the sender's offset; as written where it is no date of RFC 5322."""
    try:
        return parsedate_to_datetime(value).isoformat() if value else ""
    except (ValueError, TypeError, IndexError, OverflowError):
        return value


class _Parts:
    """Collects leaves, and says of each whether it is body or attachment as RFC 8621 section 4.1.4 does."""

    def __init__(self, notes: list[str]) -> None:
        self.found: list[Part] = []
        self._notes = notes
        self._groups = 0

    def walk(self, node: _Node, within: str = "mixed", group: int = 0, first: bool = True) -> None:
        """Visit a node. `within` is the subtype of the multipart it stands in, `group` that of an alternative."""
        if not node.is_multipart():
            self._leaf(node, within, group, first)
            return
        subtype = node.get_content_type().partition("/")[2]
        if subtype == "alternative" and not group:
            self._groups += 1
            group = self._groups
        payload: Any = node.get_payload()
        for index, child in enumerate(payload):
            # All branches of an alternative are first ones: each shows the whole message in its own form.
            self.walk(child, subtype, group, index == 0 or subtype == "alternative")

    def _leaf(self, node: _Node, within: str, group: int, first: bool) -> None:
        _, type_parameters = header.parameters(_raw(node, "content-type"))
        disposition, parameters = header.parameters(_raw(node, "content-disposition"))
        content_type = node.real_type().lower()
        if content_type.startswith("multipart/"):
            content_type = "text/plain"  # no boundary was found: everything is one text
        name = clean_name(parameters.get("filename") or type_parameters.get("name") or "")
        media = content_type.startswith(_INLINE_MEDIA)
        inline = disposition != "attachment" and (first or (within != "related" and (media or not name)))
        is_body = inline and content_type in _BODY_TYPES
        if is_body and not group:
            self._groups += 1
        if "name" in parameters:
            type_parameters["field"] = parameters["name"]
        self.found.append(
            Part(
                name=name,
                content_type=content_type,
                charset=type_parameters.get("charset", "")[:100],
                data=self._data(node, len(self.found) + 1),
                is_body=is_body,
                inline=disposition == "inline" or (within == "related" and not is_body) or (media and inline),
                content_id=header.header_text(_raw(node, "content-id")).strip(" <>")[:300],
                group=group or self._groups,
                parameters=type_parameters,
            )
        )

    def _data(self, node: _Node, number: int) -> bytes:
        encoding = header.header_text(_raw(node, "content-transfer-encoding")).partition(";")[0].strip().lower()
        del node["content-transfer-encoding"]  # without it, the parser gives the bytes as they came
        payload: Any = node.get_payload(decode=True)
        data = payload if isinstance(payload, bytes) else b""
        try:
            return _undo(data, encoding)
        except (ValueError, binascii.Error) as error:
            self._notes.append(f"part {number}: its {encoding[:40]} encoding is damaged ({error}); left as it is")
            return data


def _undo(data: bytes, encoding: str) -> bytes:
    """Undo a content transfer encoding (RFC 2045 section 6); unknown ones mean "as it is"."""
    compact = encoding.replace(" ", "")
    if compact == "base64":
        return header.from_base64(data)
    if compact in ("quoted-printable", "quotedprintable"):
        return quopri.decodestring(data)
    if compact in ("x-uuencode", "uuencode", "x-uue", "uue"):
        return _undo_uu(data)
    return data


def _undo_uu(data: bytes) -> bytes:
    begin = _UU_BEGIN.search(data)
    out = []
    for line in data[begin.end() if begin else 0 :].splitlines():
        if line.strip() == b"end":
            break
        if line:
            # The true length stands in the first character: some encoders pad the line.
            length = (((line[0] - 32) & 63) * 4 + 5) // 3
            out.append(binascii.a2b_uu(line[: length + 1]))
    return b"".join(out)
