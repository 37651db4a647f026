"""Workers that are killed, ended, poisoned or frozen in mid-work, and those that take their place."""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from pathlib import Path

import pytest

from daemon.embedded.broker import EmbeddedBroker
from tests.faults.parts import (
    FULL,
    QUICK,
    accept,
    by_key,
    child_of,
    ended_once,
    frozen,
    full,
    holder,
    slowly,
    states,
    until_done,
)
from tests.integration.webhook_parts import replies, sink
from tests.street import Street, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
KILLS, RESTARTS = 200, 50
PATIENT = QUICK.replace("max_attempts = 3", f"max_attempts = {KILLS}")
"""No job kills its worker here, but the test does: a stage that was begun in three dying workers is nobody's poison."""
GRACE = 15.0
"""Seconds after SIGTERM in which a worker has to be gone, as `postroom up` and the units allow."""


@full
@pytest.mark.fault(number=5)
def test_nothing_is_lost_in_two_hundred_kills_under_backlog(tmp_path: Path) -> None:
    """Half of the workers die right at the pop, which Redis cannot undo, half at any moment (fault 5)."""
    dice = random.Random(5)
    with (
        sink(replies("200 OK")) as receiver,
        EmbeddedBroker(tmp_path / "broker") as broker,
        Street(tmp_path, broker=broker.url, sink=receiver.url, worker=PATIENT + "deliver_concurrency = 1") as street,
    ):
        jobs = accept(street, KILLS + KILLS // 4)
        street.start("rescue")
        street.start("worker", program=("-m", "tests.faults.forking", "at-pop"))
        parent, dead = street.processes[-1].pid, set()
        for _ in range(KILLS // 2):
            child = until(lambda: (found := child_of(parent)) not in dead and found, 120, "the next worker")
            until(lambda child=child: child_of(parent) != child, 120, "its death at the pop")
            dead.add(child)
        street.processes[-1].terminate()
        street.processes[-1].wait(60)
        ledger = street.ledger()
        assert states(ledger) == {"received": len(jobs)}, "every one of them has died before it began"
        street.start("worker", program=("-m", "tests.faults.forking"))
        parent = street.processes[-1].pid
        for number in range(KILLS // 2):
            until(lambda number=number: street.log(2).count('"ready"') > number, 120, "the next worker")
            time.sleep(dice.uniform(0, 0.4))
            os.kill(child_of(parent), signal.SIGKILL)
        until_done(ledger, len(jobs), 900)
        ended_once(ledger, jobs)
        came = by_key(receiver)
        assert len(came) == len(jobs)
        assert all(len(set(bodies)) == 1 for bodies in came.values())
        ledger.close()


@pytest.mark.fault(number=7)
def test_killed_after_the_remote_s_2xx_the_same_key_goes_again(tmp_path: Path) -> None:
    """The receiver has it, the ledger does not know: the same bytes under the same key, and the job says in doubt (7)."""
    with (
        sink(replies("200 OK")) as receiver,
        EmbeddedBroker(tmp_path / "broker") as broker,
        Street(tmp_path, broker=broker.url, sink=receiver.url, worker=QUICK) as street,
    ):
        [job] = accept(street, 1)
        street.start("rescue")
        street.start("worker", program=("-m", "tests.faults.tampered", "after-effect"))
        assert street.processes[-1].wait(60) == -signal.SIGKILL
        street.start("worker")
        ledger = street.ledger()
        until_done(ledger, 1)
        [bodies] = by_key(receiver).values()
        assert len(bodies) == 2
        assert len(set(bodies)) == 1
        assert len({seen.headers["webhook-id"] for seen in receiver.seen}) == 1
        assert [attempt.outcome for attempt in ledger.deliveries.attempts_of(job)] == ["in-doubt", "sent"]
        ended_once(ledger, [job])
        ledger.close()


@full
@pytest.mark.fault(number=16)
def test_poison_is_a_dead_letter_and_the_others_go_on(tmp_path: Path) -> None:
    """A message that kills whoever reads it is given up after max_attempts; what came with it is done (fault 16)."""
    with (
        sink(replies("200 OK")) as receiver,
        EmbeddedBroker(tmp_path / "broker") as broker,
        Street(tmp_path, broker=broker.url, sink=receiver.url, worker=QUICK) as street,
    ):
        [poison] = accept(street, 1, 100, b'{"says": "poison"}')
        others = accept(street, 6)
        street.start("rescue")
        street.start("worker", program=("-m", "tests.faults.forking", "poison"))
        ledger = street.ledger()
        until(lambda: states(ledger) == {"done": 6, "failed": 1}, 120, "the end of all jobs")
        job = ledger.jobs.get(poison)
        assert job
        assert "begun 3 times and never ended" in job.reason
        assert [event.event for event in ledger.jobs.events(poison)].count("lease taken back") == 3
        ended_once(ledger, others)
        ledger.close()


@full
@pytest.mark.fault(number=17)
def test_fifty_restarts_lose_nothing(tmp_path: Path) -> None:
    """SIGTERM under load: the worker is gone within its grace, nothing is lost and nothing sent twice (fault 17)."""
    dice = random.Random(17)
    ends = []
    with (
        sink(slowly(0.3, 10_000)) as receiver,
        EmbeddedBroker(tmp_path / "broker") as broker,
        Street(tmp_path, broker=broker.url, sink=receiver.url, worker=QUICK) as street,
    ):
        jobs = accept(street, 3 * RESTARTS)
        street.start("rescue")
        street.start("worker", program=("-m", "tests.faults.forking"))
        parent = street.processes[-1].pid
        for number in range(RESTARTS):
            until(lambda number=number: street.log(1).count('"ready"') > number, 120, "the next worker")
            time.sleep(dice.uniform(0, 0.5))
            child, began = child_of(parent), time.monotonic()
            os.kill(child, signal.SIGTERM)
            until(lambda child=child: child_of(parent) != child, 60, "its end")
            ends.append(time.monotonic() - began)
        ledger = street.ledger()
        until_done(ledger, len(jobs), 900)
        ended_once(ledger, jobs)
        assert sorted(len(bodies) for bodies in by_key(receiver).values()) == [1] * len(jobs)
        print(f"seconds until gone: {statistics.median(ends):.1f} as a rule, {max(ends):.1f} at most")
        assert max(ends) < GRACE
        ledger.close()


@pytest.mark.skipif(not FULL, reason="tests/unit/ledger/test_leases.py shows the refusal in a moment")
@pytest.mark.fault(number=18)
def test_a_frozen_worker_that_wakes_is_refused(tmp_path: Path) -> None:
    """While it was frozen in a delivery another one has done the job; what it writes late changes nothing (fault 18)."""
    with (
        sink(slowly(3)) as receiver,
        EmbeddedBroker(tmp_path / "broker") as broker,
        Street(tmp_path, broker=broker.url, sink=receiver.url, worker=QUICK) as street,
    ):
        [job] = accept(street, 1)
        street.start("rescue")
        street.start("worker")
        ledger = street.ledger()
        until(lambda: receiver.seen, 60, "the delivery under way")
        with frozen(holder(ledger, "delivering")):
            street.start("worker")
            until_done(ledger, 1)
            story = ledger.jobs.events(job)
        until(lambda: "lease lost" in street.log(1), 60, "the refusal of the late write")
        assert ledger.jobs.events(job) == story
        assert [attempt.outcome for attempt in ledger.deliveries.attempts_of(job)] == ["in-doubt", "sent"]
        [bodies] = by_key(receiver).values()
        assert len(set(bodies)) == 1
        ended_once(ledger, [job])
        ledger.close()
