"""An event's body as data, and paths into it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.events import EventDocument, EventSpec
from tasks.events.mapping import parts_of, subject_of, urls_of
from tasks.events.paths import MAX_VALUES, event_of, find

JSON = "application/json"
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcde"), inner, max_size=4),
    max_leaves=20,
)
paths = st.sampled_from(
    [
        "$",
        "$.a",
        "$.a[*]",
        "$.a[0]",
        "$..b",
        "$.*",
        "$..*",
        "$.a.b.c",
        "$[1:]",
        "`parent`",
        "$.a.`parent`",
        "a,b",
        "$[-1]",
    ]
)


def test_numbers_stay_as_they_were_written() -> None:
    """A total of 120.00 is no 120.0; whole numbers are whole."""
    assert event_of(JSON, b'{"total": 120.00, "n": 7}') == {"total": Decimal("120.00"), "n": 7}
    assert str(event_of(JSON, b"[120.00]")[0]) == "120.00"


def test_a_number_with_an_exponent_does_not_fill_the_memory() -> None:
    """1e999999999 as a decimal has a billion digits when somebody makes it whole."""
    assert event_of(JSON, b"[1e999999999, 2e3]") == [float("inf"), 2000.0]


def test_a_form_is_an_object_of_its_fields() -> None:
    """A field that comes twice is a list."""
    raw = b"type=order&item=a&item=b&note="
    form = "application/x-www-form-urlencoded; charset=utf-8"
    assert event_of(form, raw) == {"type": "order", "item": ["a", "b"], "note": ""}


@pytest.mark.parametrize(
    "raw",
    [b"", b"no json", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": 1', b"%PDF-1.7", b"[" + b"9" * 5000 + b"]"],
    ids=["nothing", "text", "bytes", "deep", "cut", "pdf", "digits"],
)
def test_what_is_no_event_is_none(raw: bytes) -> None:
    """Bodies of any sort come in; none of them is an error."""
    assert event_of(JSON, raw) is None


def test_an_event_with_too_many_values_is_not_taken_apart() -> None:
    """Millions of empty lists would cost a hundred times their size; commas inside strings count for nothing."""
    assert event_of(JSON, b"[" + b"[]," * MAX_VALUES + b"0]") is None
    text = "," * (MAX_VALUES + 1)
    assert event_of(JSON, json.dumps({"csv": text}).encode()) == {"csv": text}


def test_half_a_surrogate_pair_becomes_a_replacement() -> None:
    """It could neither be encoded nor stored; whole pairs and escaped backslashes stay."""
    raw = rb'["\ud83d\ude00", "a\ud83d", "\udc00b", "\\ud83d"]'
    assert event_of(JSON, raw) == ["\U0001f600", "a\ufffd", "\ufffdb", "\\ud83d"]


def test_a_path_that_does_not_fit_finds_nothing() -> None:
    """Wrong types, missing members, and the parent of the root."""
    assert find("$.a[0].b", {"a": 5}) == []
    assert find("`parent`", {"a": 5}) == []
    assert find("$.a[*].b", {"a": [{"b": 1}, {}, None, {"b": None}]}) == [1, None]


def test_a_deep_event_is_searched_without_a_crash() -> None:
    """A few hundred levels pass the JSON parser and would be too much for a path that goes down them all."""
    raw = b'{"a":' * 900 + b"1" + b"}" * 900
    assert isinstance(find("$..a", event_of(JSON, raw)), list)


@given(values, paths, paths, paths)
def test_any_path_into_any_event_ends_well(event: Any, each: str, content: str, name: str) -> None:
    """Whatever stands there, the documents have text or nothing for names, and URLs are text."""
    raw = json.dumps(event).encode()
    read = event_of(JSON, raw)
    for form in ("base64", "url", "text"):
        spec = EventSpec(
            subject=name, documents=(EventDocument.model_validate({"each": each, form: content, "name": name}),)
        )
        parts = parts_of(spec, read)
        assert len(parts.taken) <= 100
        assert all(isinstance(part.name, str) and part.content not in (None, "") for part in parts.taken)
        assert all(isinstance(url, str) for url in urls_of(spec, read))
        assert "\n" not in subject_of(spec, read)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_none(raw: bytes) -> None:
    """Nothing that can be posted raises."""
    event_of(JSON, raw)
    event_of("application/x-www-form-urlencoded", raw)


def test_names_stand_beside_their_contents() -> None:
    """As many names as contents: one each. One name for several: all share it. Other numbers: none."""
    document = EventDocument(url="$.u[*]", name="$.n[*]")
    for names, wanted in ((["a", "b"], ["a", "b"]), (["a"], ["a", "a"]), (["a", "b", "c"], ["", ""]), ([], ["", ""])):
        parts = parts_of(EventSpec(documents=(document,)), {"u": ["x", "y"], "n": names})
        assert [part.name for part in parts.taken] == wanted


def test_a_hundred_documents_are_taken_and_more_are_told() -> None:
    """The bound on one event."""
    spec = EventSpec(documents=(EventDocument(each="$[*]", text="$.t"),))
    assert not parts_of(spec, [{"t": "x"}] * 100).more
    parts = parts_of(spec, [{"t": "x"}] * 101)
    assert (len(parts.taken), parts.more) == (100, True)


def test_a_subject_is_one_printable_line() -> None:
    """Numbers count, objects do not; control characters and directions of writing go."""
    spec = EventSpec(subject="$..title")
    assert subject_of(spec, {"a": {"title": {"x": 1}}, "b": {"title": "Bill\r\n\u202e 7\0"}}) == "Bill 7"
    assert subject_of(spec, {"title": 12}) == "12"
    assert subject_of(spec, {}) == ""
    assert len(subject_of(spec, {"title": "x" * 9999})) == 300
