"""A worker proves that it consumes, through a real broker; one that is deaf ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from config.settings import Settings
from daemon.embedded.broker import EmbeddedBroker
from tasks.app import make_app
from tasks.canary import PATIENCE, SEEN, workers
from tasks.worker import DEAF
from tests.integration.worker_parts import begun, ended

WORKER = """
import json, sys, threading, time
from celery.signals import worker_ready
from config.settings import Settings
from tasks import log, pipeline, worker
told = json.loads(sys.argv[1])
settings = Settings.model_validate(told["settings"])
log.configure(settings, "worker")

@worker_ready.connect(weak=False)
def begin(sender, **_):
    if told["deaf_after"]:
        threading.Timer(told["deaf_after"], sender.task_consumer.cancel).start()

if told["busy"]:
    worker.run = lambda *_: time.sleep(told["busy"])
sys.exit(worker.run_worker(settings, ["extract"], 1, lambda: print("ready", flush=True), lambda: print("alive", flush=True)))
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path / "broker") as started:
        yield started


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(settings: Settings, broker: EmbeddedBroker) -> Iterator[Start]:
    """Starts real workers whose canary flies once a second."""
    started: list[subprocess.Popen[str]] = []

    def begin(*, deaf_after: float = 0, busy: float = 0) -> subprocess.Popen[str]:
        values = {"state_dir": str(settings.state_dir), "broker_url": broker.url, "worker": {"canary": 1}}
        started.append(begun(WORKER, settings=values, deaf_after=deaf_after, busy=busy))
        return started[-1]

    yield begin
    ended(started)


def lines(process: subprocess.Popen[str], number: int) -> None:
    """Wait for so many proofs."""
    assert process.stdout
    for _ in range(number):
        assert process.stdout.readline() == "alive\n", process.communicate()


def test_a_worker_proves_that_it_consumes(start: Start, broker: EmbeddedBroker, settings: Settings) -> None:
    """Its proofs come on, `workers` names it, and when it ends it leaves nothing that stays in the broker."""
    process = start()
    lines(process, 2)
    app = make_app(settings.model_copy(update={"broker_url": broker.url}))
    assert [one["serves"] for one in workers(app)] == ["extract"]
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    with redis.Redis.from_url(broker.url, decode_responses=True) as client:
        left = [key for key in client.scan_iter("*") if "canary" in key or key.startswith(SEEN)]
        assert all(0 < client.ttl(key) <= 7 for key in left), left
        assert not list(client.scan_iter("_kombu.binding.canary*"))


@pytest.mark.fault(number=13)
def test_a_deaf_worker_ends(start: Start) -> None:
    """Connected, without an error, and consuming nothing: it says so and ends, so that it is started again."""
    process = start(deaf_after=1.5)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == DEAF
    assert "worker deaf" in said


def test_a_worker_without_a_broker_waits(start: Start, broker: EmbeddedBroker) -> None:
    """A broker that is down is no deafness: the worker goes on feeding its watchdog, and consumes when it is back."""
    process = start()
    lines(process, 1)
    os.kill(broker.pid or 0, signal.SIGSTOP)
    try:
        time.sleep(3)
        assert process.poll() is None
    finally:
        os.kill(broker.pid or 0, signal.SIGCONT)
    lines(process, 3)
    assert process.poll() is None


def test_a_worker_that_is_full_is_not_deaf(start: Start, broker: EmbeddedBroker, settings: Settings) -> None:
    """While its one place is taken for longer than three canaries take, it stays."""
    process = start(busy=100)
    app = make_app(settings.model_copy(update={"broker_url": broker.url}))
    app.send_task("postroom.extract", args=("x" * 26,), queue="extract")
    lines(process, PATIENCE + 3)
    assert process.poll() is None
