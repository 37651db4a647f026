"""Files inside an event: base64 in the forms that senders use (RFC 4648, RFC 2397)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote_to_bytes

from tasks.errors import Unreadable

MAX_BYTES = 32 << 20
"""Largest file in an event, decoded."""

_DATA_URL = re.compile(r"data:([^,]{0,1000}),", re.IGNORECASE)
_SPACES = re.compile(r"\s+")
_URL_SAFE = str.maketrans("-_", "+/")


def decode(content: Any, room: int) -> tuple[bytes, str]:
    """The file in `content` and the content type that a `data:` URL tells (else empty).

    White space, the URL-safe alphabet and missing padding are taken; anything else that is no base64 is not.
    `room`: bytes left for the event's files. Raises Unreadable.
    """
    if not isinstance(content, str):
        raise Unreadable("the event has no text in its place, so no base64")
    claimed = ""
    if found := _DATA_URL.match(content):
        claimed, _, encoding = found[1].rpartition(";")
        content = content[found.end() :]
        if encoding.strip().lower() != "base64":
            claimed = found[1]
            _check_size(len(content) // 3, room)
            data = unquote_to_bytes(content)
            _check_size(len(data), room)
            return data, claimed
    text = _SPACES.sub("", content).rstrip("=")
    _check_size(len(text) * 3 // 4, room)
    return _decoded(text), claimed


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.translate(_URL_SAFE) + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable("it is not base64") from None


def _check_size(size: int, room: int) -> None:
    if size > MAX_BYTES:
        raise Unreadable(f"it is larger than {MAX_BYTES} bytes")
    if size > room:
        raise Unreadable("the event's files are too large together")
