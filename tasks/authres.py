"""What our own mail server found out about a sender: the Authentication-Results field (RFC 8601).

Anybody can write such a field into a mail. It is believed only when the admin named the server that writes it
(`authserv_id`), only the topmost one, and only when that one carries the name: a mail server that adds its field puts
it above all that came with the mail. Microsoft 365 leaves the name out; the value `m365` stands for that.
"""

from __future__ import annotations

import re

from tasks.mailhead import first

HEADER = "authentication-results"
"""Key in `Envelope.headers` under which a listener hands on a trusted field."""
M365 = "m365"

_ID = re.compile(r"([^\s;=]+)\s*(?:\d+\s*)?;")
_DMARC = re.compile(r"(?:^|[;\s])dmarc\s*=\s*([a-z]+)", re.IGNORECASE)
_COMMENT = re.compile(r"\([^()]*\)")


def trusted(raw: bytes, authserv_id: str) -> dict[str, str]:
    """The topmost Authentication-Results of a raw mail as envelope header, if `authserv_id` wrote it; else nothing."""
    value = (first(raw, HEADER.encode()) or b"").decode("utf-8", "replace") if authserv_id else ""
    if not value:
        return {}
    named = _ID.match(value[:300])
    writer = named[1].lower() if named else M365
    return {HEADER: value[:2000]} if writer == authserv_id.lower() else {}


def dmarc_of(results: str) -> str:
    """The DMARC result in a trusted field, lower case: `pass`, `fail`, `none`, ...; empty when there is none."""
    found = _DMARC.search(_COMMENT.sub(" ", results))
    return found[1].lower() if found else ""
