"""The campaign's own parts: a schedule that can be repeated, and a reckoning that notices each breach."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tasks.ledger import Ledger
from tests.chaos.mischief import LANES, schedule
from tests.chaos.reckoning import Arrival, Reckoning, reckon, unended

JOB = "INSERT INTO jobs (id, source, kind, key, state, stage, recipients, content_type, headers, raw_sha256, raw_size, "
JOB += "progress, received_at, updated_at, reason, approved, attempts, outages, lease_token, lease_owner, lease_beat, "
JOB += (
    "sender, subject, message_id, thread, name) VALUES (?, 'webhook:shop', 'event', ?, ?, NULL, '[]', '', '{}', '', 0, "
)
JOB += "'{}', 1000, 2000, '', 0, 0, 0, 0, '', 0, '', '', '', '', '')"
EVENT = "INSERT INTO events (job_id, at, event, stage, detail) VALUES (?, ?, ?, '', '{}')"
DELIVERY = (
    "INSERT INTO deliveries (job_id, ordinal, transport, target, key, content_type, headers, body, state, attempts, "
)
DELIVERY += "reason) VALUES (?, 0, 'webhook', 'books', ?, '', '{}', '', 'sent', 1, '')"
ATTEMPT = "INSERT INTO attempts (job_id, delivery, number, token, started_at, outcome, detail, response) "
ATTEMPT += "VALUES (?, 0, 1, 1, 1, ?, '', '')"
ONE = Arrival("webhook", "j1-0", "aa")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger in which one job is done, with one delivery that was sent in the second of two attempts."""
    file = tmp_path / "ledger.db"
    ledger = Ledger(f"sqlite:///{file}")
    ledger.database.migrate()
    ledger.close()
    run(file, JOB, "j1", "msg_1", "done")
    for at, stage in enumerate(("extract", "classify", "reply", "deliver")):
        run(file, EVENT, "j1", 2000 + 1000 * at, f"{stage} done")
    run(file, DELIVERY, "j1", "j1-0")
    run(file, ATTEMPT, "j1", "in-doubt")
    run(file, ATTEMPT, "j1", "sent")
    return file


def run(path: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()


def found(path: Path, *arrivals: Arrival, accepted: tuple[str, ...] = ("msg_1",)) -> Reckoning:
    return reckon(path, accepted, arrivals)


def test_a_schedule_follows_from_its_seed() -> None:
    """The same seed, the same faults; another seed, others; each lane has some, and they come in order."""
    one = schedule(7, 600)
    assert one == schedule(7, 600)
    assert one != schedule(8, 600)
    assert {fault.lane for fault in one} == set(LANES)
    assert [fault.at for fault in one] == sorted(fault.at for fault in one)


def test_a_repeat_under_the_same_name_is_no_breach(path: Path) -> None:
    """It is counted, as are the attempt in doubt and the time that the job took."""
    told = found(path, ONE, ONE)
    assert told.broken == []
    assert (told.effects["webhook"], told.repeats["webhook"], told.in_doubt, told.longest) == (1, 1, 1, 4.0)
    assert unended(path, 1) == 0


@pytest.mark.parametrize(
    ("arrivals", "said"),
    [
        ([], "counts as sent and never arrived"),
        ([ONE, Arrival("webhook", "j1-0", "bb")], "with different bytes"),
        ([ONE, ONE, ONE], "came 3 times in 2 attempts"),
        ([ONE, Arrival("webhook", "j1-1", "aa")], "j1-1 arrived and is no delivery"),
    ],
)
def test_effects_are_held_against_the_ledger(path: Path, arrivals: list[Arrival], said: str) -> None:
    """What is missing, changed, one too many, or known to nobody."""
    [broken] = found(path, *arrivals).broken
    assert said in broken


def test_messages_are_held_against_the_ledger(path: Path) -> None:
    """One that was acknowledged and is no job, and a job that nobody sent."""
    told = found(path, ONE, accepted=("msg_1", "msg_2"))
    assert (told.lost, told.broken) == (1, ["msg_2 was acknowledged and is no job"])
    assert found(path, ONE, accepted=()).broken == ["msg_1 was sent by nobody and is a job"]


def test_a_job_that_did_not_end_is_lost(path: Path) -> None:
    """Whatever it waits for."""
    run(path, JOB, "j2", "msg_2", "waiting")
    told = found(path, ONE, accepted=("msg_1", "msg_2"))
    assert told.lost == 1
    assert "j2 has not ended: waiting" in told.broken[0]
    assert unended(path, 2) == 1


def test_a_message_that_is_two_jobs_is_doubled(path: Path) -> None:
    """The same Message-ID, another hash behind it."""
    run(path, JOB, "j2", "msg_1 other", "failed")
    told = found(path, ONE)
    assert (told.doubled, told.broken) == (1, ["msg_1 is 2 jobs"])


@pytest.mark.parametrize("event", ["extract done", "failed"])
def test_a_stage_or_an_end_that_stands_twice_is_doubled(path: Path, event: str) -> None:
    """A stage that is done two times, or a job that is done and has failed."""
    run(path, EVENT, "j1", 9000, event)
    told = found(path, ONE)
    assert told.doubled == 1
    assert "a stage or an end twice" in told.broken[0]


def test_a_job_that_skipped_something_is_told(path: Path) -> None:
    """Done without one of its stages, or without its delivery."""
    run(path, "DELETE FROM events WHERE event = 'reply done'")
    assert "done without ['reply done']" in found(path, ONE).broken[0]
    run(path, EVENT, "j1", 2000, "reply done")
    run(path, "DELETE FROM deliveries")
    assert "is done with [] instead of ('webhook',)" in found(path).broken[0]


def test_alerts_are_no_messages(path: Path) -> None:
    """What Postroom tells of itself is counted apart, and is not mistaken for the end of a message."""
    run(path, JOB, "j2", "msg_2", "delivering")
    run(path, JOB.replace("webhook:shop", "postroom"), "j3", "outage:redis:1", "done")
    run(path, EVENT, "j3", 2000, "deliver done")
    assert unended(path, 2) == 1
    assert found(path, ONE, accepted=("msg_1", "msg_2")).broken == ["job j2 has not ended: delivering ()"]
    assert found(path, ONE, accepted=("msg_1", "msg_2")).alerts == 1
