"""A real worker on a real broker: which stages it goes on with by itself, and which it hands over."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from config.engine import WorkerSettings
from config.settings import Settings
from daemon.embedded.broker import EmbeddedBroker
from daemon.rescue import Rescue
from tasks.app import make_app, name_of, publish, queued
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.models import Job, Stage
from tests.conftest import envelope
from tests.integration.worker_parts import begun, ended

WORKER = """
import json, sys, time
from dataclasses import replace
from config.settings import Settings
from tasks import log
from tasks.pipeline import STAGES, Done
from tasks.worker import run_worker
told = json.loads(sys.argv[1])
settings = Settings.model_validate(told["settings"])
log.configure(settings, "worker")

def work(shop, job, held):
    time.sleep(told["seconds"])
    return Done(value={}, job={"state": "done"} if held.lease.stage == "deliver" else {})

steps = [replace(step, work=work) for step in STAGES]
sys.exit(run_worker(settings, told["queues"], 2, lambda: print("ready", flush=True), steps=steps))
"""

pytestmark = pytest.mark.sqlite_only
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as started:
        yield started


@pytest.fixture
def connected(settings: Settings, broker: EmbeddedBroker) -> Settings:
    redis.Redis.from_url(broker.url).flushall()
    return settings.model_copy(update={"broker_url": broker.url})


@pytest.fixture
def start(connected: Settings) -> Iterator[Start]:
    """Starts workers whose stages take so many seconds and do nothing else."""
    started: list[subprocess.Popen[str]] = []

    def begin(*queues: str, seconds: float = 0) -> subprocess.Popen[str]:
        values = {"state_dir": str(connected.state_dir), "broker_url": connected.broker_url}
        values |= {"ledger_url": connected.ledger_url, "log_format": "json"}
        started.append(begun(WORKER, settings=values, queues=queues, seconds=seconds))
        return started[-1]

    yield begin
    ended(started)


def until(ledger: Ledger, job_id: str, right: Callable[[Job], bool]) -> Job:
    deadline = time.monotonic() + 60
    while True:
        job = ledger.jobs.get(job_id)
        assert job
        if right(job):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.02)


def test_a_worker_hands_over_only_what_it_does_not_serve(
    connected: Settings, ledger: Ledger, intake: Intake, start: Start
) -> None:
    """Two queues of three: one message comes in, one goes out, for the stage that is left; another worker ends the job."""
    app = make_app(connected)
    start("extract", "model")
    job_id = intake.accept(envelope(), b"body").job_id
    publish(app, job_id, Stage.EXTRACT)
    until(ledger, job_id, lambda job: job.stage is Stage.DELIVER and not job.lease_owner)
    client = redis.Redis.from_url(connected.broker)
    deadline = time.monotonic() + 60
    while not client.llen("deliver"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    [message] = client.lrange("deliver", 0, -1)
    assert json.loads(message)["headers"]["task"] == name_of(Stage.DELIVER)
    assert queued(app)["model"] == 0
    start("deliver")
    job = until(ledger, job_id, lambda job: job.stage is None)
    assert (job.state, job.lease_token) == ("done", 4)


def test_a_worker_that_is_told_to_stop_begins_no_further_stage(
    connected: Settings, ledger: Ledger, intake: Intake, start: Start
) -> None:
    """It ends the stage that it has, and the broker gets the next one, for whoever runs then."""
    worker = start("extract", "model", "deliver", seconds=2.5)
    job_id = intake.accept(envelope(), b"body").job_id
    publish(make_app(connected), job_id, Stage.EXTRACT)
    until(ledger, job_id, lambda job: bool(job.lease_owner))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    job = until(ledger, job_id, lambda job: not job.lease_owner)
    assert job.stage in (Stage.CLASSIFY, Stage.REPLY)
    assert queued(make_app(connected))["model"] == 1


def test_a_frozen_worker_that_wakes_after_its_job_was_done_changes_nothing(
    connected: Settings, ledger: Ledger, intake: Intake, start: Start
) -> None:
    """SIGSTOP in a stage: the rescue gives the job away, another worker ends it, and the late write is refused."""
    worker = start("extract", seconds=6)
    job_id = intake.accept(envelope(), b"body").job_id
    app = make_app(connected)
    publish(app, job_id, Stage.EXTRACT)
    until(ledger, job_id, lambda job: bool(job.lease_owner))
    worker.send_signal(signal.SIGSTOP)
    rescue = Rescue(connected.model_copy(update={"worker": WorkerSettings(lease=1.2)}), ledger, app)

    def freed(job: Job) -> bool:
        rescue.free_leases()
        return not job.lease_owner

    until(ledger, job_id, freed)
    other = start("extract", "model", "deliver")
    publish(app, job_id, Stage.EXTRACT)
    done = until(ledger, job_id, lambda job: job.stage is None)
    story = ledger.jobs.events(job_id)
    worker.send_signal(signal.SIGCONT)
    assert worker.stderr
    lines = iter(worker.stderr.readline, "")
    lost = next(told for line in lines if (told := json.loads(line)).get("event") == "lease lost")
    assert (lost["job"], lost["stage"]) == (job_id, "extract")
    assert (ledger.jobs.get(job_id), ledger.jobs.events(job_id)) == (done, story)
    assert [event.event for event in story].count("extract done") == 1
    assert other.poll() is None
