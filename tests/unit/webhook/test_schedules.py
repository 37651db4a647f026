"""When deliveries are tried again."""

from __future__ import annotations

import random

import pytest

from tasks.schedules import SCHEDULES, next_attempt

HOUR = 3600


def test_a_webhook_follows_the_published_schedule() -> None:
    """0 s, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h, each with up to a fifth on top, then it is given up."""
    plan = [0, 5, 300, 1800, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR]
    for seed in range(50):
        rng = random.Random(seed)
        for number, wait in enumerate(plan):
            got = next_attempt("webhook", number, None, rng)
            assert got is not None
            assert wait <= got <= wait * 1.2
        assert next_attempt("webhook", len(plan), None, rng) is None


def test_mail_is_tried_for_five_days() -> None:
    """5 min, 15 min, 30 min, then hourly; the last attempt is made before five days are over (RFC 5321 4.5.4.1)."""
    waits = SCHEDULES["smtp"].waits
    assert waits[:4] == (300, 900, 1800, HOUR)
    assert 4 * 24 * HOUR < sum(waits) <= 5 * 24 * HOUR
    rng = random.Random(1)
    assert HOUR <= (next_attempt("smtp", 100, None, rng) or 0) <= HOUR * 1.1
    assert next_attempt("smtp", len(waits) + 1, None, rng) is None


def test_jitter_spreads_deliveries_that_failed_together() -> None:
    """A thousand deliveries that failed in one second do not come back in one second."""
    rng = random.Random(7)
    waits = [next_attempt("webhook", 2, None, rng) or 0 for _ in range(1000)]
    assert max(waits) - min(waits) > 50


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [(None, 5, 6), (0, 5, 6), (-9, 5, 6), (90, 90, 90), (1e6, 7200, 7200), (float("inf"), 7200, 7200)],
)
def test_the_receivers_wish_is_kept_within_bounds(asked: float | None, least: float, most: float) -> None:
    """Never sooner than Retry-After asks, but nobody can park a delivery for more than two hours."""
    got = next_attempt("webhook", 1, asked, random.Random(3))
    assert got is not None
    assert least <= got <= most


def test_a_wish_does_not_add_attempts() -> None:
    """Retry-After moves an attempt; it does not make one more."""
    assert next_attempt("webhook", 8, 60, random.Random(1)) is None
