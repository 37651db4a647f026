"""When an endpoint is disabled, what that makes of its deliveries, and how long an outage of mail is waited for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from config.settings import Settings
from tasks import health
from tasks.errors import Permanent, TargetGone, Transient, Unavailable
from tasks.intake import Intake
from tasks.ledger import DeliveryState, Ledger
from tasks.models import Delivery, Job, Outcome, Stage, State
from tasks.pipeline import from_stage, run
from tasks.schedules import DAY, HOUR, MINUTE, next_look
from tasks.workshop import Workshop
from tests.conftest import envelope
from tests.moved_clock import Clock

[DELIVER] = from_stage(Stage.DELIVER)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def shop(settings: Settings, ledger: Ledger) -> Iterator[Workshop]:
    endpoint = {"url": "https://books.example/in"}
    values = {"books": endpoint, "orders": endpoint, "steady": {**endpoint, "disable_after_days": 0}}
    told = Settings.model_validate(
        {"state_dir": settings.state_dir, "endpoint": values, "alerts": {"mail": ["admin@team.example"]}}
    )
    made = Workshop(told, [], ledger, None)  # type: ignore[arg-type]  # nothing is judged here
    yield made
    made.heart.stop()


class World:
    """What the other sides do now, and what was asked of them."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        self.asked: list[str] = []

    def deliver(self, delivery: Delivery, _settings: Settings) -> Outcome:
        self.asked.append(delivery.target)
        if error := self.errors.get(delivery.target):
            raise error
        return Outcome(detail="HTTP 200", code=200)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Faults on demand; real receivers are in tests/integration."""
    made = World()
    monkeypatch.setattr("tasks.sending.deliver", made.deliver)
    return made


Sends = Callable[..., str]


@pytest.fixture
def sends(intake: Intake) -> Sends:
    """Makes a job that stands at its deliveries to these endpoints or addresses."""

    def job(*targets: str) -> str:
        ledger = intake.ledger
        job_id = intake.accept(envelope(f"{targets} {time.perf_counter_ns()}"), b"body").job_id
        claimed = ledger.leases.claim(job_id, Stage.EXTRACT, State.EXTRACTING, "w")
        assert claimed
        planned = [
            Delivery(
                ordinal=number,
                transport="smtp" if "@" in target else "webhook",
                target=target,
                key=f"{job_id}-{number}",
                body=b"{}",
            )
            for number, target in enumerate(targets)
        ]
        ledger.deliveries.plan(claimed[1], planned)
        ledger.leases.finish(
            claimed[1], value={}, job={"state": "delivering", "stage": "deliver"}, event="test", detail={}
        )
        return job_id

    return job


def worked(shop: Workshop, job_id: str) -> tuple[Job, list[DeliveryState]]:
    """Run the stage; what the ledger says then."""
    run(shop, job_id, DELIVER)
    job = shop.ledger.jobs.get(job_id)
    assert job is not None
    return job, shop.ledger.deliveries.of(job_id)


def due(shop: Workshop, job_id: str, clock: Clock) -> None:
    """Move the clock to when the job is due."""
    job = shop.ledger.jobs.get(job_id)
    assert job is not None
    if job.due_at:
        clock.to(job.due_at)


def alerts(shop: Workshop) -> list[Job]:
    return shop.ledger.jobs.page(source="postroom")


def is_disabled(shop: Workshop, name: str = "books") -> bool:
    found = shop.ledger.endpoints.get(name)
    return bool(found and found.disabled_at)


@pytest.mark.parametrize("error", [Transient("HTTP 503"), Unavailable("webhook:books", "cannot connect")])
def test_days_without_a_success_disable(
    shop: Workshop, sends: Sends, world: World, clock: Clock, error: Exception
) -> None:
    """Failing or away for five days: one alert, no request any more, and the reason says how to go on."""
    world.errors["books"] = error
    for _ in range(20):
        worked(shop, sends("books"))
        clock.on(6 * HOUR)
    assert not is_disabled(shop)
    job, [state] = worked(shop, sends("books"))
    assert is_disabled(shop)
    assert (job.state, state.state) == (State.FAILED, "failed")
    assert "postroom endpoints enable books" in state.reason
    [told] = alerts(shop)
    assert told.subject == "endpoint books is disabled"
    asked = len(world.asked)
    job, [state] = worked(shop, sends("books"))
    assert (job.state, state.state, len(world.asked)) == (State.FAILED, "failed", asked)
    assert shop.ledger.deliveries.attempts_of(job.id) == []
    assert len(alerts(shop)) == 1


def test_one_success_in_between_begins_the_count_anew(shop: Workshop, sends: Sends, world: World, clock: Clock) -> None:
    """An endpoint that takes one of ten is bad, not gone."""
    for number in range(40):
        world.errors = {} if number % 10 == 9 else {"books": Transient("HTTP 503")}
        worked(shop, sends("books"))
        clock.on(6 * HOUR)
    assert not is_disabled(shop)


@pytest.mark.parametrize(
    "error",
    [Permanent("HTTP 404"), ValueError("a bug of ours"), Unavailable("webhook:books", "left alone", asked=False)],
)
def test_what_says_nothing_about_the_endpoint(
    shop: Workshop, sends: Sends, world: World, clock: Clock, error: Exception
) -> None:
    """A refusal is the receiver answering; a bug is ours; a pause asks nobody. Weeks of them disable nothing."""
    world.errors["books"] = error
    for _ in range(30):
        worked(shop, sends("books"))
        clock.on(DAY / 2)
    assert shop.ledger.endpoints.get("books") is None


def test_zero_days_means_never(shop: Workshop, sends: Sends, world: World, clock: Clock) -> None:
    """`disable_after_days = 0` waits for ever, and still tells since when it fails."""
    world.errors["steady"] = Transient("HTTP 503")
    for _ in range(30):
        worked(shop, sends("steady"))
        clock.on(DAY / 2)
    found = shop.ledger.endpoints.get("steady")
    assert found is not None
    assert (found.disabled_at, found.failing_since is None) == (None, False)


def test_410_disables_at_once(shop: Workshop, sends: Sends, world: World) -> None:
    """The receiver wants nothing more (Standard Webhooks): one alert, and nobody asks again."""
    world.errors["books"] = TargetGone("HTTP 410: the receiver wants nothing more")
    job, [first, second] = worked(shop, sends("books", "books"))
    assert (job.state, first.state, second.state) == (State.FAILED, "failed", "failed")
    assert "HTTP 410" in first.reason
    assert "is disabled" in second.reason
    assert (world.asked, len(alerts(shop))) == (["books"], 1)


def test_the_jobs_other_deliveries_go_on(shop: Workshop, sends: Sends, world: World) -> None:
    """A job with a delivery to a disabled endpoint sends the others, then fails with the reason."""
    shop.ledger.endpoints.disable("books", "moving house", 1)
    job, states = worked(shop, sends("books", "orders", "a@x.example"))
    assert [state.state for state in states] == ["failed", "sent", "sent"]
    assert world.asked == ["orders", "a@x.example"]
    assert job.state is State.FAILED
    assert "moving house" in job.reason


def test_what_waits_ends_when_the_endpoint_is_disabled(
    shop: Workshop, sends: Sends, world: World, clock: Clock
) -> None:
    """A job that would be due in hours is due now; one that also waits for somebody else goes on waiting for that."""
    world.errors = {"books": Transient("HTTP 503"), "orders": Transient("HTTP 503")}
    alone, both, other = sends("books"), sends("books", "orders"), sends("orders")
    for job_id in (alone, both, other):
        for _ in range(4):
            assert worked(shop, job_id)[0].state is State.WAITING
            due(shop, job_id, clock)
    for job_id in (alone, both, other):
        worked(shop, job_id)
    asked = len(world.asked)
    shop.ledger.endpoints.disable("books", "by hand", 1)
    ready = {one.job_id for one in shop.ledger.backlog.not_enqueued(9, older_than_ms=0)}
    assert ready == {alone, both}
    assert worked(shop, alone)[0].state is State.FAILED
    job, [books, orders] = worked(shop, both)
    assert (job.state, books.state, orders.state) == (State.WAITING, "failed", "pending")
    assert "orders" in job.reason
    assert len(world.asked) == asked


def test_an_attempt_that_a_dead_worker_left_open_is_in_doubt(shop: Workshop, sends: Sends, world: World) -> None:
    """The endpoint was disabled before the next worker came: nothing is sent, and the story says what is not known."""
    job_id = sends("books")
    claimed = shop.ledger.leases.claim(job_id, Stage.DELIVER, State.DELIVERING, "dead")
    assert claimed
    shop.ledger.deliveries.begin(claimed[1], 0, 1)
    shop.ledger.leases.take_back(shop.ledger.leases.held()[0], "killed")
    shop.ledger.endpoints.disable("books", "by hand", 1)
    assert worked(shop, job_id)[0].state is State.FAILED
    assert [one.outcome for one in shop.ledger.deliveries.attempts_of(job_id)] == ["in-doubt"]
    assert world.asked == []


def test_disabled_while_another_worker_was_sending(
    shop: Workshop, sends: Sends, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that fails after its endpoint was disabled does not wait for its next attempt."""

    def slow(_delivery: Delivery, _settings: Settings) -> Outcome:
        shop.ledger.endpoints.disable("books", "by hand, meanwhile", 1)
        raise Transient("HTTP 503")

    monkeypatch.setattr("tasks.sending.deliver", slow)
    job, [state] = worked(shop, sends("books"))
    assert (job.state, state.state) == (State.FAILED, "failed")
    assert "meanwhile" in state.reason


