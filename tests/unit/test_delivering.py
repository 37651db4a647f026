"""The last stage: what each answer of the other side makes of a delivery, and what is sent again when a job is put back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from config.routes import DeliverSpec
from config.settings import Settings
from tasks import pipeline
from tasks.clock import now_ms
from tasks.errors import Permanent, Transient, Unavailable
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.models import Delivery, Outcome, Stage, State
from tasks.workshop import Workshop
from tests.unit.test_pipeline import (
    DELIVER,
    ROUTE,
    StandIn,
    accept,
    before_deliver,
    job_of,
    judge,
    make_due,
    shop,
    trip,
)

__all__ = ["judge", "shop"]  # fixtures


def failing(times: int, error: Exception) -> Callable[[Delivery, Settings], Outcome]:
    left = iter(range(times))

    def send(_delivery: Delivery, _settings: Settings) -> Outcome:
        if next(left, None) is not None:
            raise error
        return Outcome(detail="250 ok")

    return send


def test_a_delivery_has_a_schedule_of_its_own(shop: Workshop, intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 4xx makes the job wait in the ledger; the second attempt carries the same bytes and key."""
    monkeypatch.setattr("tasks.sending.deliver", failing(1, Transient("451 later")))
    job = trip(shop, accept(intake))
    assert job.state is State.WAITING
    assert job.due_at is not None
    assert job.due_at > now_ms() + 60_000
    before = shop.ledger.deliveries.of(job.id)[0].delivery
    make_due(shop, job.id)
    assert not pipeline.run(shop, job.id, DELIVER)
    assert job_of(shop, job.id).state is State.DONE
    [state] = shop.ledger.deliveries.of(job.id)
    assert (state.state, state.attempts, state.delivery) == ("sent", 2, before)
    assert [attempt.outcome for attempt in shop.ledger.deliveries.attempts_of(job.id)] == ["transient", "sent"]


def test_a_receiver_s_wish_moves_the_next_attempt(
    shop: Workshop, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retry-After is what the delivery waits for when it is longer than the schedule."""
    monkeypatch.setattr("tasks.sending.deliver", failing(1, Transient("HTTP 429", retry_after=5000)))
    job = trip(shop, accept(intake))
    assert job.due_at is not None
    assert now_ms() + 4_900_000 < job.due_at < now_ms() + 7_300_000


def test_a_refused_delivery_fails_the_job(shop: Workshop, intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 5xx is final; a retry of the job sends it again."""
    monkeypatch.setattr("tasks.sending.deliver", failing(1, Permanent("550 no such user")))
    job = trip(shop, accept(intake))
    assert job.state is State.FAILED
    assert "550 no such user" in job.reason
    assert shop.ledger.jobs.retry(job.id, Stage.DELIVER, why="test", reopen=("failed",))
    pipeline.run(shop, job.id, DELIVER)
    assert job_of(shop, job.id).state is State.DONE


def test_a_target_that_is_down_costs_no_attempt(
    shop: Workshop, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the outage lasts, the schedule begins only when the other side answers."""
    monkeypatch.setattr("tasks.sending.deliver", failing(9, Unavailable("smtp:x", "refused")))
    job = trip(shop, accept(intake))
    for _ in range(9):
        make_due(shop, job.id)
        pipeline.run(shop, job.id, DELIVER)
    assert shop.ledger.deliveries.of(job.id)[0].attempts == 1
    assert job_of(shop, job.id).state is State.DONE


@contextlib.contextmanager
def statements(ledger: Ledger) -> Iterator[list[str]]:
    """What is asked of the ledger in the block, and each COMMIT."""
    told: list[str] = []

    def asked(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        told.append(statement)

    def committed(_connection: object) -> None:
        told.append("COMMIT")

    engine = ledger.database.engine
    sa.event.listen(engine, "before_cursor_execute", asked)
    sa.event.listen(engine, "commit", committed)
    yield told
    sa.event.remove(engine, "before_cursor_execute", asked)
    sa.event.remove(engine, "commit", committed)


def test_a_delivery_s_bytes_are_read_once_an_attempt(shop: Workshop, intake: Intake, sent: list[Delivery]) -> None:
    """However large a body is, one attempt of the stage fetches it from the ledger one time."""
    job_id = accept(intake)
    before_deliver(shop, job_id)
    with statements(shop.ledger) as asked:
        pipeline.run(shop, job_id, DELIVER)
    assert len(sent) == 1
    assert sum("deliveries.body" in one for one in asked) == 1


def test_a_job_and_its_deliveries_are_put_back_in_one_commit(
    shop: Workshop, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No crash leaves a job that runs again beside deliveries that stay failed."""
    monkeypatch.setattr("tasks.sending.deliver", failing(1, Permanent("550 no such user")))
    job = trip(shop, accept(intake))
    with statements(shop.ledger) as asked:
        assert shop.ledger.jobs.retry(job.id, Stage.DELIVER, why="test", reopen=("failed",), was=State.FAILED)
    assert asked.count("COMMIT") == 1
    assert [one.state for one in shop.ledger.deliveries.of(job.id)] == ["pending"]
    assert not shop.ledger.jobs.retry(job.id, Stage.DELIVER, why="test", was=State.FAILED)


def test_a_replay_goes_by_today_s_route_and_sends_nothing_twice(
    shop: Workshop, intake: Intake, judge: StandIn, sent: list[Delivery]
) -> None:
    """What the route sends besides goes out, under a name of its own; what was sent keeps its place in any order."""
    job = trip(shop, accept(intake))
    more = ROUTE.model_copy(update={"deliver": (DeliverSpec(smtp="copy@x.example"), *ROUTE.deliver)})
    shop.routes = [more]
    judge.error = AssertionError("a stage before the one that was asked for is not run again")
    assert shop.ledger.jobs.retry(job.id, Stage.REPLY, why="test", reopen=("failed", "pending"))
    assert trip(shop, job.id).state is State.DONE
    assert [one.target for one in sent] == ["ada@sender.example", "copy@x.example"]
    assert len({one.key for one in sent}) == 2
    assert shop.ledger.jobs.retry(job.id, Stage.REPLY, why="test", reopen=("failed", "pending", "sent"))
    trip(shop, job.id)
    assert sorted(one.key for one in sent[2:]) == sorted(one.key for one in sent[:2])
