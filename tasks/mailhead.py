"""A cheap, bounded look at a mail's header, before any parser has seen it.

Listeners need three facts about bytes that nobody has read yet: the sender, the key under which a repeat is recognised,
and what the own mail server wrote about the sender. None of that is worth an e-mail parser in the process that holds
the network connection, so this is a linear scan over at most HEAD_LIMIT bytes and MOST_FIELDS fields, a matter of
milliseconds, that never raises on any input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

HEAD_LIMIT = 262_144
"""Bytes in which the header has to end; what comes later counts as body."""
MOST_FIELDS = 1_000
"""Fields that are looked at, from the top."""
VALUE_LIMIT = 8_192
"""Bytes of one header field that are looked at."""
AUTHOR_LIMIT = 1_000
"""Bytes of `From` in which the address has to stand."""

_THREAD = (b"references", b"in-reply-to", b"message-id")
_END = re.compile(rb"\r?\n\r?\n")
_FIELD = re.compile(rb"[^\n]*\n?(?:[ \t][^\n]*\n?)*")
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
_ANGLE = re.compile(rb"<([^<>]*)>")
_BARE = re.compile(rb'[^\s<>(),;:"]+@[^\s<>(),;:"]+')


def body_offset(raw: bytes) -> int:
    """Where the header ends: the first byte of the empty line that closes it, or the end of what is looked at."""
    if raw[:1] == b"\n" or raw[:2] == b"\r\n":
        return 0
    found = _END.search(raw, 0, HEAD_LIMIT)
    return raw.index(b"\n", found.start()) + 1 if found else min(len(raw), HEAD_LIMIT)


def fields(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The first fields as (lower-case name, whole field with its folded lines), in order (RFC 5322 section 2.2).

    The fields in a row are the start of `raw`, byte for byte.
    """
    end = body_offset(raw)
    position = 0
    for _ in range(MOST_FIELDS):
        found = _FIELD.match(raw, position, end)
        if found is None or not found[0]:
            return
        name, _, _ = found[0][:VALUE_LIMIT].partition(b":")
        yield name.strip().lower(), found[0]
        position = found.end()


def first(raw: bytes, name: bytes) -> bytes | None:
    """The value of the first field called `name` (lower case), unfolded and cut to VALUE_LIMIT; None without one."""
    for found, field in fields(raw):
        if found == name:
            value = field[:VALUE_LIMIT].partition(b":")[2]
            return b" ".join(value.split())
    return None


def thread_of(raw: bytes) -> str:
    """The Message-ID that a mail's conversation began with: first of References, else In-Reply-To, else its own.

    RFC 5322 section 3.6.4. Empty when it has none of them.
    """
    found: dict[bytes, str] = {}
    for name, field in fields(raw):
        if name in _THREAD and name not in found and (one := _ANGLE.search(field[:VALUE_LIMIT])):
            found[name] = _text(b"".join(one[1].split()))
    return next((found[name] for name in _THREAD if found.get(name)), "")


def sender_of(raw: bytes) -> str:
    """The reverse path that the last mail server wrote down (`Return-Path`), else the address in `From`.

    Empty for `<>` and when neither is there. Only for sources that carry no envelope (IMAP, files): over SMTP the
    envelope itself is known.
    """
    path = first(raw, b"return-path")
    if path is not None:
        angle = _ANGLE.search(path)
        return _text(angle[1] if angle else path)
    author = _QUOTED.sub(b"", (first(raw, b"from") or b"")[:AUTHOR_LIMIT])
    angle = _ANGLE.search(author)
    if angle and b"@" in angle[1]:
        return _text(angle[1])
    bare = _BARE.search(author)
    return _text(bare[0]) if bare else ""


def _text(address: bytes) -> str:
    """An address as text: no white space, no control characters, RFC 5321's 254 bytes and a little at most."""
    return "".join(filter(str.isprintable, address.decode("utf-8", "replace"))).strip()[:320]
