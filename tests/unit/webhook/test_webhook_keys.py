"""Where a sender's key for a webhook is found, and what is no key."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.listeners.webhook_keys import MAX_KEY, KeyFinder, NoKey


def test_the_first_place_that_holds_a_key_counts() -> None:
    """Places are asked in order."""
    finder = KeyFinder(("header:x-first", "json:$.id", "body"))
    body = b'{"id": "in-body"}'
    assert finder.find({"x-first": "in-header"}, body) == "in-header"
    assert finder.find({}, body) == "in-body"
    assert finder.find({}, b"{}") == "sha256:" + hashlib.sha256(b"{}").hexdigest()


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ('"8e03978e-40d5"', "8e03978e-40d5"),  # the form of draft-ietf-httpapi-idempotency-key-header
        ("8e03978e-40d5", "8e03978e-40d5"),
        (r'"a \"quoted\" \\ one"', r'a "quoted" \ one'),
        ('"half', '"half'),
        ('  "a" ', "a"),
    ],
)
def test_an_idempotency_key_is_a_structured_string_or_plain(sent: str, meant: str) -> None:
    """With quotes (RFC 8941) and without, the key is the same."""
    assert KeyFinder(("header:idempotency-key",)).find({"idempotency-key": sent}, b"") == meant


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("$.event.id", {"event": {"id": "evt_1"}}, "evt_1"),
        ("$.items[1].id", {"items": [{"id": 1}, {"id": 22}]}, "22"),
        ("$..id", {"a": {"id": "deep"}}, "deep"),
    ],
)
def test_a_json_path_finds_text_and_whole_numbers(path: str, body: object, key: str) -> None:
    """The value at the path is the key."""
    assert KeyFinder((f"json:{path}",)).find({}, json.dumps(body).encode()) == key


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b"null",
        b'{"id": null}',
        b'{"id": ""}',
        b'{"id": {"a": 1}}',
        b'{"id": true}',
        b'{"id": 1.5}',
        b"[" * 100_000,
        b'{"id": "' + b"x" * 300 + b'"}',
        b'{"id": "a\\u0000b"}',
        b'{"id": "\\ud800"}',
    ],
)
def test_what_is_no_key_is_missing(body: bytes) -> None:
    """Broken JSON, other types, too long or unprintable text: NoKey, and never another error."""
    with pytest.raises(NoKey):
        KeyFinder(("json:$.id",)).find({}, body)


def test_a_key_has_a_greatest_length() -> None:
    """Longer keys could not be stored; they are refused rather than cut, because cut ones could be equal."""
    finder = KeyFinder(("header:x",))
    assert len(finder.find({"x": "k" * MAX_KEY}, b"")) == MAX_KEY
    with pytest.raises(NoKey, match="at most 255"):
        finder.find({"x": "k" * (MAX_KEY + 1)}, b"")


@given(st.binary(max_size=200), st.sampled_from(["$.id", "$..id", "$.a[0]", "$.a.*", "$[*].id"]))
def test_no_body_makes_the_finder_fail_otherwise(body: bytes, path: str) -> None:
    """A key is found, or NoKey is raised; a key that is found can be stored."""
    try:
        key = KeyFinder((f"json:{path}",)).find({}, body)
    except NoKey:
        return
    assert 0 < len(key) <= MAX_KEY
    assert key.isprintable()
