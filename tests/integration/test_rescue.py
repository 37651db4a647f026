"""The rescue against a real broker and a real ledger."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from celery import Celery

from config.engine import RescueSettings, WorkerSettings
from config.settings import Settings
from daemon import checks
from daemon.embedded.broker import EmbeddedBroker
from daemon.rescue import FRESH_MS, Rescue
from tasks.app import make_app, publish, queued
from tasks.clock import now_ms
from tasks.heart import is_gone, this_process
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.models import Kind, Stage, State
from tasks.nudger import Nudger
from tests.conftest import envelope


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as started:
        yield started


@pytest.fixture
def url(broker: EmbeddedBroker) -> str:
    redis.Redis.from_url(broker.url).flushall()
    return broker.url


def rescue_of(settings: Settings, ledger: Ledger, url: str, **changes: float) -> Rescue:
    made = settings.model_copy(
        update={
            "broker_url": url,
            "rescue": RescueSettings(
                lost_after=changes.get("lost_after", 0.2), max_queued=int(changes.get("max_queued", 1000))
            ),
            "worker": WorkerSettings(lease=changes.get("lease", 60)),
        }
    )
    return Rescue(made, ledger, make_app(made))


def accept(intake: Intake, number: int) -> list[str]:
    return [intake.accept(envelope(str(index)), b"body").job_id for index in range(number)]


def age(ledger: Ledger) -> None:
    """Make every job look as if it had come a while ago."""
    with ledger.database.write() as connection:
        connection.exec_driver_sql(f"UPDATE jobs SET updated_at = updated_at - {FRESH_MS + 1}")


def test_a_job_that_nobody_published_is_published_once(
    settings: Settings, ledger: Ledger, intake: Intake, url: str
) -> None:
    """Accepted while the broker was down: the next looks put it to work, once."""
    accept(intake, 3)
    age(ledger)
    rescue = rescue_of(settings, ledger, url)
    assert [rescue.tick(), rescue.tick()] == [3, 0]
    assert queued(rescue._app)["extract"] == 3


def test_a_new_job_is_published_to_its_first_stage(
    settings: Settings, ledger: Ledger, intake: Intake, url: str
) -> None:
    """An event waits for a worker that fetches, all else for one that reads; none of them for the rescue."""
    app = make_app(settings.model_copy(update={"broker_url": url}))
    nudger = Nudger(app, ledger)
    intake.nudge = nudger
    accept(intake, 2)
    intake.accept(envelope("event", source="webhook:shop", kind=Kind.EVENT, content_type="application/json"), b"{}")
    deadline = time.monotonic() + 60
    while sum(queued(app).values()) < 3:
        assert time.monotonic() < deadline, queued(app)
        time.sleep(0.05)
    nudger.close()
    assert (queued(app)["fetch"], queued(app)["extract"]) == (1, 2)
    age(ledger)
    assert not ledger.backlog.not_enqueued(10, older_than_ms=0)


def test_a_message_carries_the_job_id_and_nothing_else(
    settings: Settings, ledger: Ledger, intake: Intake, url: str
) -> None:
    """What the broker holds has no sender, no subject and no text."""
    [job_id] = accept(intake, 1)
    publish(make_app(settings.model_copy(update={"broker_url": url})), job_id, Stage.EXTRACT)
    raw = redis.Redis.from_url(url).lrange("extract", 0, -1)[0].decode()
    assert job_id in raw
    assert "sender.example" not in raw


@pytest.mark.fault(number=10)
def test_a_flushed_broker_is_filled_again(settings: Settings, ledger: Ledger, intake: Intake, url: str) -> None:
    """Jobs that were published and vanished with all else are published again at the next look, by one rescue of two."""
    accept(intake, 5)
    age(ledger)
    one, two = (rescue_of(settings, ledger, url, lost_after=3600) for _ in range(2))
    assert one.tick() == 5
    time.sleep(0.01)  # what was published in the very millisecond of the flush waits for `lost_after`
    redis.Redis.from_url(url).flushall()
    assert sorted([one.tick(), two.tick()]) == [0, 5]
    assert queued(one._app)["extract"] == 5


def test_a_job_that_vanished_alone_is_published_again_when_it_is_late(
    settings: Settings, ledger: Ledger, intake: Intake, url: str
) -> None:
    """A worker that was killed between the broker and its first step takes a message with it; nothing tells of that."""
    accept(intake, 5)
    age(ledger)
    patient, rescue = rescue_of(settings, ledger, url, lost_after=3600), rescue_of(settings, ledger, url)
    patient.tick()
    redis.Redis.from_url(url).delete("extract")
    assert patient.tick() == 0
    time.sleep(0.3)
    assert rescue.tick() == 5


@pytest.mark.parametrize("step", [600, -600])
def test_a_step_of_the_wall_clock_keeps_no_job_from_its_work(
    settings: Settings, ledger: Ledger, intake: Intake, url: str, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Ten minutes forward or back: new jobs and lost ones are published as ever."""
    accept(intake, 2)
    age(ledger)
    rescue = rescue_of(settings, ledger, url)
    rescue.tick()
    intake.accept(envelope("new"), b"body")
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + step * 10**9)
    redis.Redis.from_url(url).delete("extract")
    time.sleep(0.3)
    assert rescue.tick() == 3


