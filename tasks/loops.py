"""When an automatic responder must keep silent, so that two machines never talk to each other without end.

Each rule is a row of RULES: a name, where it comes from, and a function that tells what it found or nothing. The first
that finds something decides. Nothing here looks at a message's words: a header is what machines agree on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.addresses import plain
from tasks.authres import HEADER, dmarc_of
from tasks.models import Envelope, MailFacts

MOST_HOPS = 100
"""RFC 5321 section 6.3: a mail with this many Received fields is going round in circles."""
MACHINES = frozenset(
    {
        "mailer-daemon",
        "postmaster",
        "noreply",
        "no-reply",
        "no_reply",
        "donotreply",
        "do-not-reply",
        "do_not_reply",
        "listserv",
        "majordomo",
    }
)
"""Local parts behind which nobody reads (RFC 5230 section 4.6, and common use)."""
OUR_MESSAGE_ID = "postroom."
"""How the Message-ID of every mail begins that compose.py writes."""

_ADDRESS = re.compile(r"<([^<>]*)>")


@dataclass(frozen=True)
class Seen:
    """What the rules may look at."""

    headers: Mapping[str, Sequence[str]]
    envelope: Envelope
    facts: MailFacts
    ours: frozenset[str]
    """Our addresses, lower case and without a detail: those configured, and those this mail was delivered to."""

    def values(self, name: str) -> list[str]:
        """The values of a header, white space trimmed, lower case."""
        return [value.strip().lower() for value in self.headers.get(name, ())]

    def senders(self) -> list[str]:
        """Every address that speaks for the sender or that an answer might go to."""
        found = (self.envelope.sender, self.facts.from_address, self.facts.reply_to)
        return [address.lower() for address in found if address]


@dataclass(frozen=True)
class Rule:
    """One reason for silence."""

    name: str
    source: str
    finds: Callable[[Seen], str]
    """What it found, in words; empty when the rule does not hold."""


def no_reply_because(
    headers: Mapping[str, list[str]], envelope: Envelope, facts: MailFacts, own: frozenset[str]
) -> str:
    """Why a mail must not be answered automatically, in plain words; empty when it may be.

    `headers` has lower-case names and decoded values; `own` are our own addresses.
    """
    ours = frozenset(_plain((*own, *envelope.recipients)))
    seen = Seen(headers, envelope, facts, ours)
    for rule in RULES:
        if found := rule.finds(seen):
            return f"{found} ({rule.source})"
    return ""


def written_by_machine(headers: Mapping[str, list[str]], envelope: Envelope, facts: MailFacts) -> str:
    """Why a mail is nobody's own words (a bounce, an absence notice, a forgery), in plain words; empty when it may be.

    Raises nothing. Mail from a list or in our own name is not meant here: a person may have written it.
    """
    seen = Seen(headers, envelope, facts, frozenset())
    for rule in RULES:
        if rule.name in _MACHINES_OWN and (found := rule.finds(seen)):
            return f"{found} ({rule.source})"
    return ""


def over_cap(times: Sequence[int], now: int, caps: Sequence[tuple[int, int]]) -> str:
    """Why one correspondent gets no more replies for now; empty when there is room.

    `times` are when replies went to it and `now` is the present, in milliseconds since the epoch; each cap is a number
    of replies and the milliseconds they may come in.
    """
    for most, span in caps:
        recent = sum(1 for time in times if now - span < time <= now)
        if recent >= most:
            return f"{recent} replies went to this address within {_span(span)}, and {most} are the limit"
    return ""


def _span(milliseconds: int) -> str:
    minutes = milliseconds / 60_000
    return f"{minutes / 60:g} hours" if minutes > 60 else f"{minutes:g} minutes"


def _null_sender(seen: Seen) -> str:
    if not seen.envelope.sender:
        return "the envelope has no sender, like a bounce's"
    return "Return-Path: <>" if "<>" in seen.values("return-path") else ""


def _report(seen: Seen) -> str:
    found = [value for value in seen.values("content-type") if value.startswith("multipart/report")]
    return "Content-Type: multipart/report" if found else ""


def _auto_submitted(seen: Seen) -> str:
    for value in seen.values("auto-submitted"):
        keyword = re.split(r"[\s;(]", value, maxsplit=1)[0]
        if keyword != "no":
            return f"Auto-Submitted: {_shown(keyword)}"
    return ""


def _precedence(seen: Seen) -> str:
    found = {"bulk", "junk", "list", "auto_reply"} & set(seen.values("precedence"))
    return f"Precedence: {min(found)}" if found else ""


def _list(seen: Seen) -> str:
    found = sorted(name for name in seen.headers if name.startswith("list-"))
    return f"it comes from a mailing list: {_shown(found[0]).title()}" if found else ""


def _suppressed(seen: Seen) -> str:
    for value in seen.values("x-auto-response-suppress"):
        if {"all", "oof", "autoreply"} & {part.strip() for part in value.split(",")}:
            return f"X-Auto-Response-Suppress: {_shown(value)}"
    return ""


def _other_responder(seen: Seen) -> str:
    for name in ("x-autoreply", "x-auto-reply", "x-autorespond", "x-autoresponder"):
        if any(value != "no" for value in seen.values(name)):
            return f"{name.title()} is set"
    return ""


def _bounce_mark(seen: Seen) -> str:
    return "X-Failed-Recipients is set, as in bounces" if seen.values("x-failed-recipients") else ""


def _own_loop_mark(seen: Seen) -> str:
    return "X-Loop carries our own address" if seen.ours & _plain(seen.values("x-loop")) else ""


def _own_mail(seen: Seen) -> str:
    ours = seen.facts.message_id.lower().startswith("<" + OUR_MESSAGE_ID)
    return "its Message-ID is one that Postroom wrote" if ours else ""


def _machine(seen: Seen) -> str:
    for address in seen.senders():
        local = address.partition("@")[0]
        if local.partition("+")[0] in MACHINES or local.startswith("owner-"):
            return f"the sender is a machine: {_shown(local)}"
    return ""


def _own_sender(seen: Seen) -> str:
    return "the sender is one of our own addresses" if seen.ours & _plain(seen.senders()) else ""


def _not_addressed(seen: Seen) -> str:
    if not seen.ours:
        return ""
    named = {address.lower() for address in (*seen.facts.to, *seen.facts.cc)}
    for name in ("delivered-to", "x-original-to", "envelope-to"):
        for value in seen.values(name):
            angle = _ADDRESS.search(value)
            named.add(angle[1] if angle else value)
    return "" if seen.ours & _plain(named) else "our address stands in neither To, Cc nor Delivered-To"


def _dmarc(seen: Seen) -> str:
    failed = dmarc_of(seen.envelope.headers.get(HEADER, "")) == "fail"
    return "our mail server says that it fails DMARC" if failed else ""


def _plain(addresses: Iterable[str]) -> set[str]:
    """Addresses with their details taken off: `inbox+invoices@` is the mailbox `inbox@` (RFC 5233)."""
    return {plain(address) for address in addresses}


def _hops(seen: Seen) -> str:
    count = len(seen.headers.get("received", ()))
    return f"{count} Received fields: it goes round in circles" if count >= MOST_HOPS else ""


def _shown(value: str) -> str:
    """A header's value as far as it may stand in a reason."""
    return "".join(filter(str.isprintable, value))[:60]


