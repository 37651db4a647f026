"""The name under which a mail is recognised when it arrives again.

A sender that never saw our `250` sends the mail once more, and a mailbox may be read twice. The same mail must become
one job, and two different mails must never be merged, because then one of them would be lost without a trace.

The key is the Message-ID and a SHA-256 over the message. With a Message-ID, the fields that mail servers add on the way
(RFC 5321 section 4.4: Received, Return-Path; and Delivered-To, Authentication-Results, ARC-*, spam marks) are left out
of the hash, since a repeat that took another way differs only in them. All else is in it: the same Message-ID with
another body, sender, subject or date is another mail.

Without a Message-ID the trace fields stay in the hash. Devices that leave out the Message-ID often leave out the date
as well; two of their alarms may be equal but for the `Received` line of the relay, and both have to arrive. A retry out
of a relay's queue has identical bytes and is recognised all the same.
"""

from __future__ import annotations

import hashlib
import re

from tasks.mailhead import fields

TRACE = frozenset(
    {
        b"authentication-results",
        b"delivered-to",
        b"dkim-filter",
        b"dkim-signature",
        b"envelope-to",
        b"received",
        b"received-spf",
        b"return-path",
        b"x-delivered-to",
        b"x-envelope-from",
        b"x-envelope-to",
        b"x-original-to",
        b"x-received",
        b"x-virus-scanned",
    }
)
"""Fields that are written by mail servers on the way, lower case."""
TRACE_PREFIXES = (b"arc-", b"x-gm-", b"x-google-", b"x-ms-exchange-", b"x-rspamd-", b"x-spam-")

_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,250}>")


def mail_key(raw: bytes) -> str:
    """`<message-id> sha256` or only the SHA-256; printable ASCII, at most 320 characters. Never raises."""
    head = list(fields(raw))
    message_id = _message_id(head)
    digest = hashlib.sha256()
    for name, field in head:
        if not (message_id and is_trace(name)):
            digest.update(field)
    digest.update(memoryview(raw)[sum(len(field) for _, field in head) :])
    return f"{message_id} {digest.hexdigest()}".strip()


def is_trace(name: bytes) -> bool:
    """Whether a field (lower-case name) is added on the way, so that it says nothing about which mail this is."""
    return name in TRACE or name.startswith(TRACE_PREFIXES)


def _message_id(head: list[tuple[bytes, bytes]]) -> str:
    for name, field in head:
        if name == b"message-id":
            found = _MESSAGE_ID.search(field)
            return found[0].decode("ascii") if found else ""
    return ""