def test_jobs_that_wait_in_a_queue_are_not_doubled(
    settings: Settings, ledger: Ledger, intake: Intake, url: str
) -> None:
    """A long queue is no loss: while it moves, nothing is published a second time."""
    accept(intake, 5)
    age(ledger)
    rescue = rescue_of(settings, ledger, url)
    rescue.tick()
    time.sleep(0.3)
    assert rescue.tick() == 0
    assert queued(rescue._app)["extract"] == 5


def test_the_broker_gets_only_what_the_workers_can_take(
    settings: Settings, ledger: Ledger, intake: Intake, url: str
) -> None:
    """A backlog is handed over piece by piece."""
    accept(intake, 20)
    age(ledger)
    rescue = rescue_of(settings, ledger, url, max_queued=6)
    for _ in range(3):
        rescue.tick()
    assert queued(rescue._app)["extract"] == 6


def test_a_broker_that_is_down_stops_nothing(settings: Settings, ledger: Ledger, intake: Intake) -> None:
    """The rescue says so and looks again; the jobs stay in the ledger."""
    accept(intake, 2)
    age(ledger)
    rescue = rescue_of(settings, ledger, "redis://127.0.0.1:9/0")
    assert rescue.tick() == 0
    assert len(ledger.backlog.not_enqueued(9, older_than_ms=0)) == 2


def test_the_lease_of_a_dead_process_is_freed_at_once(
    settings: Settings, ledger: Ledger, intake: Intake, url: str
) -> None:
    """On the same host the process table tells; nobody waits for a time-out."""
    [job_id] = accept(intake, 1)
    code = "from tasks.heart import this_process; print(this_process())"
    owner = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    ledger.leases.claim(job_id, Stage.EXTRACT, State.EXTRACTING, owner)
    rescue_of(settings, ledger, url).tick()
    job = ledger.jobs.get(job_id)
    assert job is not None
    assert job.lease_owner == ""


def test_the_lease_of_a_living_process_stays(
    settings: Settings, ledger: Ledger, intake: Intake, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that beats keeps what it has; one that stands still for a lease's length loses it."""
    [job_id] = accept(intake, 1)
    claimed = ledger.leases.claim(job_id, Stage.EXTRACT, State.EXTRACTING, this_process())
    assert claimed
    rescue, ahead, real = rescue_of(settings, ledger, url, lease=60), [0.0], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + ahead[0])
    for _ in range(7):
        rescue.free_leases()
        ledger.leases.beat([(claimed[1], {})])
        ahead[0] += 20
    assert ledger.leases.held()
    for _ in range(7):
        rescue.free_leases()
        ahead[0] += 20
    assert not ledger.leases.held()


@pytest.mark.fault(number=19)
def test_a_step_of_the_wall_clock_steals_no_lease(
    settings: Settings, ledger: Ledger, intake: Intake, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases do not look at the wall clock: ten minutes forward or back change nothing."""
    [job_id] = accept(intake, 1)
    ledger.leases.claim(job_id, Stage.EXTRACT, State.EXTRACTING, this_process())
    rescue = rescue_of(settings, ledger, url, lease=30)
    rescue.free_leases()
    real = time.time_ns
    for step in (600, -600):
        monkeypatch.setattr(time, "time_ns", lambda step=step: real() + step * 10**9)
        rescue.free_leases()
        assert ledger.leases.held()


@pytest.mark.parametrize("step", [600, -600])
def test_a_step_of_the_wall_clock_leaks_no_lease(
    settings: Settings, ledger: Ledger, intake: Intake, url: str, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """One whose beat stands still is freed as soon as without it; the holder's write before that counts."""
    dead, alive = accept(intake, 2)
    ledger.leases.claim(dead, Stage.EXTRACT, State.EXTRACTING, this_process())
    claimed = ledger.leases.claim(alive, Stage.EXTRACT, State.EXTRACTING, this_process())
    assert claimed
    rescue = rescue_of(settings, ledger, url, lease=1.2)
    rescue.free_leases()
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + step * 10**9)
    ledger.leases.beat([(claimed[1], {})])
    ledger.leases.finish(claimed[1], value={}, job={"stage": "classify", "state": "classifying"}, event="e", detail={})
    begun = time.monotonic()
    while ledger.leases.held():
        assert time.monotonic() - begun < 30
        time.sleep(0.2)
        rescue.free_leases()
    assert time.monotonic() - begun > 1