RULES = (
    Rule("null sender", "RFC 3834 section 2", _null_sender),
    Rule("report", "RFC 6522", _report),
    Rule("auto-submitted", "RFC 3834 section 5", _auto_submitted),
    Rule("precedence", "RFC 3834 section 2", _precedence),
    Rule("mailing list", "RFC 2369, RFC 2919", _list),
    Rule("response suppressed", "MS-OXCMAIL section 2.1.3.2.20", _suppressed),
    Rule("other responder", "common use", _other_responder),
    Rule("bounce mark", "Exim, Gmail", _bounce_mark),
    Rule("own loop mark", "common use", _own_loop_mark),
    Rule("own mail", "our Message-ID", _own_mail),
    Rule("machine", "RFC 5230 section 4.6", _machine),
    Rule("own sender", "RFC 5230 section 4.6", _own_sender),
    Rule("not addressed to us", "RFC 5230 section 4.5", _not_addressed),
    Rule("DMARC", "RFC 7489", _dmarc),
    Rule("hops", "RFC 5321 section 6.3", _hops),
)
"""All rules, in the order in which they are asked."""
_MACHINES_OWN = frozenset(
    {
        "null sender",
        "report",
        "auto-submitted",
        "precedence",
        "other responder",
        "bounce mark",
        "own mail",
        "DMARC",
        "hops",
    }
)
"""Those that tell that no person wrote the mail, or not the one in From."""
