"""Files inside an event."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import Unreadable
from tasks.events import encoded
from tasks.events.encoded import decode

ROOM = 1 << 20
BYTES = bytes(range(256))


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(BYTES).decode(),
        base64.b64encode(BYTES).decode().rstrip("="),
        base64.encodebytes(BYTES).decode(),
        base64.encodebytes(BYTES).decode().replace("\n", "\r\n  "),
        base64.urlsafe_b64encode(BYTES).decode(),
        base64.urlsafe_b64encode(BYTES).decode().rstrip("="),
    ],
    ids=["plain", "no padding", "lines", "CRLF", "URL-safe", "URL-safe, no padding"],
)
def test_the_forms_that_senders_use(text: str) -> None:
    """White space, both alphabets, with and without padding."""
    assert decode(text, ROOM) == (BYTES, "")


@pytest.mark.parametrize(
    ("url", "data", "claimed"),
    [
        ("data:application/pdf;base64,JVBERg==", b"%PDF", "application/pdf"),
        ("DATA:text/plain;charset=utf-8;BASE64,aGk", b"hi", "text/plain;charset=utf-8"),
        ("data:text/plain,hello%20you", b"hello you", "text/plain"),
        ("data:,x", b"x", ""),
    ],
)
def test_data_urls_tell_their_type(url: str, data: bytes, claimed: str) -> None:
    """RFC 2397, with base64 and without."""
    assert decode(url, ROOM) == (data, claimed)


@pytest.mark.parametrize("text", ["abc!", "a", "QQ==QQ==", "=QQ", "\u00e4\u00f6", "data:x;base64,a*b", "https://h/x"])
def test_what_is_no_base64_is_said(text: str) -> None:
    """Strict where a letter is wrong: half a file is no file."""
    with pytest.raises(Unreadable, match="not base64"):
        decode(text, ROOM)


@pytest.mark.parametrize("value", [5, {"a": 1}, [1], True])
def test_a_value_that_is_no_text_is_said(value: object) -> None:
    """A path that leads to a number or an object."""
    with pytest.raises(Unreadable, match="no text in its place"):
        decode(value, ROOM)


def test_sizes_are_bounded_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """One file, and all of an event together."""
    monkeypatch.setattr(encoded, "MAX_BYTES", 100)
    assert len(decode("A" * 132, ROOM)[0]) == 99
    for large in ("A" * 140, "data:," + "x" * 400, "data:," + "x" * 101):
        with pytest.raises(Unreadable, match="larger than 100 bytes"):
            decode(large, ROOM)
    with pytest.raises(Unreadable, match="too large together"):
        decode("A" * 40, 20)


@given(st.binary(max_size=300))
def test_what_was_encoded_comes_back(data: bytes) -> None:
    """In either alphabet."""
    assert decode(base64.b64encode(data).decode(), ROOM)[0] == data
    assert decode(base64.urlsafe_b64encode(data).decode().rstrip("="), ROOM)[0] == data


@given(st.text(max_size=60))
def test_any_text_is_decoded_or_refused(text: str) -> None:
    """Nothing else comes out of it."""
    with contextlib.suppress(Unreadable):
        assert isinstance(decode(text, ROOM)[0], bytes)
