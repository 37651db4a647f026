"""Text as every database can keep it: no NUL, which PostgreSQL refuses, and no half characters, which UTF-8 cannot say."""

from __future__ import annotations

import hashlib
import json
from typing import Any

INDEXED_BYTES = 1024
"""UTF-8 bytes of an indexed text: two of them fit one entry of a PostgreSQL B-tree (2,704 bytes)."""
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean(text: str) -> str:
    """`text` with U+FFFD for each NUL and each lone surrogate."""
    if "\0" in text:
        text = text.replace("\0", _REPLACEMENT)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(_REPLACEMENT if "\ud800" <= one <= "\udfff" else one for one in text)
    return text


def indexable(text: str) -> str:
    """`text`, cleaned, when it is short enough for an index; else its start and its SHA-256, which tell it apart."""
    text = clean(text)
    data = text.encode()
    if len(data) <= INDEXED_BYTES:
        return text
    return f"{data[:200].decode('utf-8', 'ignore')}...sha256:{hashlib.sha256(data).hexdigest()}"


def dump_json(value: Any) -> str:
    """JSON whose texts are clean."""
    text = json.dumps(value, ensure_ascii=False)
    if "\\u0000" in text:  # in a text, or after a backslash of the text's own: rare enough to look at each
        text = json.dumps(_cleaned(value), ensure_ascii=False)
    return clean(text)


def _cleaned(value: Any) -> Any:
    match value:
        case str():
            return clean(value)
        case dict():
            return {_cleaned(key): _cleaned(one) for key, one in value.items()}
        case list() | tuple():
            return [_cleaned(one) for one in value]
        case _:
            return value
