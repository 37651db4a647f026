"""Times as people write them."""

from __future__ import annotations

import pytest

from tasks.clock import iso, moment

NOW = 1_772_442_851_000  # 2026-03-02T09:14:11Z
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3d", NOW - 72 * HOUR),
        (" 12 h", NOW - 12 * HOUR),
        ("90s", NOW - 90_000),
        ("30m", NOW - HOUR // 2),
        ("2w", NOW - 336 * HOUR),
        ("2026-03-02", NOW - 9 * HOUR - 851_000),
        ("2026-03-02T09:14:11Z", NOW),
        ("2026-03-02 10:14:11+01:00", NOW),
        ("2026-03-02T09:14:11", NOW),
        (iso(NOW), NOW),
    ],
)
def test_what_is_understood(text: str, expected: int) -> None:
    """A while ago, a date, a date and time; in UTC unless it says otherwise."""
    assert moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "3", "-3d", "3 days", "2026-13-01", "d"])
def test_what_is_not_says_what_to_write(text: str) -> None:
    """No guess is made of what a time might mean."""
    with pytest.raises(ValueError, match="write 2026-03-02"):
        moment(text, NOW)
