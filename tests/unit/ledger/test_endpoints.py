"""What the ledger remembers of an endpoint, and how little it writes for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from tasks.ledger import Endpoint, Ledger
from tasks.ledger.endpoints import EVERY_MS, SILENCE_MS

T = 1_790_000_000_000
HOUR = 3_600_000


def known(ledger: Ledger) -> Endpoint:
    found = ledger.endpoints.get("books")
    assert found is not None
    return found


@pytest.fixture
def writes(ledger: Ledger) -> list[str]:
    """Statements that change the table."""
    seen: list[str] = []

    def note(_c: object, _k: object, statement: str, *_: object) -> None:
        if "endpoints" in statement and not statement.startswith("SELECT"):
            seen.append(statement)

    sa.event.listen(ledger.database.engine, "before_cursor_execute", note)
    return seen


def test_failing_begins_with_the_first_failure_after_a_success(ledger: Ledger) -> None:
    """More failures do not move its begin; a success ends it; the next failure begins anew."""
    ledger.endpoints.succeeded("books", T)
    for hours in (1, 2, 3):
        found = ledger.endpoints.failed("books", f"HTTP 503, {hours}", T + hours * HOUR)
    assert (found.failing_since, found.last_failure, found.last_success_at) == (T + HOUR, "HTTP 503, 3", T)
    ledger.endpoints.succeeded("books", T + 4 * HOUR)
    assert (known(ledger).failing_since, known(ledger).last_success_at) == (None, T + 4 * HOUR)
    assert ledger.endpoints.failed("books", "HTTP 500", T + 5 * HOUR).failing_since == T + 5 * HOUR


def test_a_day_without_an_attempt_says_nothing(ledger: Ledger) -> None:
    """After a week in which Postroom was off or had nothing to send, one failure is no week of failures."""
    ledger.endpoints.failed("books", "HTTP 503", T)
    later = T + 7 * 24 * HOUR
    assert ledger.endpoints.failed("books", "HTTP 503", later).failing_since == later
    assert ledger.endpoints.failed("books", "HTTP 503", later + SILENCE_MS).failing_since == later


def test_a_hundred_outcomes_in_a_minute_are_two_writes(ledger: Ledger, writes: list[str]) -> None:
    """One for the first success, one for the first failure: what repeats is not written down (an insert and an update)."""
    for number in range(100):
        ledger.endpoints.succeeded("books", T + number)
    assert len(writes) == 2
    for number in range(100):
        ledger.endpoints.failed("books", "HTTP 503", T + 1000 + number)
    assert len(writes) == 4
    ledger.endpoints.failed("books", "HTTP 503", T + 1000 + EVERY_MS)
    assert len(writes) == 6


def test_a_success_among_failures_is_never_missed(ledger: Ledger) -> None:
    """However soon after another success: the failing that began in between has ended."""
    ledger.endpoints.succeeded("books", T)
    ledger.endpoints.failed("books", "HTTP 503", T + 1)
    ledger.endpoints.succeeded("books", T + 2)
    assert known(ledger).failing_since is None


def test_a_clock_that_is_set_back_hides_nothing(ledger: Ledger) -> None:
    """Ten minutes back are no reason to take old times for recent ones."""
    ledger.endpoints.succeeded("books", T)
    ledger.endpoints.succeeded("books", T - 10 * 60_000)
    assert known(ledger).last_success_at == T - 10 * 60_000


def test_only_one_disables(ledger: Ledger) -> None:
    """Sixteen at once: one is told that it did."""
    with ThreadPoolExecutor(16) as pool:
        did = list(pool.map(lambda number: ledger.endpoints.disable("books", f"{number}", T + number), range(16)))
    assert sum(did) == 1
    assert known(ledger).disabled_because == str(did.index(True))


def test_enabling_begins_with_a_clean_slate(ledger: Ledger) -> None:
    """How it stood is told, its failing is forgotten; one that was not disabled is left alone."""
    assert ledger.endpoints.enable("books") is None
    ledger.endpoints.failed("books", "HTTP 503", T)
    assert ledger.endpoints.enable("books") is None
    ledger.endpoints.disable("books", "enough", T + HOUR)
    before = ledger.endpoints.enable("books")
    assert before is not None
    assert (before.failing_since, before.disabled_at, before.disabled_because) == (T, T + HOUR, "enough")
    now = known(ledger)
    assert (now.failing_since, now.disabled_at, now.disabled_because) == (None, None, "")
    assert [one.name for one in ledger.endpoints.all()] == ["books"]
