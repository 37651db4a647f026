"""A reply's words -> the exact bytes of an RFC 5322 message.

The same job always gives the same bytes: Message-ID, date and MIME boundary come from the job, never from time or
chance, so that a reply that is sent twice is recognised as one by whoever receives it. Everything is 7-bit. Header
values may come from strangers; no line break or control character of theirs reaches the header.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.header import Header
from email.utils import format_datetime, parseaddr

from tasks.errors import Permanent
from tasks.loops import OUR_MESSAGE_ID
from tasks.models import MailFacts

SUBJECT_LIMIT = 200
"""Characters of the subject that is answered."""
REFERENCES_LIMIT = 10
"""Message-IDs in References; the first and the last ones are kept."""

_TOKEN_LENGTH = 32
_ID = re.compile(r"<[!-;=?-~]{1,250}>")
_OURS = re.compile(r"<postroom\.([a-z0-9-]{1,64})\.(\d{1,9})\.([0-9a-f]{32})@([^<>@\s]+)>")
_REPLY_PREFIX = re.compile(
    r"\s*(?:re|aw|antw|sv|rv|ref|vs)\s*(?:\[\d{1,3}\]|\(\d{1,3}\))?\s*[:\uff1a]\s*", re.IGNORECASE
)
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\U0010ffff-]+")
_ADDRESS = re.compile(r'(?:[^\s"<>()\[\]:;,\\@]+|"[^"\\\x00-\x1f\x7f]*")@[^\s"<>()\[\]:;,\\@]+')


def compose(
    *,
    job_id: str,
    ordinal: int,
    reply_text: str,
    reply_html: str,
    subject: str,
    sender: str,
    recipient: str,
    facts: MailFacts,
    domain: str,
    secret: bytes,
    date_ms: int,
) -> tuple[str, bytes]:
    """The reply's Message-ID, with angle brackets, and its bytes with CRLF line ends.

    `subject` is the subject that is answered, with or without `Re:`; `sender` is an address with or without a name;
    `recipient` is one address; `facts` tells what is answered (RFC 5322 section 3.6.4); `date_ms` is milliseconds since
    the epoch. Raises Permanent when sender or recipient is no single address.
    """
    message_id = make_message_id(job_id, ordinal, domain, secret)
    head = _head(sender, recipient, _subject(subject), date_ms, message_id, _threading(facts), "auto-replied")
    return message_id, head + _content(reply_text, reply_html, message_id)


def announce(
    *,
    job_id: str,
    ordinal: int,
    text: str,
    subject: str,
    sender: str,
    recipient: str,
    domain: str,
    secret: bytes,
    date_ms: int,
) -> tuple[str, bytes]:
    """Message-ID and bytes of a plain mail that answers nothing, as `compose` makes them of a reply.

    It is marked as written by a machine (RFC 3834 section 5), so that no machine answers it. Raises Permanent.
    """
    message_id = make_message_id(job_id, ordinal, domain, secret)
    told = _encoded(_shortened(subject), len("Subject: "))
    return message_id, _head(sender, recipient, told, date_ms, message_id, (), "auto-generated") + _part("plain", text)


def _head(
    sender: str,
    recipient: str,
    subject: str,
    date_ms: int,
    message_id: str,
    threading: Iterable[tuple[str, str]],
    submitted: str,
) -> bytes:
    """The header, but for the content's own fields. `subject` is encoded already."""
    own = _address(parseaddr(_flat(sender))[1], "sender")
    header = [
        ("From", _mailbox(sender)),
        ("To", _address(recipient, "recipient")),
        ("Subject", subject),
        ("Date", format_datetime(datetime.fromtimestamp(date_ms // 1000, UTC))),
        ("Message-ID", message_id),
        *threading,
        ("Auto-Submitted", submitted),
        ("X-Auto-Response-Suppress", "All"),
        ("X-Loop", own),
        ("MIME-Version", "1.0"),
    ]
    return b"".join(f"{name}: {_folded(value)}\r\n".encode("utf-8", "replace") for name, value in header)


def make_message_id(job_id: str, ordinal: int, domain: str, secret: bytes) -> str:
    """`<postroom.JOB.ORDINAL.TOKEN@DOMAIN>`; the token is an HMAC, so that nobody else can make one."""
    return f"<{OUR_MESSAGE_ID}{job_id}.{ordinal}.{_token(job_id, ordinal, secret)}@{domain}>"


def is_own_message_id(message_id: str, domain: str, secret: bytes) -> bool:
    """Whether a Message-ID (with angle brackets) was made by us, with this secret."""
    found = _OURS.fullmatch(message_id.strip())
    if found is None or found[4].lower() != domain.lower():
        return False
    return hmac.compare_digest(found[3], _token(found[1], int(found[2]), secret))


def _token(job_id: str, ordinal: int, secret: bytes) -> str:
    return hmac.new(secret, f"message-id:{job_id}:{ordinal}".encode(), hashlib.sha256).hexdigest()[:_TOKEN_LENGTH]


def _flat(value: str) -> str:
    """A header value on one line: line breaks and control characters become spaces."""
    return "".join(one if one.isprintable() else " " for one in value)


def _folded(value: str) -> str:
    """The last guard of the header: no line break but those that fold."""
    return "\r\n ".join(map(_flat, value.split("\r\n ")))


def _address(address: str, what: str) -> str:
    """One bare address; a domain with other letters in its ASCII form (RFC 3490)."""
    if not _ADDRESS.fullmatch(address) or not address.isprintable() or len(address.encode()) > 320:
        raise Permanent(f"the {what} {_flat(address)[:100]!r} is no single mail address")
    local, _, domain = address.rpartition("@")
    if domain.isascii():
        return address
    try:
        return f"{local}@{domain.encode('idna').decode('ascii')}"
    except UnicodeError:
        raise Permanent(f"the {what}'s domain {domain[:100]!r} is no domain") from None


def _mailbox(sender: str) -> str:
    """`Name <address>` with the name quoted or encoded as needed (RFC 5322 section 3.4, RFC 2047)."""
    name, address = parseaddr(_flat(sender))
    address = _address(address, "sender")
    if not name:
        return address
    if not name.isascii():
        return f"{_encoded(name, len('From: '))}\r\n <{address}>"
    if all(_DOT_ATOM.fullmatch(word) and "." not in word for word in name.split()):
        return f"{name} <{address}>"
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{address}>'


def _subject(subject: str) -> str:
    """`Re:` once, whatever prefixes the subject carries already, in whichever language."""
    rest = " ".join(_flat(subject).split())
    while found := _REPLY_PREFIX.match(rest):
        rest = rest[found.end() :]
    return _encoded(f"Re: {_shortened(rest)}".rstrip(), len("Subject: "))


def _shortened(subject: str) -> str:
    """On one line, at most SUBJECT_LIMIT characters; what is longer ends in an ellipsis."""
    words = " ".join(_flat(subject).split())
    return words if len(words) <= SUBJECT_LIMIT else words[: SUBJECT_LIMIT - 1].rstrip() + "\u2026"


def _encoded(text: str, used: int) -> str:
    """Text as it stands when it is ASCII and short, else as encoded words on folded lines (RFC 2047)."""
    if text.isascii() and "=?" not in text and used + len(text) <= 78:
        return text
    charset = "us-ascii" if text.isascii() and "=?" not in text else "utf-8"
    words = text.encode("utf-8", "replace").decode()
    return Header(words, charset, maxlinelen=76, header_name="x" * used).encode(linesep="\r\n")


def _threading(facts: MailFacts) -> Iterator[tuple[str, str]]:
    """In-Reply-To and References, so that the reply stands in the sender's thread (RFC 5322 section 3.6.4)."""
    answered = facts.message_id
    if not _ID.fullmatch(answered):
        return
    before = facts.references or ((facts.in_reply_to,) if facts.in_reply_to else ())
    thread = [one for one in dict.fromkeys(before) if _ID.fullmatch(one) and one != answered] + [answered]
    if len(thread) > REFERENCES_LIMIT:
        thread = [thread[0], *thread[1 - REFERENCES_LIMIT :]]
    yield "In-Reply-To", answered
    yield "References", "\r\n ".join(thread)


def _content(text: str, html: str, message_id: str) -> bytes:
    """Content headers, the empty line and the body (RFC 2045, RFC 2046)."""
    if not html:
        return _part("plain", text)
    digest = hashlib.sha256("\0".join((message_id, text, html)).encode("utf-8", "replace")).hexdigest()
    boundary = f"=_{digest[:40]}"
    parts = (_part("plain", text), _part("html", html))
    body = b"".join(f"--{boundary}\r\n".encode() + part + b"\r\n" for part in parts)
    head = f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n\r\n'
    return head.encode() + body + f"--{boundary}--\r\n".encode()


def _part(subtype: str, text: str) -> bytes:
    """One text part: as it stands when that is short lines of ASCII, else quoted-printable (RFC 2045 section 6.7)."""
    lines = [*text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n"), ""]
    data = "\r\n".join(lines).encode("utf-8", "replace")
    is_plain = text.isascii() and all(
        len(line) <= 76 and line.isprintable() and line == line.rstrip() for line in lines
    )
    encoding = "7bit" if is_plain else "quoted-printable"
    charset = "us-ascii" if text.isascii() else "utf-8"
    body = data if is_plain else binascii.b2a_qp(data, istext=True)
    head = f"Content-Type: text/{subtype}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + body
