"""Recognising a mail that comes again, and looking at a header without a parser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.authres import dmarc_of, trusted
from tasks.mailhead import HEAD_LIMIT, MOST_FIELDS, body_offset, fields, first, sender_of, thread_of
from tasks.mailkey import mail_key

MAIL = b"From: a@x.test\r\nMessage-ID: <1@x.test>\r\nSubject: hello\r\n\r\nDear team\r\n"
NAMELESS = b"From: door@x.test\r\nSubject: alarm\r\n\r\nopen\r\n"
TRACE = [
    b"Received: from a by b; Sat, 21 Nov 2026 12:00:00 +0000\r\n",
    b"RECEIVED: from a\r\n\tby b;\r\n Sat, 21 Nov 2026 12:00:00 +0000\r\n",
    b"Return-Path: <a@x.test>\r\n",
    b"Delivered-To: support@y.test\r\n",
    b"X-Received: by 10.0.0.1\r\n",
    b"ARC-Seal: i=1; a=rsa-sha256\r\n",
    b"ARC-Authentication-Results: i=1; mx\r\n",
    b"Authentication-Results: mx.y.test; dmarc=pass\r\n",
    b"X-Spam-Status: No\r\n",
]


@pytest.mark.parametrize("trace", TRACE)
def test_trace_fields_do_not_matter(trace: bytes) -> None:
    """What mail servers add on the way does not make it another mail."""
    assert mail_key(trace + MAIL) == mail_key(MAIL)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Dear team", b"Dear Team"),
        (b"Subject: hello", b"Subject: hello!"),
        (b"From: a@", b"From: b@"),
        (b"<1@x.test>", b"<2@x.test>"),
        (b"team\r\n", b"team\r\n\r\n"),
        (b"Subject", b"X-Mark: 1\r\nSubject"),
        (b"\r\n\r\n", b"\r\n\r\nReceived: from nowhere\r\n\r\n"),
    ],
)
def test_everything_else_matters(old: bytes, new: bytes) -> None:
    """Any other difference makes it another mail, whatever its Message-ID says."""
    assert mail_key(MAIL.replace(old, new)) != mail_key(MAIL)


@pytest.mark.parametrize("trace", TRACE[:5])
def test_without_message_id_trace_fields_matter(trace: bytes) -> None:
    """Two alarms of a device that writes neither Message-ID nor date differ only in the relay's line: both count."""
    assert mail_key(trace + NAMELESS) != mail_key(NAMELESS)
    assert mail_key(trace + NAMELESS) == mail_key(trace + NAMELESS)


def test_key_shows_the_message_id() -> None:
    """An admin finds a mail by its Message-ID in the key."""
    assert mail_key(MAIL).startswith("<1@x.test> ")
    assert mail_key(MAIL.replace(b"Message-ID:", b"message-id:\r\n ")).startswith("<1@x.test> ")


@given(st.binary(max_size=300), st.sampled_from([b"", b"Message-ID: ", b"From: ", b"Return-Path: <", b"\r\n\r\n"]))
def test_any_bytes_have_a_bounded_key(noise: bytes, head: bytes) -> None:
    """Whatever the bytes, there is a printable key of bounded length, and no look at the header raises."""
    raw = head + noise
    key = mail_key(raw)
    assert key.isascii()
    assert key.isprintable()
    assert 64 <= len(key) <= 320
    assert sender_of(raw).isprintable()
    assert trusted(raw, "mx") in ({}, {"authentication-results": trusted(raw, "mx").get("authentication-results")})
    assert b"".join(field for _, field in fields(raw)) == raw[: body_offset(raw)]  # so short, it has few fields


def test_hostile_message_id_stays_out() -> None:
    """A Message-ID that is endless or no identifier is not part of the key; the hash still tells mails apart."""
    for value in (b"<" + b"x" * 5000 + b"@x>", b"none", b"<a b@x>", b"<\xff@x>"):
        assert " " not in mail_key(b"Message-ID: " + value + b"\r\n\r\nbody\r\n")


def test_header_without_end_is_bounded() -> None:
    """A header that never ends is looked at only so far."""
    raw = b"X: y\r\n" * 500_000
    assert body_offset(raw) == HEAD_LIMIT
    assert len(list(fields(raw))) == MOST_FIELDS
    assert len(mail_key(raw)) == 64
    assert mail_key(raw) != mail_key(raw + b"z")


