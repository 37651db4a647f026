"""A broker that dies, forgets everything, is cut off, or gives out again what is still being worked on."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from config.settings import load
from daemon.embedded.broker import EmbeddedBroker
from tasks.app import make_app, queued
from tasks.intake import Intake
from tasks.models import Kind, State
from tests.conftest import envelope
from tests.faults.parts import QUICK, accept, by_key, ended_once, full, slowly, until_done
from tests.faults.proxy import proxying
from tests.integration.webhook_parts import replies, sink
from tests.street import Street, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), full]
KILLS, OPEN, DONE = 20, 10_000, 200
AGAIN = 10.0
"""Seconds after the broker's return in which work has to be done again."""
PARTED = 60.0
UP = '[smtp]\nenabled = false\n[model]\nhost = "http://127.0.0.1:9"\n'
"""No door, and no model server, since nothing is asked."""
NO_WEB = "enabled = false"


@pytest.mark.fault(number=9)
def test_twenty_kills_and_it_consumes_again(tmp_path: Path) -> None:
    """kill -9 of the broker: a message that comes when it is back is done within ten seconds (fault 9)."""
    waits = []
    with (
        sink(replies("200 OK")) as receiver,
        EmbeddedBroker(tmp_path / "broker") as broker,
        Street(tmp_path, broker=broker.url, sink=receiver.url, worker=QUICK, web=NO_WEB, more=UP) as street,
    ):
        broker._wanted_port = urlsplit(broker.url).port or 0  # where everybody looks for it again
        street.start("up", ready="(postroom is up)")
        ledger = street.ledger()
        accept(street, 1)
        until_done(ledger, 1)
        for number in range(1, KILLS + 1):
            assert broker.pid
            os.kill(broker.pid, signal.SIGKILL)
            until(lambda: broker.pid is None, 10, "its death")
            broker.start()
            began = time.monotonic()
            accept(street, 1, number)
            until_done(ledger, number + 1)
            waits.append(time.monotonic() - began)
        ended = street.log(0).count('"process ended"')
        print(f"{ended} workers ended; seconds until consuming again:", *(f"{wait:.1f}" for wait in waits))
        assert max(waits) < AGAIN
        assert [len(bodies) for bodies in by_key(receiver).values()] == [1] * (KILLS + 1)
        ledger.close()


@pytest.mark.fault(number=10)
def test_flushed_with_ten_thousand_open_jobs(tmp_path: Path) -> None:
    """The queue is rebuilt within a minute, never fuller than the workers need it, and what is done is done once (10)."""
    with (
        sink(replies("200 OK")) as receiver,
        EmbeddedBroker(tmp_path / "broker") as broker,
        Street(tmp_path, broker=broker.url, sink=receiver.url, worker="deliver_concurrency = 8") as street,
        redis.Redis.from_url(broker.url) as memory,
    ):
        settings = load(street.config)
        intake, app = Intake.open(settings), make_app(settings)

        def take(key: int) -> str:
            source = {"source": "webhook:shop", "kind": Kind.EVENT, "content_type": "application/json"}
            return intake.accept(envelope(f"k{key}", **source), b'{"order": 1}').job_id

        with ThreadPoolExecutor(32) as pool:
            list(pool.map(take, range(OPEN)))
        intake.close()
        street.start("rescue")
        most = settings.rescue.max_queued
        until(lambda: sum(queued(app).values()) >= most * 0.9, 60, "a full queue")
        memory.flushall()
        began = time.monotonic()
        until(lambda: sum(queued(app).values()) >= most * 0.9, 60, "the queue being rebuilt")
        print(f"rebuilt in {time.monotonic() - began:.1f} s")
        street.start("worker")
        ledger = street.ledger()
        fullest = [0]

        def some_done() -> bool:
            fullest.append(sum(queued(app).values()))
            return ledger.jobs.counts().get("done", 0) >= DONE

        until(some_done, 600, f"{DONE} done jobs")
        assert max(fullest) <= most * 1.5, "the queue was flooded"
        done = [job.id for job in ledger.jobs.page(states=[State.DONE], limit=DONE)]
        ended_once(ledger, done)
        assert all(len(bodies) == 1 for bodies in by_key(receiver).values())
        assert sum(ledger.jobs.counts().values()) == OPEN
        ledger.close()


@pytest.mark.fault(number=13)
@pytest.mark.parametrize("forgotten", [False, True], ids=["mended", "connections forgotten"])
def test_a_parted_network_leaves_no_deaf_worker(tmp_path: Path, forgotten: bool) -> None:
    """A minute without a word from the broker; work goes on after it, be the old connections alive or not (fault 13)."""
    with (
        sink(replies("200 OK")) as receiver,
        EmbeddedBroker(tmp_path / "broker") as broker,
        proxying(urlsplit(broker.url).port or 0) as network,
        Street(
            tmp_path,
            broker=f"{broker.url.rpartition(':')[0]}:{network.port}/0",
            sink=receiver.url,
            worker=QUICK,
            web=NO_WEB,
            more=UP,
        ) as street,
    ):
        street.start("up", ready="(postroom is up)")
        ledger = street.ledger()
        accept(street, 5)
        until_done(ledger, 5)
        network.part()
        if forgotten:
            network.hang()
        accept(street, 5, 5)
        time.sleep(PARTED)
        network.mend()
        began = time.monotonic()
        accept(street, 5, 10)
        until_done(ledger, 15, 60)
        print(f"consuming again after {time.monotonic() - began:.1f} s")
        assert all(len(bodies) == 1 for bodies in by_key(receiver).values())
        ledger.close()


@pytest.mark.fault(number=14)
def test_longer_than_the_visibility_timeout_is_one_effect(tmp_path: Path) -> None:
    """The broker gives a message out again while its delivery is under way: the second worker leaves it alone (14)."""
    with (
        sink(slowly(10)) as receiver,
        EmbeddedBroker(tmp_path / "broker") as broker,
        Street(tmp_path, broker=broker.url, sink=receiver.url, worker=QUICK) as street,
    ):
        street.start("rescue")
        for _ in range(2):
            street.start("worker", program=("-m", "tests.faults.tampered", "visibility=2"))
        [job] = accept(street, 1)
        ledger = street.ledger()
        until_done(ledger, 1)
        assert "given out again" in street.log(1) + street.log(2)
        assert [len(bodies) for bodies in by_key(receiver).values()] == [1]
        assert [attempt.outcome for attempt in ledger.deliveries.attempts_of(job)] == ["sent"]
        ended_once(ledger, [job])
        ledger.close()
