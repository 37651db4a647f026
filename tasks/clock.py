"""The wall clock in the ledger's unit."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def iso(milliseconds: int | None) -> str:
    """RFC 3339 text in UTC, to the second; empty for None."""
    if milliseconds is None:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str, now: int) -> int:
    """The time that a person wrote, in milliseconds since the epoch.

    `3d`, `12h`, `30m`, `90s`, `2w` lie back from `now`; else ISO 8601, a date or a date and time, in UTC unless it says
    otherwise. Raises ValueError with what to write.
    """
    text = text.strip()
    if found := re.fullmatch(r"(\d{1,9})\s*([smhdw])", text):
        return now - int(found[1]) * _UNITS[found[2]] * 1000
    try:
        then = datetime.fromisoformat(text)
        return round((then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() * 1000)
    except ValueError:
        raise ValueError(f"{text!r} is no time; write 2026-03-02, 2026-03-02T14:30, or 3d, 12h, 30m ago") from None
