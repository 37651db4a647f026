"""Job ids: 26 characters that sort by time of arrival (the ULID layout, lower case)."""

from __future__ import annotations

import os
import re

from tasks.clock import now_ms

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 26
_ID = re.compile(rf"[0-9a-z]{{{LENGTH}}}")
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]


_random: list[int] = []
"""80-bit numbers that were asked of the system and not used yet: asking for each costs as much as the rest of an id."""
os.register_at_fork(after_in_child=_random.clear)


def _next_random() -> int:
    try:
        return _random.pop()
    except IndexError:
        fresh = os.urandom(10 * 64)
        _random.extend(int.from_bytes(fresh[start : start + 10], "big") for start in range(10, len(fresh), 10))
        return int.from_bytes(fresh[:10], "big")


def new_job_id() -> str:
    """48 bits of milliseconds, then 80 random bits, in Crockford's base 32."""
    number = (now_ms() << 80) | _next_random()
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(5 * (LENGTH - 2), -1, -10)])


def number_of(job_id: str) -> int:
    """The 128 bits that a job id writes out. Raises ValueError for what is none."""
    number = 0
    for character in job_id:
        number = number << 5 | _ALPHABET.index(character)
    return number & ((1 << 128) - 1)


def is_job_id(text: str) -> bool:
    """Whether it could be one: nothing else has to be asked of a database."""
    return _ID.fullmatch(text) is not None
