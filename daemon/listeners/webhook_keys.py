"""The name a sender gives to a webhook, so that a repeat is recognised."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping

from jsonpath_ng import JSONPath
from jsonpath_ng.parser import parse

MAX_KEY = 255
"""Characters a key may have: what every ledger can index."""

_QUOTED = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')


class NoKey(Exception):
    """The request names no usable key; the message says where one was looked for."""


class KeyFinder:
    """Looks for the key at the configured places, in order. Made once per source."""

    def __init__(self, places: Iterable[str]) -> None:
        self._places = [(place, parse(place[5:]) if place.startswith("json:") else None) for place in places]

    def find(self, headers: Mapping[str, str], body: bytes) -> str:
        """The first key that is there. Raises NoKey when there is none, or when it is too long or unprintable."""
        for place, path in self._places:
            if path is not None:
                found = _in_json(path, body)
            elif place == "body":
                return f"sha256:{hashlib.sha256(body).hexdigest()}"
            else:
                found = _unquoted(headers.get(place[7:], ""))
            if found:
                return _checked(found, place)
        raise NoKey(f"no idempotency key in {' or '.join(place for place, _ in self._places)}")


def _checked(key: str, place: str) -> str:
    if len(key) > MAX_KEY:
        raise NoKey(f"the key in {place} has {len(key)} characters; at most {MAX_KEY} are taken")
    if not key.isprintable():
        raise NoKey(f"the key in {place} holds characters that cannot be printed")
    return key


def _unquoted(value: str) -> str:
    """The text of a structured-field string (RFC 8941 section 3.3.3), which Idempotency-Key is; others as they are."""
    value = value.strip()
    quoted = _QUOTED.fullmatch(value)
    return re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value


def _in_json(path: JSONPath, body: bytes) -> str:
    try:
        found = path.find(json.loads(body))
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return ""
    value = found[0].value if found else None
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""
