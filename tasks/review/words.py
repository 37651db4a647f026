"""What a reviewer's mail says: ok, no with a reason, or another text for the reply. Whatever is not clear is none of them.

The first line decides. What the mail quotes counts for nothing, so that an `ok` out of somebody's history, or a text that
the sender of the job wrote, is never taken for an answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.errors import Permanent
from tasks.history import take_apart

BEGIN, END = "[reply {}]", "[end {}]"
"""The lines around a reply's text, with the question's mark."""
MOST_LINES, LONGEST = 8, 60
"""Lines after a closing word, and their length: more is no signature."""

_YES = re.compile(r"(?:ok|okay|o\.k\.|yes|approve|approved|ja|oui|s[ií])[\s.!]*", re.IGNORECASE)
_NO = re.compile(r"(?:no|nein|non|reject|rejected)(?:\s*[.,:;!\u2013-]+\s*|\s+|$)(.*)", re.IGNORECASE)
_NO_BUT = re.compile(r"(?:problem|worries|objection|change|comment|issue|need|doubt|idea|matter|longer)", re.IGNORECASE)
_TEXT = re.compile(r"(?:text|reply|antwort|réponse)\s*:\s*(.*)", re.IGNORECASE)
_CLOSING = re.compile(
    r"(?:many thanks|thanks|thank you|thx|cheers|(?:kind|best|warm) regards|regards|best wishes|best|(?:viele|liebe|beste) "
    r"grüße|grüße|gruß|vg|lg|mfg|mit freundlichen grüßen|danke|merci|cordialement|saludos)"
    r"[.,!]*(?:(?<=[.,!])\s+[^\W\d_]+(?:\s+[^\W\d_]+)?)?[.!]*",
    re.IGNORECASE,
)


class NotUnderstood(Permanent):
    """The mail does not say clearly what shall be done."""


@dataclass(frozen=True)
class Said:
    """What shall be done."""

    verdict: str
    """`approved` or `rejected`."""
    reason: str = ""
    """Of a rejection."""
    text: str = ""
    """The reply in the reviewer's words; empty: as proposed."""


def understood(body: str, mark: str) -> Said:
    """What the text of an answer says. Raises NotUnderstood, with what is missing."""
    taken = take_apart(body)
    lines = _own_words(taken.new)
    if not lines:
        raise NotUnderstood("there is nothing in it but what it quotes")
    first, rest = lines[0].strip(), lines[1:]
    if _YES.fullmatch(first):
        if not _is_closing(rest):
            raise NotUnderstood(f"after {first!r} it goes on, and that might change what is meant")
        return Said("approved")
    if first.lower() == BEGIN.format(mark):
        signature = taken.signature.splitlines()  # the proposed text may have one, and the end's mark after it
        return Said("approved", text=_between([*rest, *signature], mark))
    if found := _TEXT.fullmatch(first):
        return Said("approved", text=_whole([found[1], *rest], mark))
    if (found := _NO.fullmatch(first)) and not _NO_BUT.match(found[1]):
        return Said("rejected", reason=_reason([found[1], *rest]))
    raise NotUnderstood("its first line is neither ok nor no nor the beginning of a text")


def _own_words(new: str) -> list[str]:
    """The lines that are new, without empty ones at the top."""
    lines = [line for line in new.splitlines() if not line.lstrip().startswith(">")]
    while lines and not lines[0].strip():
        del lines[0]
    return lines


def _is_closing(rest: list[str]) -> bool:
    """Whether nothing follows but a closing word and a name."""
    told = [line.strip() for line in rest if line.strip()]
    if not told:
        return True
    return bool(_CLOSING.fullmatch(told[0])) and len(told) <= MOST_LINES and max(map(len, told)) <= LONGEST


def _reason(lines: list[str]) -> str:
    """The first paragraph; what a signature may be is none."""
    told = "\n".join(line.strip() for line in lines).strip().split("\n\n")[0]
    return "" if _CLOSING.fullmatch(told.partition("\n")[0]) else " ".join(told.split())


def _between(rest: list[str], mark: str) -> str:
    """The text up to the end's mark."""
    end = next((number for number, line in enumerate(rest) if line.strip().lower() == END.format(mark)), None)
    if end is None:
        raise NotUnderstood(f"the line {END.format(mark)} is missing, which says where the text ends")
    return _text(rest[:end])


def _whole(lines: list[str], mark: str) -> str:
    """All of it, unless our own mail follows that the mail program did not quote."""
    if any(mark in line for line in lines):
        raise NotUnderstood("our own mail stands in it, unquoted, so that nobody can tell where the text ends")
    return _text(lines)


def _text(lines: list[str]) -> str:
    text = "\n".join(line if line == "-- " else line.rstrip() for line in lines).strip()  # RFC 3676 section 4.3
    if not text:
        raise NotUnderstood("the text is empty")
    return text
