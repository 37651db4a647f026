"""One row a dependency: when an outage is the same one, and when a new one has begun."""

from __future__ import annotations

from tasks.ledger import Ledger, Outage

SETTLE = 60_000


def fails(ledger: Ledger, at: int, since: int = 0, reason: str = "refused") -> None:
    ledger.outages.failed("redis", since or at, at, reason, settle_ms=SETTLE)


def only(ledger: Ledger) -> Outage:
    [one] = ledger.outages.all()
    return one


def test_all_processes_speak_of_one_outage(ledger: Ledger) -> None:
    """It began when the first of them saw it, and its reason is the last one."""
    fails(ledger, 1_000)
    fails(ledger, 5_000, since=4_000, reason="no such name")
    assert only(ledger) == Outage(name="redis", since=1_000, last_failure_at=5_000, reason="no such name")
    assert ledger.outages.worked("redis", 9_000)
    assert not ledger.outages.worked("redis", 9_500)
    assert only(ledger).ended_at == 9_000


def test_news_that_comes_late_changes_nothing(ledger: Ledger) -> None:
    """A failure from before the end, and a success from before the last failure."""
    fails(ledger, 5_000)
    assert not ledger.outages.worked("redis", 4_000)
    ledger.outages.worked("redis", 9_000)
    fails(ledger, 8_000)
    assert only(ledger).ended_at == 9_000


def test_what_fails_again_at_once_has_not_ended(ledger: Ledger) -> None:
    """A server that comes back for seconds is one outage; after its end was told, or a while, a new one begins."""
    fails(ledger, 1_000)
    ledger.outages.worked("redis", 100_000)
    fails(ledger, 150_000)
    assert (only(ledger).since, only(ledger).ended_at) == (1_000, None)
    ledger.outages.told(only(ledger), 150_001, end=False)
    ledger.outages.worked("redis", 200_000)
    fails(ledger, 260_001)
    assert (only(ledger).since, only(ledger).told_at) == (260_001, None)
    ledger.outages.worked("redis", 300_000)
    ledger.outages.told(only(ledger), 300_001, end=True)
    fails(ledger, 300_002, since=1_000)
    assert (only(ledger).since, only(ledger).end_told_at) == (300_000, None)


def test_an_outage_that_several_hosts_lived_through_is_written_once(ledger: Ledger) -> None:
    """That of the ledger itself: each host tells it afterwards, with its own times."""
    ledger.outages.passed("ledger", 1_000, 9_000, "refused")
    ledger.outages.passed("ledger", 2_000, 9_500, "refused")
    assert (only(ledger).since, only(ledger).ended_at) == (1_000, 9_000)
    ledger.outages.passed("ledger", 20_000, 30_000, "no such name")
    assert (only(ledger).since, only(ledger).ended_at, only(ledger).reason) == (20_000, 30_000, "no such name")
