"""What processes count: added up in the ledger, kept over restarts, and never lost while the ledger is away."""

from __future__ import annotations

import json
import time

import pytest
import sqlalchemy as sa

from tasks import meters
from tasks.clock import now_ms
from tasks.errors import Unavailable
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.ledger.tallies import FRESH_MS, LATE_MS, gauges
from tasks.meters import ATTEMPTS, BREAKER, STAGE_SECONDS, Meters
from tasks.models import Stage
from tasks.recorder import Recorder
from tests.conftest import envelope


def values(ledger: Ledger, name: str) -> dict[tuple[str, str], float]:
    return {(one.labels, one.part): one.value for one in ledger.tallies.all() if one.name == name}


def test_what_two_processes_count_adds_up_and_outlives_them(ledger: Ledger) -> None:
    """Each carries over what is new; a third one, after a restart, goes on from there."""
    for number, owner in enumerate(("one", "two", "one again"), 1):
        mine = Meters()
        recorder = Recorder(ledger, owner, mine)
        mine.add(ATTEMPTS, number, "webhook", "shop", "sent")
        assert recorder.write()
        mine.add(ATTEMPTS, 10, "webhook", "shop", "sent")
        recorder.stop()
    key = json.dumps({"transport": "webhook", "target": "shop", "outcome": "sent"})
    assert values(ledger, ATTEMPTS.name) == {(key, ""): 36}


def test_a_histogram_keeps_each_value_in_one_bucket_and_their_sum(ledger: Ledger) -> None:
    """A bound belongs to its bucket (OpenMetrics: le), and what is above all bounds is counted too."""
    mine = Meters()
    for seconds in (0.01, 0.011, 5000):
        mine.observe(STAGE_SECONDS, seconds, "extract", "done")
    Recorder(ledger, "one", mine).write()
    key = json.dumps({"stage": "extract", "outcome": "done"})
    found = values(ledger, STAGE_SECONDS.name)
    assert found.pop((key, "sum")) == pytest.approx(5000.021)
    assert found == {(key, "0.01"): 1, (key, "0.05"): 1, (key, "+Inf"): 1}


def test_nothing_is_lost_while_the_ledger_is_away(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written counts at the next write, together with what came meanwhile."""
    mine = Meters()
    recorder = Recorder(ledger, "one", mine)
    mine.add(ATTEMPTS, 1, "smtp", "", "sent")

    def down(*_: object) -> None:
        raise Unavailable("ledger", "the disk is away")

    with monkeypatch.context() as broken:
        broken.setattr(ledger.tallies, "add", down)
        assert not recorder.write()
    mine.add(ATTEMPTS, 1, "smtp", "", "sent")
    assert recorder.write()
    assert list(values(ledger, ATTEMPTS.name).values()) == [2]


def test_a_gauge_is_the_highest_of_the_processes_that_live(ledger: Ledger) -> None:
    """One that has ended in order is forgotten at once, one that was killed after a minute."""
    one, two, three = Meters(), Meters(), Meters()
    recorders = [Recorder(ledger, name, mine) for name, mine in (("one", one), ("two", two), ("three", three))]
    for mine, is_open in ((one, False), (two, True), (three, True)):
        mine.set(BREAKER, float(is_open), "webhook:shop")
    for recorder in recorders:
        recorder.write()
    assert [gauge.value for gauge in ledger.tallies.standing()] == [1]
    recorders[1].stop()
    assert [gauge.value for gauge in ledger.tallies.standing()] == [1]
    with ledger.database.write() as connection:  # the third was killed long ago
        old = sa.update(gauges).where(gauges.c.owner == "three").values(at=now_ms() - FRESH_MS - 1)
        connection.execute(old)
    assert [gauge.value for gauge in ledger.tallies.standing()] == [0]
    recorders[0].write()
    with ledger.database.read() as connection:
        assert connection.execute(sa.select(gauges.c.owner)).scalars().all() == ["one"]


def test_no_address_is_a_label(ledger: Ledger) -> None:
    """Mail is counted without its recipient."""
    meters.METERS.take()
    meters.attempted("smtp", "somebody@there.example", "sent")
    meters.stage_ended(Stage.DELIVER, "done", 0.1)
    told = [one.labels for one in meters.METERS.take()]
    assert told
    assert not any("somebody" in labels for labels in told)


def test_each_message_is_counted_once_whoever_counts(
    intake: Intake, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first look on, half a minute late, by two counters in turn; alerts are no messages."""
    ahead = 0
    monkeypatch.setattr("tasks.ledger.tallies.now_ms", lambda: now_ms() + ahead)
    intake.accept(envelope("before"), b"raw")
    ahead = LATE_MS
    assert ledger.tallies.count_arrivals("came") == 0
    time.sleep(0.01)
    other = Ledger(ledger.database.url.render_as_string(hide_password=False))
    for number in range(3):
        intake.accept(envelope(f"k{number}"), b"raw")
    intake.accept(envelope("k", source="webhook:shop"), b"raw")
    assert ledger.tallies.count_arrivals("came") == 0, "they may not all be committed"
    ahead = 3 * LATE_MS
    assert other.tallies.count_arrivals("came") == 4
    assert ledger.tallies.count_arrivals("came") == 0
    other.close()
    assert values(ledger, "came") == {('{"source": "smtp"}', ""): 3, ('{"source": "webhook:shop"}', ""): 1}
