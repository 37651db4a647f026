"""A reply's exact bytes."""

from __future__ import annotations

import email
import email.policy
import re
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.compose import compose, is_own_message_id, make_message_id
from tasks.errors import Permanent
from tasks.loops import no_reply_because
from tasks.models import Envelope, Kind, MailFacts

SECRET = b"s" * 32
USUAL: dict[str, Any] = {
    "job_id": "01hx0000000000000000000000",
    "ordinal": 0,
    "reply_text": "Dear Ann,\n\nthank you.\n",
    "reply_html": "",
    "subject": "Invoice 7",
    "sender": "Support <support@y.test>",
    "recipient": "ann@x.test",
    "facts": MailFacts(message_id="<7@x.test>", references=("<5@x.test>", "<6@x.test>")),
    "domain": "y.test",
    "secret": SECRET,
    "date_ms": 1_795_262_400_123,
}


def made(**changes: Any) -> tuple[str, bytes]:
    return compose(**(USUAL | changes))


def read(**changes: Any) -> EmailMessage:
    message = email.message_from_bytes(made(**changes)[1], policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def body(message: EmailMessage, subtype: str = "plain") -> str:
    part = message.get_body((subtype,))
    assert part is not None
    return str(part.get_content())


def test_whole_message() -> None:
    """A plain reply, byte for byte."""
    message_id, raw = made()
    assert re.fullmatch(r"<postroom\.01hx0{22}\.0\.[0-9a-f]{32}@y\.test>", message_id)
    assert raw.decode() == (
        "From: Support <support@y.test>\r\n"
        "To: ann@x.test\r\n"
        "Subject: Re: Invoice 7\r\n"
        "Date: Sat, 21 Nov 2026 12:00:00 +0000\r\n"
        f"Message-ID: {message_id}\r\n"
        "In-Reply-To: <7@x.test>\r\n"
        "References: <5@x.test>\r\n <6@x.test>\r\n <7@x.test>\r\n"
        "Auto-Submitted: auto-replied\r\n"
        "X-Auto-Response-Suppress: All\r\n"
        "X-Loop: support@y.test\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=us-ascii\r\n"
        "Content-Transfer-Encoding: 7bit\r\n"
        "\r\n"
        "Dear Ann,\r\n\r\nthank you.\r\n"
    )


def test_same_job_same_bytes() -> None:
    """Rendered again, it is the same to the last byte; another job, delivery or secret has another name."""
    html = {"reply_html": "<p>Grüße</p>"}
    assert made(**html) == made(**html)
    names = {made()[0], made(job_id="other")[0], made(ordinal=1)[0], made(secret=b"x" * 32)[0]}
    assert len(names) == 4


def test_html_is_an_alternative() -> None:
    """With HTML the message has both forms, the plain one first (RFC 2046 section 5.1.4)."""
    message = read(reply_text="Grüße\n", reply_html="<p>Grüße</p>\n")
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert body(message).rstrip() == "Grüße"
    assert body(message, "html").rstrip() == "<p>Grüße</p>"


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("Invoice", "Re: Invoice"),
        ("Re: Invoice", "Re: Invoice"),
        ("RE: AW: Re[2]: Sv : Invoice", "Re: Invoice"),
        ("Antw.: Invoice", "Re: Antw.: Invoice"),
        ("Region: north", "Re: Region: north"),
        ("", "Re:"),
        ("Rechnung für März – 12 €", "Re: Rechnung für März – 12 €"),
        ("a\r\nBcc: evil@x.test\x00\tb", "Re: a Bcc: evil@x.test b"),
        ("=?utf-8?q?evil?= x", "Re: =?utf-8?q?evil?= x"),
        ("x" * 300, "Re: " + "x" * 199 + "…"),
    ],
)
def test_subject(subject: str, expected: str) -> None:
    """`Re:` stands once, whatever the language; no line break gets through; the length is bounded."""
    message = read(subject=subject)
    assert message["Subject"] == expected
    assert message["Bcc"] is None


def test_threading() -> None:
    """The first and the last ones of a long thread are kept; In-Reply-To stands in for missing References."""
    long = tuple(f"<{number}@x.test>" for number in range(50))
    kept = read(facts=MailFacts(message_id="<m@x.test>", references=long))["References"].split()
    assert kept == ["<0@x.test>", *(f"<{number}@x.test>" for number in range(42, 50)), "<m@x.test>"]
    first = read(facts=MailFacts(message_id="<m@x.test>", in_reply_to="<l@x.test>"))
    assert first["References"].split() == ["<l@x.test>", "<m@x.test>"]


