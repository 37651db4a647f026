"""Turns `format` of a request into a grammar that allows compact JSON only.

A schema whose grammar allows free white space lets a weak model write tabs until its limit, so none is allowed
between the parts. The engine drops a grammar that it cannot read and generates freely; therefore every schema is
compiled here first, by the same library (llguidance), and refused with its reason. Size and depth are bounded before
native code sees them. An object with `properties` takes no others unless its schema says so, as with Ollama.
"""

from __future__ import annotations

import json
from typing import Any

from llguidance import LLMatcher

from daemon.embedded.ollama_errors import ApiError

MAX_SCHEMA_BYTES = 256 * 1024
MAX_SCHEMA_DEPTH = 48
_COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}

_MAPS = {"properties", "patternProperties", "$defs", "definitions"}  # keywords that hold schemas by name,
_LISTS = {"anyOf", "oneOf", "prefixItems"}  # in a list,
_PARTS = {"items", "additionalProperties"}  # and one schema


def of(wanted: Any) -> str | None:
    """The grammar for `format`: None, `"json"` (any object), or a JSON schema as an object.

    Raises ApiError(400) for anything else, for a schema that is too large or too deep, and for one that the engine
    cannot follow, with the reason.
    """
    if wanted is None or wanted == "":
        return None
    if wanted == "json":
        return _of_schema({"type": "object"})
    if not isinstance(wanted, dict):
        shown = json.dumps(wanted)[:80]
        raise ApiError(400, f'invalid format: {shown}; expected "json" or a valid JSON Schema object')
    return _of_schema(wanted)


def _of_schema(schema: dict[str, Any]) -> str:
    if _depth(schema) > MAX_SCHEMA_DEPTH:
        raise ApiError(400, f"invalid format: the schema is nested deeper than {MAX_SCHEMA_DEPTH} levels")
    text = json.dumps(_closed(schema) | {"x-guidance": _COMPACT})
    if len(text) > MAX_SCHEMA_BYTES:
        raise ApiError(400, f"invalid format: the schema is longer than {MAX_SCHEMA_BYTES} bytes")
    grammar = "%llguidance {}\nstart: %json " + text
    if complaint := LLMatcher.validate_grammar(grammar):
        raise ApiError(400, f"invalid format: {_reason(complaint)}")
    return grammar


def _closed(schema: Any) -> Any:
    """The schema with every object that lists its properties closed to others.

    Parts of an `allOf` stay open: each one sees the properties of the others.
    """
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    for name in _MAPS & closed.keys():
        if isinstance(closed[name], dict):
            closed[name] = {key: _closed(part) for key, part in closed[name].items()}
    for name in _LISTS & closed.keys():
        if isinstance(closed[name], list):
            closed[name] = [_closed(part) for part in closed[name]]
    for name in _PARTS & closed.keys():
        closed[name] = _closed(closed[name])
    if isinstance(closed.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed


def _reason(complaint: str) -> str:
    """The library's complaint as one line, without the grammar that it quotes."""
    told = complaint.split("\n   1 |", maxsplit=1)[0].removeprefix("at 2(8): ")
    return " ".join(told.split())


def _depth(value: Any) -> int:
    """How deep containers are nested, without recursion."""
    deepest, left = 0, [(value, 1)]
    while left:
        item, depth = left.pop()
        deepest = max(deepest, depth)
        children = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        left.extend((child, depth + 1) for child in children)
    return deepest
