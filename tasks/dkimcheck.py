"""DKIM signatures verified by ourselves (RFC 6376): keys are fetched here, the reckoning is done in a sandboxed child."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import dns.exception
import dns.resolver

from tasks.errors import PostroomError, Unreadable
from tasks.mailhead import VALUE_LIMIT, fields
from tasks.readers.limits import Limits
from tasks.readers.sandbox.client import SANDBOX

MOST_SIGNATURES = 4
"""Signatures that are looked at, from the top; each costs a question to the DNS."""
ALGORITHMS = frozenset({"rsa-sha256", "ed25519-sha256"})
"""SHA-1 proves nothing any more (RFC 8301)."""
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")

Lookup = Callable[[str, float], bytes | None]
"""(name, seconds) -> the TXT record, None when there is none. Raises DnsDown."""


class DnsDown(PostroomError):
    """The DNS gave no answer."""


def txt_record(name: str, seconds: float) -> bytes | None:
    """The TXT record of a name by the system's resolvers. Raises DnsDown."""
    try:
        answer = dns.resolver.resolve(name, "TXT", lifetime=seconds)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return None
    except (dns.exception.DNSException, OSError) as error:
        raise DnsDown(f"{type(error).__name__} for {name}") from error
    return b"".join(next(iter(answer)).strings)


def check(raw: bytes, lookup: Lookup, seconds: float) -> tuple[str, list[str]]:
    """`pass`, `fail`, `none` or `temperror`, and the domains whose signature holds.

    A signature that covers only the start of the body (`l=`) does not count, since anybody can add to it.
    """
    signatures = [value for name, value in fields(raw) if name == b"dkim-signature"][:MOST_SIGNATURES]
    if not signatures:
        return "none", []
    deadline = time.monotonic() + seconds
    wanted: list[list[str]] = []
    keys: dict[str, str] = {}
    down = False
    for index, signature in enumerate(signatures):
        place = _place(signature)
        if place is None:
            continue
        try:
            key = lookup(place[1], max(0.1, deadline - time.monotonic()))
        except DnsDown:
            down = True
            continue
        if key:
            keys[place[1]] = key.decode("latin-1")
            wanted.append([str(index), place[0]])
    good = _verified(raw, wanted, keys) if wanted else []
    return "pass" if good else "temperror" if down else "fail", good


def _place(signature: bytes) -> tuple[str, str] | None:
    """The signing domain and where its key stands in the DNS; None for a signature that cannot count."""
    text = signature[:VALUE_LIMIT].partition(b":")[2].decode("ascii", "replace")
    tags = {name.strip(): "".join(value.split()) for name, _, value in (tag.partition("=") for tag in text.split(";"))}
    domain, selector = tags.get("d", "").lower(), tags.get("s", "").lower()
    if "l" in tags or tags.get("a") not in ALGORITHMS:
        return None
    name = f"{selector}._domainkey.{domain}"
    return (domain, name) if _NAME.fullmatch(name) and len(name) < 254 else None


def _verified(raw: bytes, wanted: list[list[str]], keys: dict[str, str]) -> list[str]:
    try:
        result = SANDBOX.call({"op": "dkim", "signatures": wanted, "keys": keys}, raw, Limits())
    except Unreadable:
        return []
    good: list[str] = result.header["good"]
    return good
