"""Job ids: 26 characters that sort by time of arrival (the ULID layout, lower case)."""

from __future__ import annotations

import secrets

from tasks.clock import now_ms

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 26


def new_job_id() -> str:
    """48 bits of milliseconds, then 80 random bits, in Crockford's base 32."""
    number = (now_ms() << 80) | secrets.randbits(80)
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(5 * (LENGTH - 1), -1, -5))
