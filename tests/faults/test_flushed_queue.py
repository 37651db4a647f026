"""The broker forgets thousands of jobs at once: the queue is built anew, as fast as workers take and no fuller.

500 jobs; with POSTROOM_TEST_FULL 10,000, for which 60 s are given. Broker, ledger and two rescues are real; what takes the
messages marks a job as done and does no more, so that it is the rescue that is timed.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import redis
import sqlalchemy as sa

from config.engine import RescueSettings
from config.settings import Settings
from daemon import rescue
from daemon.embedded.broker import EmbeddedBroker
from tasks.app import make_app, queued
from tasks.clock import now_ms
from tasks.ledger import Ledger
from tasks.ledger.schema import jobs
from tasks.models import Stage

pytestmark = [pytest.mark.sqlite_only, pytest.mark.timeout(600)]
FULL = bool(os.environ.get("POSTROOM_TEST_FULL"))
JOBS, MOST_QUEUED = (10_000, 1_000) if FULL else (500, 50)
SECONDS = 60


@pytest.fixture
def broker(tmp_path: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as started:
        yield started


def open_jobs(ledger: Ledger) -> list[str]:
    """Jobs in mid-trip, every one of them published a minute ago."""
    at, ids = now_ms(), [f"00{number:024d}" for number in range(JOBS)]
    stages = [Stage.EXTRACT, Stage.CLASSIFY, Stage.DELIVER]
    row = {"source": "smtp", "kind": "mail", "recipients": [], "headers": {}, "progress": {}, "raw": b"body"}
    row |= {"content_type": "message/rfc822", "raw_sha256": "0" * 64, "raw_size": 4, "enqueued_at": at - 60_000}
    own = [
        {"id": one, "key": one, "stage": stages[number % 3].value, "state": "classifying", "received_at": at + number}
        for number, one in enumerate(ids)
    ]
    with ledger.database.write() as connection:
        connection.execute(sa.insert(jobs), [{**row, **mine, "updated_at": at} for mine in own])
    return ids


class Takers:
    """Takes messages in bulk, as many workers would, ends their jobs, and counts how often each one came."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._client = redis.Redis.from_url(settings.broker)
        self._ledger = ledger
        self.came: Counter[str] = Counter()

    def take(self) -> None:
        """One round of all queues."""
        messages = [one for queue in ("extract", "model", "deliver") for one in self._client.rpop(queue, 40) or ()]
        ids = [json.loads(message)["headers"]["argsrepr"].strip("(),'") for message in messages]
        self.came.update(ids)
        ended = sa.update(jobs).where(jobs.c.id.in_(ids), jobs.c.stage.is_not(None))
        with self._ledger.database.write() as connection:
            connection.execute(ended.values(stage=None, state="done", updated_at=now_ms()))


def test_a_flushed_queue_is_built_anew_without_a_flood(
    settings: Settings, ledger: Ledger, broker: EmbeddedBroker
) -> None:
    """FLUSHALL with all jobs open: within a minute each one has come, once, and the queues were never too full."""
    connected = settings.model_copy(
        update={"broker_url": broker.url, "rescue": RescueSettings(tick=0.2, max_queued=MOST_QUEUED, lost_after=3600)}
    )
    app = make_app(connected)
    before = rescue.Rescue(connected, ledger, app)
    before.tick()  # a rescue has seen this broker
    ids = open_jobs(ledger)
    time.sleep(0.01)
    broker_client = redis.Redis.from_url(broker.url)
    broker_client.flushall()
    begun, stop, depths = time.monotonic(), threading.Event(), [0]
    rescues = [threading.Thread(target=rescue.run, args=(connected, stop, lambda _: None)) for _ in range(2)]
    takers = Takers(connected, ledger)
    for thread in rescues:
        thread.start()
    try:
        while ledger.backlog.waiting()[0]:
            assert time.monotonic() - begun < (SECONDS if FULL else 4 * SECONDS), len(takers.came)
            depths.append(sum(queued(app).values()))
            takers.take()
        took = time.monotonic() - begun
    finally:
        stop.set()
        for thread in rescues:
            thread.join(60)
    print(f"{JOBS} jobs came back in {took:.1f} s, {max(depths)} in the queues at most")
    assert sorted(takers.came) == ids
    assert set(takers.came.values()) == {1}
    assert max(depths) <= 2 * MOST_QUEUED
    assert ledger.rescues.all() == []
