"""DKIM signatures reckoned with keys that somebody else fetched. Runs in a child process (tasks/readers/sandbox)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dkim  # type: ignore[import-untyped]  # it has no stubs

SMALLEST_KEY = 1024
"""Bits of an RSA key (RFC 8301 section 3.2)."""


def good(data: bytes, signatures: Sequence[Sequence[str]], keys: Mapping[str, str]) -> list[str]:
    """The domains among `signatures` ((number from the top, domain) each) that hold; `keys` are TXT records by name."""

    def record(name: bytes | str, timeout: float = 0) -> bytes | None:
        text = name.decode("ascii", "replace") if isinstance(name, bytes) else name
        found = keys.get(text.rstrip(".").lower())
        return found.encode("latin-1") if found is not None else None

    found = []
    for number, domain in signatures:
        try:
            holds = dkim.DKIM(data, minkey=SMALLEST_KEY).verify(int(number), dnsfunc=record)
        except Exception:  # noqa: S112 - the library raises what it likes; a signature it cannot read does not hold
            continue
        if holds:
            found.append(domain)
    return found