def test_too_many_fields_are_the_same_mail_still() -> None:
    """A trace field on top of more fields than are looked at does not make it another mail."""
    raw = b"Message-ID: <1@x.test>\r\n" + b"X: y\r\n" * 5_000 + b"\r\nbody\r\n"
    assert mail_key(b"Received: from a by b\r\n" + raw) == mail_key(raw)


@pytest.mark.parametrize(
    ("head", "sender"),
    [
        (b"Return-Path: <bounce@x.test>\r\nFrom: a@x.test\r\n", "bounce@x.test"),
        (b"Return-Path: bounce@x.test\r\n", "bounce@x.test"),
        (b"Return-Path: <>\r\nFrom: a@x.test\r\n", ""),
        (b"From: Ann <ann@x.test>\r\n", "ann@x.test"),
        (b'From: "evil <fake@z.test>" <ann@x.test>\r\n', "ann@x.test"),
        (b"From: ann@x.test (Ann)\r\n", "ann@x.test"),
        (b"From: =?utf-8?q?=C3=84nn?=\r\n <ann@x.test>\r\n", "ann@x.test"),
        (b"From: \xc3\xa4nn@x.test\r\n", "änn@x.test"),
        (b"From: nobody\r\n", ""),
        (b"Subject: x\r\n", ""),
        (b"From: <ann@x.test\x00\x1b[2J>\r\n", "ann@x.test[2J"),
    ],
)
def test_sender(head: bytes, sender: str) -> None:
    """Return-Path counts, even when it is <>; From only without it."""
    assert sender_of(head + b"\r\nFrom: body@x.test\r\n") == sender


@pytest.mark.parametrize(
    ("head", "thread"),
    [
        (b"Message-ID: <a@x>\r\n", "a@x"),
        (b"Message-ID: <c@x>\r\nIn-Reply-To: <b@x>\r\nReferences: <a@x>\r\n <b@x>\r\n", "a@x"),
        (b"Message-ID: <c@x>\r\nIn-Reply-To: Your mail of today <b@x>\r\n", "b@x"),
        (b"Message-ID: <c@x>\r\nReferences: none\r\nIn-Reply-To: \r\n", "c@x"),
        (b"message-id:\r\n <a\r\n @x>\r\n", "a@x"),
        (b"Subject: nothing\r\n", ""),
        (b"Message-ID: <>\r\n", ""),
    ],
)
def test_a_mail_knows_what_its_conversation_began_with(head: bytes, thread: str) -> None:
    """The same for every mail of a conversation, from whichever field tells it."""
    assert thread_of(head + b"\r\nbody <no@x>") == thread


def test_first_field_unfolds_and_cuts() -> None:
    """The topmost field of a name is unfolded; only so much of it is looked at."""
    assert first(b"A: 1\r\n 2\r\n\t3\r\nA: 4\r\n\r\n", b"a") == b"1 2 3"
    assert first(b"A: 1\r\n\r\nB: 2\r\n", b"b") is None
    assert len(first(b"A: " + b"x" * 20_000 + b"\r\n\r\n", b"a") or b"") < 8_200


FAILS = b"Authentication-Results: MX.y.test 1; spf=pass; dmarc=fail (p=none) header.from=x.test\r\n"
UNNAMED = b"Authentication-Results: spf=pass (sender IP is 1.2.3.4); dmarc=fail action=none\r\n"


@pytest.mark.parametrize(
    ("head", "authserv_id", "dmarc"),
    [
        (FAILS, "mx.y.test", "fail"),
        (FAILS, "", ""),
        (FAILS, "other.test", ""),
        (FAILS, "m365", ""),
        (UNNAMED, "m365", "fail"),
        (UNNAMED, "mx.y.test", ""),
        (b"Authentication-Results: evil.test; dmarc=pass\r\n" + FAILS, "mx.y.test", ""),
        (b"Authentication-Results: mx.y.test; dmarc=none (dmarc=fail)\r\n", "mx.y.test", "none"),
        (b"Authentication-Results: mx.y.test; none\r\n", "mx.y.test", ""),
    ],
)
def test_only_our_servers_topmost_field_is_trusted(head: bytes, authserv_id: str, dmarc: str) -> None:
    """An Authentication-Results field is believed when it is the topmost and the named server's (RFC 8601)."""
    assert dmarc_of(trusted(head + MAIL, authserv_id).get("authentication-results", "")) == dmarc
