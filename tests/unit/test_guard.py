"""A breaker with a name: what it lets through, and what it has seen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tasks import guard as guards
from tasks.errors import Transient, Unavailable
from tasks.guard import Guard, guard
from tests.moved_clock import Clock

HOUR = 3600
NAME = "smtp:mail.example:25"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def relay(clock: Clock) -> Iterator[Guard]:
    guards.forget()
    made = guard(NAME)
    made.breaker._clock = clock.monotonic
    yield made
    guards.forget()


def fail(relay: Guard, error: Exception | None = None) -> None:
    with pytest.raises(type(error or Unavailable(NAME, ""))), relay.call():
        raise error or Unavailable(NAME, "refuses the connection")


def gone() -> None:
    raise Unavailable(NAME, "refuses the connection")


def test_three_outages_in_a_row_open_it(relay: Guard, clock: Clock) -> None:
    """Then nobody asks for ten seconds; after that one call decides, and a success closes it."""
    for _ in range(3):
        assert relay.seen().state == "closed"
        fail(relay)
    assert relay.seen().state == "open"
    with (
        pytest.raises(Unavailable, match=r"refuses the connection \(it keeps failing and is left alone") as told,
        relay.call(),
    ):
        pytest.fail("it was asked")
    assert not told.value.asked
    assert 0 < (told.value.retry_after or 0) <= 10
    clock.on(11)
    assert relay.seen().state == "half-open"
    with relay.call():
        pass
    seen = relay.seen()
    assert (seen.state, seen.failing_since, seen.reason) == ("closed", None, "")


def test_it_is_asked_once_a_minute_however_long_it_is_away(relay: Guard, clock: Clock) -> None:
    """Its pause grows to a minute and no further: what comes back is found soon."""
    asked = []
    for second in range(HOUR):
        clock.on(1)
        with contextlib.suppress(Unavailable), relay.call():
            asked.append(second)
            gone()
    assert 58 <= len(asked) <= 70


def test_a_refusal_is_no_outage(relay: Guard) -> None:
    """A server that answers 451 to one mail after another works."""
    for _ in range(10):
        fail(relay, Transient("451 later"))
    seen = relay.seen()
    assert (seen.state, seen.failing_since, seen.last_success_at) == ("closed", None, None)


def test_an_outage_of_something_else_is_none(relay: Guard) -> None:
    """What lies behind it, and has a guard of its own, may be away as long as it will."""
    for _ in range(10):
        fail(relay, Unavailable("model:gone", "there is no such model"))
    assert (relay.seen().state, relay.seen().failing_since) == ("closed", None)


def test_a_cheap_question_goes_before_a_long_call(relay: Guard) -> None:
    """After a failure, and only then; when it fails the call itself is not made, when it does not others may come."""
    probes = 0

    def probe() -> None:
        nonlocal probes
        probes += 1
        if probes == 1:
            raise Unavailable(NAME, "still away")

    with relay.call(probe):
        assert probes == 0
    fail(relay)
    with pytest.raises(Unavailable, match="still away"), relay.call(probe):
        pytest.fail("it was asked")
    with relay.call(probe), relay.call(probe):  # the second does not wait for the first one's end
        assert probes == 2


def test_failing_begins_anew_after_a_long_silence(relay: Guard, clock: Clock) -> None:
    """Nobody knows how it did in between."""
    fail(relay)
    first = relay.seen().failing_since
    clock.on(1800)
    fail(relay)
    assert relay.seen().failing_since == first
    clock.on(2 * 3600)
    fail(relay)
    assert (relay.seen().failing_since or 0) > (first or 0) + 2 * 3_600_000
