"""An event's body as data, and JSON paths into it. Bodies are anybody's: nothing here raises for what they hold."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from jsonpath_ng import JSONPath
from jsonpath_ng.parser import parse as parse_json_path

FORM = "application/x-www-form-urlencoded"
MAX_VALUES = 200_000
"""Values in one event; one with more is read as text, but no path finds anything in it."""

_MAX_FIELDS = 10_000
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"(?P<pair>\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w)|(?P<lone>\\u[dD][89a-fA-F]\w\w)|\\.", re.DOTALL
)
_MISFITS = (AssertionError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What jsonpath-ng raises where a path does not fit the data, and Python where the data is too deep."""


def event_of(content_type: str, raw: bytes) -> Any:
    """The event's JSON, or a form's fields as an object; None when the body is neither.

    Numbers with a fraction are decimals, so that 120.00 stays 120.00. A form's field that comes several times is a list.
    """
    try:
        if is_form(content_type):
            return _form(raw)
        if _values_in(raw) > MAX_VALUES:
            return None
        return json.loads(_ESCAPE.sub(_paired, raw) if _SURROGATE.search(raw) else raw, parse_float=_number)
    except (ValueError, RecursionError):
        return None


def is_form(content_type: str) -> bool:
    """Whether a body is a form's fields; forms with files are read as they are."""
    return content_type.partition(";")[0].strip().lower() == FORM


def find(path: str, value: Any) -> list[Any]:
    """All that `path` finds in `value`; nothing when it does not fit."""
    try:
        return [found.value for found in _compiled(path).find(value)]
    except _MISFITS:
        return []


@lru_cache(maxsize=256)
def _compiled(path: str) -> JSONPath:
    return parse_json_path(path)


def _paired(escape: re.Match[bytes]) -> bytes:
    """Half a surrogate pair is no character and cannot be stored: U+FFFD stands for it."""
    return b"\\ufffd" if escape["lone"] else escape[0]


def _form(raw: bytes) -> dict[str, str | list[str]]:
    fields: dict[str, list[str]] = {}
    for name, value in parse_qsl(raw.decode("utf-8"), keep_blank_values=True, max_num_fields=_MAX_FIELDS):
        fields.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


def _values_in(raw: bytes) -> int:
    """Counts what separates values, first with and, where that is many, without what stands in strings."""
    count = sum(map(raw.count, (b",", b"[", b"{")))
    return count if count <= MAX_VALUES else sum(map(_STRING.sub(b"", raw).count, (b",", b"[", b"{")))


def _number(spelling: str) -> Decimal | float:
    """A decimal as it is written; with an exponent a float, because 1e999999999 in full would fill the memory."""
    return float(spelling) if "e" in spelling.lower() else Decimal(spelling)