def test_what_the_rescue_did_not_watch_costs_no_lease(
    settings: Settings, ledger: Ledger, intake: Intake, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the ledger is away nobody can beat, and a rescue that was frozen saw nothing: after that it begins anew."""
    [job_id] = accept(intake, 1)
    ledger.leases.claim(job_id, Stage.EXTRACT, State.EXTRACTING, this_process())
    rescue = rescue_of(settings, ledger, url, lease=60)
    rescue.free_leases()
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + 600)
    rescue.free_leases()
    assert ledger.leases.held()


def test_each_stage_has_a_lease_of_its_own_length(
    settings: Settings, ledger: Ledger, intake: Intake, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent too early is sent twice, so that deliver keeps its lease longer; each can be set."""
    worker = WorkerSettings(lease=60, classify_lease=20)
    assert [worker.lease_of(stage) for stage in ("extract", "classify", "deliver")] == [60, 20, 180]
    assert worker.shortest_lease() == 20
    [job_id] = accept(intake, 1)
    assert ledger.jobs.retry(job_id, Stage.DELIVER, why="test")
    ledger.leases.claim(job_id, Stage.DELIVER, State.DELIVERING, this_process())
    rescue, ahead, real = rescue_of(settings, ledger, url, lease=4), [0.0], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + ahead[0])
    held = []
    for _ in range(5):
        rescue.free_leases()
        held.append(len(ledger.leases.held()))
        ahead[0] += 4.5
    assert held[:3] == [1, 1, 1]
    assert held[-1] == 0


def test_a_rescue_tells_what_waits_and_how_long_it_takes(
    settings: Settings, ledger: Ledger, intake: Intake, url: str
) -> None:
    """In the ledger, as numbers; `postroom check` says them in words, and whose rescue has fallen silent."""
    accept(intake, 8)
    age(ledger)
    rescue = rescue_of(settings, ledger, url, max_queued=6)
    rescue.tick()
    told = rescue.tally.tell()
    assert told
    assert [told] == ledger.rescues.all()
    assert (told.open_jobs, told.published, told.queued, told.unpublished, told.looks) == (8, 6, 6, 2, 1)
    assert rescue.tally.tell() is None
    [finding] = checks.rescues(ledger)
    assert (finding.state, "8 open jobs" in finding.detail, "2 not yet in a queue" in finding.detail) == (
        "ok",
        True,
        True,
    )
    ledger.rescues.tell(told.model_copy(update={"at": told.at - 120_000}))
    [finding] = checks.rescues(ledger)
    assert (finding.state, "none has looked since" in finding.detail) == ("warning", True)
    ledger.rescues.leave(told.owner)
    [finding] = checks.rescues(ledger)
    assert finding.detail == "none is running"


def test_who_is_gone() -> None:
    """A process id that is used again, or by nobody, is gone; processes of other hosts are not judged."""
    me = this_process()
    host, pid, start = me.rsplit(":", 2)
    assert not is_gone(me)
    assert is_gone(f"{host}:{pid}:{int(start) + 1}")
    assert is_gone(f"{host}:{2**22 + 1}:1")
    assert not is_gone(f"elsewhere/1:{os.getpid()}:1")


def test_two_rescues_share_the_work(settings: Settings, ledger: Ledger, intake: Intake, url: str) -> None:
    """What one has published the other leaves alone."""
    accept(intake, 4)
    age(ledger)
    one, two = rescue_of(settings, ledger, url), rescue_of(settings, ledger, url)
    assert one.tick() == 4
    assert two.tick() == 0


def test_two_rescues_at_the_same_moment_publish_each_job_once(
    settings: Settings, ledger: Ledger, intake: Intake, url: str
) -> None:
    """Both find the same jobs; who marks a job first publishes it."""
    accept(intake, 60)
    age(ledger)
    begun, meet, rescues = now_ms(), threading.Barrier(2), [rescue_of(settings, ledger, url) for _ in range(2)]
    found = {job.job_id: job.stage for job in ledger.backlog.not_enqueued(100, older_than_ms=FRESH_MS)}

    def publish_all(rescue: Rescue) -> int:
        meet.wait(10)
        return rescue._put_back(dict(found), begun)

    with ThreadPoolExecutor(2) as pool:
        published = list(pool.map(publish_all, rescues))
    assert sum(published) == 60
    assert queued(rescues[0]._app)["extract"] == 60


def test_what_the_broker_did_not_take_is_published_at_the_next_look(
    settings: Settings, ledger: Ledger, intake: Intake, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that goes away in the middle of a batch: the rest counts as never published."""
    ids = accept(intake, 5)
    age(ledger)
    rescue = rescue_of(settings, ledger, url)
    published = iter(range(3))

    def publish_some(app: Celery, job_id: str, stage: Stage, producer: object) -> None:
        if next(published, None) is None:
            raise ConnectionResetError("gone")
        publish(app, job_id, stage, producer)

    with monkeypatch.context() as patched:
        patched.setattr("daemon.rescue.publish", publish_some)
        patched.setattr("daemon.rescue.BULK", 2)
        assert rescue.tick() == 0
    assert queued(rescue._app)["extract"] == 2
    assert [job.job_id for job in ledger.backlog.not_enqueued(9, older_than_ms=0)] == ids[2:]
    assert rescue.tick() == 3
    assert queued(rescue._app)["extract"] == 5