def test_many_workers_disable_once(shop: Workshop, world: World, clock: Clock) -> None:
    """Sixteen threads see the fifth day at once: one alert, one disabling."""
    delivery = Delivery(ordinal=0, transport="webhook", target="books", key="k", body=b"{}")
    error = Transient("HTTP 503")
    for _ in range(10):
        health.failed(shop.ledger, shop.settings, delivery, error)
        clock.on(DAY / 2)
    assert not is_disabled(shop)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: health.failed(shop.ledger, shop.settings, delivery, error), range(16)))
    assert is_disabled(shop)
    assert len(alerts(shop)) == 1


def test_death_between_alert_and_disabling_is_mended_by_the_next_failure(
    shop: Workshop, sends: Sends, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alert is written first; whoever fails next disables, and nobody is told twice."""
    world.errors["books"] = TargetGone("HTTP 410")
    with monkeypatch.context() as dying:
        dying.setattr(shop.ledger.endpoints, "disable", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            worked(shop, sends("books"))
    assert (is_disabled(shop), len(alerts(shop))) == (False, 1)
    worked(shop, sends("books"))
    assert (is_disabled(shop), len(alerts(shop))) == (True, 1)


def test_enabled_again_it_may_fail_for_days_again(shop: Workshop, sends: Sends, world: World, clock: Clock) -> None:
    """A second outage is another alert."""
    world.errors["books"] = Transient("HTTP 503")
    for outage in (1, 2):
        while not is_disabled(shop):
            worked(shop, sends("books"))
            clock.on(DAY / 2)
        assert len(alerts(shop)) == outage
        shop.ledger.endpoints.enable("books")


def test_mail_that_finds_no_server_for_days_is_given_up(
    shop: Workshop, sends: Sends, world: World, clock: Clock
) -> None:
    """It fails with the reason and its age, can be sent again, and has all its time anew then."""
    assert shop.settings.smtp_out.give_up_after_days == 5  # RFC 5321 section 4.5.4.1
    patience = shop.settings.smtp_out.model_copy(update={"give_up_after_days": 0.5})
    shop.settings = shop.settings.model_copy(update={"smtp_out": patience})
    world.errors["a@x.example"] = Unavailable("smtp:x", "refuses the connection")
    job_id = sends("a@x.example")
    for _ in range(2):
        begun, looks = time.time_ns(), 0
        while worked(shop, job_id)[0].state is State.WAITING:
            due(shop, job_id, clock)
            looks += 1
            assert looks < 500
        job, [state] = worked(shop, job_id)
        assert (job.state, state.state) == (State.FAILED, "failed")
        assert "given up 0.5 days after the first attempt" in state.reason
        assert DAY / 2 <= (time.time_ns() - begun) / 1e9 < DAY / 2 + HOUR
        assert looks < 150
        assert shop.ledger.jobs.retry(job_id, Stage.DELIVER, why="test", reopen=("failed",))
    world.errors = {}
    assert worked(shop, job_id)[0].state is State.DONE
    assert alerts(shop) == []


@pytest.mark.parametrize(("age", "shortest"), [(0, 10), (MINUTE, 10), (10 * MINUTE, 60), (HOUR, 360), (DAY, 900)])
def test_the_longer_it_is_away_the_more_rarely_it_is_asked(age: float, shortest: float) -> None:
    """A tenth of the outage so far, within the shortest and the longest wait, and 20 % of jitter."""
    waits = [next_look(age, 10, 900, random.Random(seed)) for seed in range(50)]
    assert 0.8 * shortest <= min(waits) < max(waits) <= 1.2 * shortest
