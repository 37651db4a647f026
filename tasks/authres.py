"""What our own mail server found out about a sender: the Authentication-Results field (RFC 8601).

Anybody can write such a field into a mail. It is believed only when the admin named the server that writes it
(`authserv_id`), only the topmost one, and only when that one carries the name: a mail server that adds its field puts
it above all that came with the mail. Microsoft 365 leaves the name out; the value `m365` stands for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tasks.mailhead import first

HEADER = "authentication-results"
"""Key in `Envelope.headers` under which a listener hands on a trusted field."""
M365 = "m365"

_ID = re.compile(r"([^\s;=]+)\s*(?:\d+\s*)?;")
_RESULT = re.compile(r"\s*([a-z0-9-]+)(?:/\d+)?\s*=\s*([a-z]+)", re.IGNORECASE)
_PROPERTY = re.compile(r"([a-z]+\.[a-z0-9_-]+)\s*=\s*(\S+)", re.IGNORECASE)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_HARMLESS = re.compile(r"[^\w@.+-]")


@dataclass(frozen=True)
class Result:
    """One method's result: `dkim`, `pass`, {"header.d": "x.test"}; all lower case."""

    method: str
    value: str
    properties: dict[str, str] = field(default_factory=dict)


def trusted(raw: bytes, authserv_id: str) -> dict[str, str]:
    """The topmost Authentication-Results of a raw mail as envelope header, if `authserv_id` wrote it; else nothing."""
    value = (first(raw, HEADER.encode()) or b"").decode("utf-8", "replace") if authserv_id else ""
    if not value:
        return {}
    return {HEADER: value[:2000]} if writer_of(value) == authserv_id.lower() else {}


def writer_of(value: str) -> str:
    """The authserv-id in a field, lower case; `m365` where there is none."""
    named = _ID.match(value[:300])
    return named[1].lower() if named else M365


def results_of(value: str) -> list[Result]:
    """All results in a trusted field (RFC 8601 section 2.2).

    The server quotes what the sender wrote (an envelope address may hold `; dmarc=pass`), so quoted strings are read as
    such and comments are left out.
    """
    found = []
    for statement in "".join(_plain(value[:2000])).split(";"):
        if named := _RESULT.match(statement):
            properties = {name.lower(): text.lower() for name, text in _PROPERTY.findall(statement)}
            found.append(Result(named[1].lower(), named[2].lower(), properties))
    return found


def dmarc_of(value: str) -> str:
    """The DMARC result in a trusted field, lower case; empty when there is none. Of two, the one that is no `pass`."""
    return verdict(results_of(value), "dmarc")


def verdict(results: list[Result], method: str) -> str:
    """What `method` came to. SPF and DMARC say one thing, so of several the bad one; of several signatures one will do."""
    values = [result.value for result in results if result.method == method]
    ordered = sorted(values, key=lambda value: (value == "pass") == (method != "dkim"))
    return ordered[0] if ordered else ""


def _plain(value: str) -> Iterator[str]:
    """The field without comments, and with quoted strings that hold nothing but letters, digits and `@ . _ + -`."""
    position = 0
    while position < len(value):
        letter = value[position]
        if letter == '"' and (quoted := _QUOTED.match(value, position)):
            yield _HARMLESS.sub("_", quoted[1])
            position = quoted.end()
        elif letter == "(" and (end := _end_of_comment(value, position)):
            yield " "
            position = end
        else:
            yield letter
            position += 1


def _end_of_comment(value: str, start: int) -> int:
    """Where the comment that begins at `start` ends; 0 when it does not: then it is none, and hides nothing."""
    depth = 0
    for position in range(start, len(value)):
        depth += {"(": 1, ")": -1}.get(value[position], 0)
        if not depth:
            return position + 1
    return 0
