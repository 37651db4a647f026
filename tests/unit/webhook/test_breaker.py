"""When an endpoint that fails is left alone."""

from __future__ import annotations

import threading
import time

import pytest

from tasks.breaker import Breaker, Paused, Policy


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(Policy(patience=0), clock)


def call(breaker: Breaker, *results: bool) -> None:
    for alive in results:
        breaker.enter()
        breaker.leave(alive=alive)


def paused(breaker: Breaker) -> float:
    """Seconds for which it refuses calls."""
    with pytest.raises(Paused) as caught:
        breaker.enter()
    return caught.value.seconds


def test_five_failures_in_a_row_open_it(breaker: Breaker) -> None:
    """Four do not, and a success in between starts the count anew."""
    call(breaker, False, False, False, False, True, False, False, False, False)
    call(breaker, False)
    assert paused(breaker) == 10


def test_seven_of_ten_failures_open_it(clock: Clock) -> None:
    """The share over five minutes counts too, when the failures do not come in a row; old ones are forgotten."""
    breaker = Breaker(Policy(patience=0, streak=100), clock)
    call(breaker, *[False] * 9)
    clock.now += 301
    call(breaker, True, False, False, True, False, False, True, False, False)
    call(breaker, False)
    assert paused(breaker) == 10


def test_each_failed_probe_doubles_the_pause(breaker: Breaker, clock: Clock) -> None:
    """10 s, 20 s, ... up to five minutes; one call is let through at the end of each."""
    call(breaker, *[False] * 5)
    for expected in (10, 20, 40, 80, 160, 300, 300):
        assert paused(breaker) == expected
        clock.now += expected
        call(breaker, False)


def test_one_success_closes_it(breaker: Breaker, clock: Clock) -> None:
    """A probe that succeeds lets everybody in again, and the next trouble starts with the short pause."""
    call(breaker, *[False] * 5)
    clock.now += 10
    call(breaker, False)
    clock.now += 20
    call(breaker, True)
    for _ in range(50):
        breaker.enter()
    for _ in range(50):
        breaker.leave(alive=True)
    call(breaker, *[False] * 5)
    assert paused(breaker) == 10


def test_failures_that_were_under_way_do_not_lengthen_the_pause(breaker: Breaker, clock: Clock) -> None:
    """Twenty calls that fail together open it once."""
    call(breaker, True)
    for _ in range(20):
        breaker.enter()
    for _ in range(20):
        breaker.leave(alive=False)
    assert paused(breaker) == 10


def test_one_call_at_a_time_until_the_first_success(clock: Clock) -> None:
    """An unknown endpoint, or one that failed last, is probed by one call; once it answers, all may go."""
    breaker = Breaker(Policy(patience=0), clock)
    breaker.enter()
    assert paused(breaker) == 10
    breaker.leave(alive=True)
    breaker.enter()
    breaker.enter()
    breaker.leave(alive=False)
    assert paused(breaker) == 10
    breaker.leave(alive=False)
    breaker.enter()


def test_calls_wait_a_moment_for_the_probe() -> None:
    """Calls that come together at the start all go as soon as the first one was answered."""
    breaker = Breaker(Policy(patience=60))
    entered = threading.Semaphore(0)

    def enter() -> None:
        breaker.enter()
        entered.release()

    breaker.enter()
    threads = [threading.Thread(target=enter, daemon=True) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert not entered.acquire(timeout=0.1)
    started = time.monotonic()
    breaker.leave(alive=True)
    for _ in threads:
        assert entered.acquire(timeout=30)
    assert time.monotonic() - started < 30


def test_nobody_waits_for_a_probe_that_hangs(clock: Clock) -> None:
    """When the probe is older than calls want to wait, they are refused at once: a queue of them costs no time."""
    breaker = Breaker(Policy(patience=1), clock)
    breaker.enter()
    clock.now += 1
    started = time.monotonic()
    for _ in range(1000):
        assert paused(breaker) == 10
    assert time.monotonic() - started < 60