@pytest.mark.parametrize(
    "hostile", ["", "no brackets", "<a@x>\r\nBcc: b@x", "<a b@x>", "<" + "x" * 2000 + "@x>", "<ü@x>"]
)
def test_hostile_message_ids_are_left_out(hostile: str) -> None:
    """What is no Message-ID is neither answered to nor quoted in References."""
    none = read(facts=MailFacts(message_id=hostile))
    assert (none["In-Reply-To"], none["References"], none["Bcc"]) == (None, None, None)
    some = read(facts=MailFacts(message_id="<m@x.test>", references=(hostile,)))
    assert some["References"] == "<m@x.test>"


@pytest.mark.parametrize(
    ("sender", "name", "address"),
    [
        ("support@y.test", "", "support@y.test"),
        ("Support Team <support@y.test>", "Support Team", "support@y.test"),
        ('"Team, Support" <support@y.test>', "Team, Support", "support@y.test"),
        ("J. Müller <support@y.test>", "J. Müller", "support@y.test"),
        ("Support <support@büro.test>", "Support", "support@xn--bro-hoa.test"),
    ],
)
def test_sender(sender: str, name: str, address: str) -> None:
    """A name is quoted or encoded as it needs; X-Loop carries the bare address."""
    message = read(sender=sender)
    (author,) = message["From"].addresses
    assert (author.display_name, author.addr_spec) == (name, address)
    assert message["X-Loop"] == address


@pytest.mark.parametrize(
    "recipient",
    ["", "ann", "a@x.test, b@x.test", "a@x.test\r\nBcc: b@x.test", "Ann <a@x.test>", "a@@x", "a@x.test\n", "a b@x"],
)
def test_one_recipient_or_none(recipient: str) -> None:
    """Anything but one bare address is refused for good, in words."""
    with pytest.raises(Permanent, match=r"the recipient .* is no single mail address"):
        made(recipient=recipient)


def test_bad_sender() -> None:
    """A sender without an address is refused in words."""
    with pytest.raises(Permanent, match=r"the sender .* is no single mail address"):
        made(sender="Support")


def test_body_is_kept_whole() -> None:
    """Long lines, trailing blanks, tabs, dots and other letters come out as they went in."""
    text = "x" * 3000 + "\nends in blank \n\ttab\n.\n..\nFrom here\n=3D\nÄ€😀\n\n\nlast"
    assert body(read(reply_text=text)).replace("\r\n", "\n").rstrip("\n") == text


@given(st.text(max_size=400), st.text(max_size=400), st.text(max_size=100))
def test_any_words_give_a_safe_message(text: str, html: str, subject: str) -> None:
    """Whatever template and model write: 7-bit, CRLF only, lines of at most 998 bytes, the same words again."""
    message_id, raw = made(reply_text=text, reply_html=html, subject=subject)
    assert raw.isascii()
    assert raw.count(b"\n") == raw.count(b"\r") == raw.count(b"\r\n")
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert raw.endswith(b"\r\n")
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert message["Message-ID"] == message_id
    assert message["To"] == "ann@x.test"
    assert set(message.keys()) <= {
        "From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted",
        "X-Auto-Response-Suppress", "X-Loop", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
    }  # fmt: skip
    part = message.get_body(("plain",))
    assert part is not None
    decoded = (part.get_payload(decode=True) or b"").decode()
    wanted = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").encode("utf-8", "replace").decode()
    assert decoded.replace("\r\n", "\n").rstrip("\n") == wanted


def test_own_message_ids_are_recognised() -> None:
    """Only who knows the secret can make a Message-ID that counts as ours."""
    message_id = make_message_id("01hx", 3, "y.test", SECRET)
    assert is_own_message_id(message_id, "Y.test", SECRET)
    assert is_own_message_id(f" {message_id} ", "y.test", SECRET)
    for wrong in (
        message_id.replace(".3.", ".4."),
        message_id.replace("01hx", "01hy"),
        "<a@y.test>",
        "",
        message_id[1:],
    ):
        assert not is_own_message_id(wrong, "y.test", SECRET)
    assert not is_own_message_id(message_id, "z.test", SECRET)
    assert not is_own_message_id(message_id, "y.test", b"other")


def test_another_responder_stays_silent() -> None:
    """Our own rules would not answer what we send: two Postrooms never talk to each other."""
    message = read()
    headers = {name.lower(): [str(value)] for name, value in message.items()}
    envelope = Envelope(source="smtp", kind=Kind.MAIL, key="k", sender="", recipients=("ann@x.test",))
    facts = MailFacts(from_address="support@y.test", to=("ann@x.test",), message_id=str(message["Message-ID"]))
    for sender in ("", "bounces@y.test"):
        assert no_reply_because(headers, envelope.model_copy(update={"sender": sender}), facts, frozenset())
