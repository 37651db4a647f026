"""`format` of a request: what a grammar lets through, and what is refused before the engine sees it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from daemon.embedded import grammar
from daemon.embedded.ollama_errors import ApiError

INVOICE = {
    "type": "object",
    "properties": {
        "number": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,4}$"},
        "total": {"type": "number"},
        "due": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        "label": {"enum": ["invoice", "other"]},
    },
    "required": ["number", "total", "due", "label"],
}


def follows(text: str, wanted: Any) -> bool:
    """Whether the grammar for `wanted` lets the whole text through and can end after it."""
    made = grammar.of(wanted)
    assert made is not None
    matcher = LLMatcher(LLTokenizer("byte"), made)
    assert not matcher.is_error(), matcher.get_error()
    data = list(text.encode())
    return matcher.validate_tokens(data) == len(data) and matcher.consume_tokens(data) and matcher.is_accepting()


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_format_is_no_grammar(nothing: str | None) -> None:
    """Without a format the model writes freely."""
    assert grammar.of(nothing) is None


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ('{"number":"RE-17","total":12.5,"due":"2026-03-01","label":"invoice"}', True),
        ('{"number":"RE-17","total":12.5,"due":null,"label":"other"}', True),
        ('{"number":"RE-17", "total":12.5,"due":null,"label":"other"}', False),
        ('{"number":"RE-17","total":12.5,"due":null,\n\t\t"label":"other"}', False),
        ('{"number": "RE-17","total":12.5,"due":null,"label":"other"}', False),
        (' {"number":"RE-17","total":12.5,"due":null,"label":"other"}', False),
        ('{"number":"re-17","total":12.5,"due":null,"label":"other"}', False),
        ('{"number":"RE-17","total":"12.5","due":null,"label":"other"}', False),
        ('{"number":"RE-17","total":12.5,"due":"soon","label":"other"}', False),
        ('{"number":"RE-17","total":12.5,"due":null,"label":"spam"}', False),
        ('{"number":"RE-17","total":12.5,"due":null}', False),
        ('{"number":"RE-17","total":12.5,"due":null,"label":"other","more":1}', False),
    ],
)
def test_schema_is_followed_compactly(text: str, right: bool) -> None:
    """Only values of the schema pass, in its order, with all that is required, nothing more, and no white space."""
    assert follows(text, INVOICE) is right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ('{"a":[1,{"b":"c d\\n"}],"e":null}', True),
        ("{}", True),
        ("[1]", False),
        ('{"a": 1}', False),
        ('{"a":1}\t', False),
        ('{"a":1', False),
    ],
)
def test_json_is_any_compact_object(text: str, right: bool) -> None:
    """`"json"` allows any object, with white space only inside strings."""
    assert follows(text, "json") is right


TEXT = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_every_compact_object_passes_as_json(value: dict[str, Any]) -> None:
    """What json.dumps writes compactly, with letters as they are, is allowed, whatever the object."""
    assert follows(json.dumps(value, separators=(",", ":"), ensure_ascii=False), "json")


def test_nested_objects_and_references_are_closed() -> None:
    """Objects below `$defs`, in lists and in choices take no property that they do not list."""
    item = {"type": "object", "properties": {"sku": {"type": "string"}}, "required": ["sku"]}
    schema = {
        "$defs": {"item": item},
        "type": "object",
        "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/item"}}},
        "required": ["items"],
    }
    assert follows('{"items":[{"sku":"x"}]}', schema)
    assert not follows('{"items":[{"sku":"x","y":1}]}', schema)


def test_schema_may_open_its_objects() -> None:
    """`additionalProperties` of the schema counts where it is given."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}}
    assert follows('{"a":1,"b":"c"}', schema)


def test_property_named_like_a_keyword_is_a_property() -> None:
    """A property called `properties` or `items` is not taken for the keyword."""
    schema = {
        "type": "object",
        "properties": {"properties": {"type": "integer"}, "items": {"type": "string"}},
        "required": ["properties", "items"],
    }
    assert follows('{"properties":1,"items":"x"}', schema)


def test_parts_of_all_of_stay_open_to_each_other() -> None:
    """Two parts of an allOf each see the other's properties."""
    schema = {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]},
        ]
    }
    assert follows('{"a":1,"b":2}', schema)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("xml", r'invalid format: "xml"; expected "json" or a valid JSON Schema object'),
        ([], r"invalid format: \[\]; expected"),
        (5, "invalid format: 5; expected"),
        ({"type": "objekt"}, "invalid format: failed to compile JSON schema: Invalid type: objekt$"),
        ({"type": "string", "pattern": "("}, "unclosed group"),
        ({"type": "string", "pattern": "(?=x)y"}, "look-around.*not supported"),
        ({"$ref": "#/nowhere"}, "'/nowhere' does not exist"),
        ({"$ref": "file:///etc/passwd"}, "does not fetch"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum .5. is greater than maximum .3."),
        ({"type": "array", "uniqueItems": True}, "Unimplemented keys.*uniqueItems"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_its_reason(wanted: Any, reason: str) -> None:
    """A wrong format is a 400 that says why in one line, never free text in silence."""
    with pytest.raises(ApiError, match=reason) as caught:
        grammar.of(wanted)
    assert caught.value.status == 400
    assert "\n" not in caught.value.message


def test_size_and_depth_are_bounded() -> None:
    """A schema that is too deep or too long is refused before native code reads it."""
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(100_000):
        deep = {"type": "array", "items": deep}
    with pytest.raises(ApiError, match="nested deeper than 48 levels"):
        grammar.of(deep)
    with pytest.raises(ApiError, match="longer than 262144 bytes"):
        grammar.of({"enum": ["x" * 300_000]})
