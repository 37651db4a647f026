"""Header values as senders write them (tasks/readers/headers.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.readers.headers import addresses, from_base64, header_text, parameters


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("=?utf-8?Q?Fr=C3=B6sche?=", "Frösche"),
        ("=?iso-8859-1?q?Fr=F6sche?= =?iso-8859-1?q?_und?= Hasen", "Frösche und Hasen"),
        ("=?utf-8?B?w6Q=?=", "ä"),
        ("=?utf-8?B?w6Q?=", "ä"),
        ("=?UTF-8?B?4oKs4oI=?= =?UTF-8?B?rA==?=", "€€"),
        ("=?utf-8*de?Q?hallo?=", "hallo"),
        ("=?no-such-charset?Q?plain?=", "plain"),
        ("=?utf-8?Q?with spaces inside?=", "with spaces inside"),
        ("=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
        ("plain", "plain"),
        ("folded\r\n  over lines", "folded over lines"),
        ("a =?utf-8?Q?b?= c", "a b c"),
        ("=?iso-8859-1?Q?raw_\udcf6?=", "raw ö"),
        ("raw \udcc3\udcb6", "raw ö"),
        ("raw \udcf6", "raw ö"),
    ],
)
def test_encoded_words(value: str, text: str) -> None:
    """RFC 2047 words, and what senders make of them, come out as text."""
    assert header_text(value) == text


@pytest.mark.parametrize(
    ("value", "main", "found"),
    [
        ("text/plain; charset=utf-8", "text/plain", {"charset": "utf-8"}),
        ('attachment; filename="a;b.txt"', "attachment", {"filename": "a;b.txt"}),
        ("attachment; filename*=utf-8''M%C3%A4rz.pdf", "attachment", {"filename": "März.pdf"}),
        ("attachment; filename*0*=iso-8859-1'de'M%E4; filename*1=rz.pdf", "attachment", {"filename": "März.pdf"}),
        ("a; filename*1=def; filename*0=abc", "a", {"filename": "abcdef"}),
        ("a; filename=plain.txt; filename*=utf-8''b%C3%A4r.txt", "a", {"filename": "bär.txt"}),
        ('a; name="unclosed', "a", {"name": "unclosed"}),
        ('a; name="q\\"uote"', "a", {"name": 'q"uote'}),
        ("TEXT/HTML", "text/html", {}),
        ("", "", {}),
    ],
)
def test_parameters(value: str, main: str, found: dict[str, str]) -> None:
    """RFC 2231 parameters: continued, percent-encoded, quoted, or plainly wrong."""
    assert parameters(value) == (main, found)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("a@example.org", [("", "a@example.org")]),
        ('"Müller, A." <a@example.org>', [("Müller, A.", "a@example.org")]),
        ("=?utf-8?Q?M=C3=BCller=2C_A=2E?= <a@example.org>", [("Müller, A.", "a@example.org")]),
        ("a@x.org, B <b@x.org>", [("", "a@x.org"), ("B", "b@x.org")]),
        ("undisclosed-recipients:;", []),
    ],
)
def test_addresses(value: str, found: list[tuple[str, str]]) -> None:
    """Mailboxes are parsed before their names are decoded, so that a decoded comma parts nothing."""
    assert addresses(value) == found


@given(st.binary(max_size=400))
def test_no_header_value_raises(value: bytes) -> None:
    """Any bytes whatever give text without lone surrogates."""
    text = value.decode("ascii", "surrogateescape")
    header_text(text).encode("utf-8")
    parameters(text)
    addresses(text)


@given(st.binary(max_size=300))
def test_base64_never_raises(value: bytes) -> None:
    """Damaged base64 is decoded as far as it goes."""
    assert len(from_base64(value)) <= len(value)
