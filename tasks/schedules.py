"""When a delivery that failed is tried again, and when it is given up. One row a transport."""

from __future__ import annotations

import random
from dataclasses import dataclass

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0

MAX_RETRY_AFTER = 2 * HOUR
"""Longest wait that the other side may ask for."""


@dataclass(frozen=True)
class Schedule:
    """Waits in seconds after the first, second, ... failed attempt; the delivery is given up when they are used up."""

    waits: tuple[float, ...]
    jitter: float
    """Share of a wait that is added at random, so that deliveries which failed together do not come back together."""


SCHEDULES: dict[str, Schedule] = {
    "webhook": Schedule((5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR), 0.2),
    # RFC 5321 section 4.5.4.1: sooner at first, then hourly, and 4 to 5 days in all
    "smtp": Schedule((5 * MINUTE, 15 * MINUTE, 30 * MINUTE, *[HOUR] * 119), 0.1),
}


OUTAGE_SHARE = 0.1
"""Share of an outage's length so far that passes between two looks at it."""


def next_look(age: float, shortest: float, longest: float, rng: random.Random) -> float:
    """Seconds until an unavailable target is tried again, `age` seconds after the delivery's first attempt.

    The longer it is away, the more rarely it is asked, so that days of it do not fill the ledger with attempts.
    """
    return max(shortest, min(age * OUTAGE_SHARE, longest)) * rng.uniform(0.8, 1.2)


def next_attempt(transport: str, number: int, retry_after: float | None, rng: random.Random) -> float | None:
    """Seconds until the next attempt after `number` attempts have failed; None when the delivery is given up.

    `retry_after` is the other side's wish in seconds: never sooner than it asks, but never later than two hours because
    of it. An unknown transport is treated as a webhook.
    """
    schedule = SCHEDULES.get(transport, SCHEDULES["webhook"])
    if number < 1:
        return 0.0
    if number > len(schedule.waits):
        return None
    wait = schedule.waits[number - 1]
    wait += rng.uniform(0, schedule.jitter * wait)
    return max(wait, min(max(retry_after or 0.0, 0.0), MAX_RETRY_AFTER))
