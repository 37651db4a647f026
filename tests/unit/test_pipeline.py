"""The trip: what each kind of error makes of a job, and what a second message finds.

The model is a stand-in here, because a real one cannot be made to fail on demand; the rest is real.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from config.engine import WorkerSettings
from config.routes import DeliverSpec, Label, ReplySpec, Route
from config.settings import Settings
from tasks import pipeline
from tasks.errors import NeedsReview, Permanent, Transient, Unavailable
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.ledger.schema import deliveries, jobs
from tasks.model import FreeText
from tasks.models import Classification, Delivery, Field, Job, Kind, Stage, State
from tasks.workshop import Workshop
from tests.conftest import envelope

MAIL = (
    b"From: Ada <ada@sender.example>\r\nTo: in@post.example\r\nSubject: Bill 7\r\n"
    b"Message-ID: <m1@sender.example>\r\n\r\nPay 10 EUR.\r\n"
)
_, EXTRACT, CLASSIFY, REPLY, DELIVER = pipeline.STAGES
ROUTE = Route(
    name="test",
    labels={"invoice": Label(says="A demand for payment."), "newsletter": Label(says="News for many readers.")},
    reply=ReplySpec(template="default", never=("newsletter",)),
    deliver=(DeliverSpec(smtp="sender"),),
)


class StandIn:
    """Answers like tasks.model.Judge, or raises what it was given."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.answer = Classification(label="invoice", confidence=0.9)

    def classify(self, *_: Any) -> Classification:
        if self.error:
            raise self.error
        return self.answer

    def free_text(self, *_: Any) -> FreeText:
        return FreeText(text="Thank you.", output_tokens=3)


@pytest.fixture
def judge() -> StandIn:
    return StandIn()


@pytest.fixture
def shop(settings: Settings, ledger: Ledger, judge: StandIn) -> Iterator[Workshop]:
    made = Workshop(settings, [ROUTE], ledger, judge)  # type: ignore[arg-type]
    yield made
    made.heart.stop()


def accept(intake: Intake, raw: bytes = MAIL, **changes: object) -> str:
    return intake.accept(envelope(**{"recipients": ("in@post.example",), **changes}), raw).job_id


def job_of(shop: Workshop, job_id: str) -> Job:
    job = shop.ledger.jobs.get(job_id)
    assert job is not None
    return job


def trip(shop: Workshop, job_id: str) -> Job:
    for step in pipeline.STAGES:
        if not pipeline.run(shop, job_id, step):
            break
    return job_of(shop, job_id)


def make_due(shop: Workshop, job_id: str) -> None:
    with shop.ledger.database.write() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.id == job_id, jobs.c.state == "waiting").values(due_at=1))
        connection.execute(sa.update(deliveries).where(deliveries.c.job_id == job_id).values(due_at=1))


def before_deliver(shop: Workshop, job_id: str) -> None:
    for step in (EXTRACT, CLASSIFY, REPLY):
        assert pipeline.run(shop, job_id, step)


def test_a_mail_goes_all_the_way(shop: Workshop, intake: Intake, sent: list[Delivery]) -> None:
    """Read, judged, answered to its sender, done; the reply stands in the mail's thread."""
    job = trip(shop, accept(intake))
    assert (job.state, job.stage, job.label, job.route, job.subject) == (State.DONE, None, "invoice", "test", "Bill 7")
    [delivery] = sent
    assert delivery.target == "ada@sender.example"
    assert b"In-Reply-To: <m1@sender.example>" in delivery.body
    assert b"Thank you." in delivery.body


def test_a_second_message_for_a_done_stage_does_nothing(shop: Workshop, intake: Intake, sent: list[Delivery]) -> None:
    """Redelivered chains run through what is done without doing it again."""
    job_id = accept(intake)
    assert pipeline.run(shop, job_id, EXTRACT)
    assert pipeline.run(shop, job_id, EXTRACT)
    trip(shop, job_id)
    trip(shop, job_id)
    assert len(sent) == 1


def test_stages_of_one_worker_follow_without_the_broker(shop: Workshop, intake: Intake, sent: list[Delivery]) -> None:
    """What serves the next queue too goes on: each stage has a lease of its own, and the story is the same."""
    steps = {step.stage: step for step in pipeline.STAGES}
    job_id = accept(intake)
    assert pipeline.run(shop, job_id, EXTRACT, {**steps, Stage.DELIVER: None}.get) is Stage.DELIVER
    halfway = job_of(shop, job_id)
    assert (halfway.state, halfway.lease_owner, halfway.attempts, halfway.lease_token) == (State.DELIVERING, "", 0, 3)
    assert pipeline.run(shop, job_id, DELIVER, steps.get) is None
    events = [event.event for event in shop.ledger.jobs.events(job_id)]
    assert events == ["accepted", "extract done", "classify done", "reply done", "deliver done"]
    assert len(sent) == 1


def test_the_attempt_of_a_stage_that_follows_at_once_is_counted_before_it(shop: Workshop, intake: Intake) -> None:
    """A worker that dies in the next stage leaves it claimed, with its first attempt; its late write is refused."""
    job_id = accept(intake)

    def die(*_: object) -> pipeline.Done:
        job = job_of(shop, job_id)
        assert (job.stage, job.state, job.attempts, job.lease_token) == (Stage.CLASSIFY, State.CLASSIFYING, 1, 2)
        assert shop.ledger.leases.take_back(shop.ledger.leases.held()[0], "frozen")
        return pipeline.Done(value={"late": True})

    dying = pipeline.Step(Stage.CLASSIFY, State.CLASSIFYING, die)
    assert pipeline.run(shop, job_id, EXTRACT, {Stage.CLASSIFY: dying}.get) is None
    assert shop.ledger.jobs.result(job_id, Stage.CLASSIFY) is None
    assert pipeline.run(shop, job_id, CLASSIFY)
    assert job_of(shop, job_id).stage is Stage.REPLY


def test_a_long_stage_keeps_its_lease_alive(settings: Settings, ledger: Ledger, intake: Intake) -> None:
    """While a model thinks for minutes, the beat goes on beside it."""
    short = settings.model_copy(update={"worker": WorkerSettings(lease=1.5)})
    shop = Workshop(short, [ROUTE], ledger, StandIn())  # type: ignore[arg-type]
    job_id, deadline = accept(intake), time.monotonic() + 60

    def think(*_: object) -> pipeline.Done:
        while job_of(shop, job_id).lease_beat < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return pipeline.Done(value={})

    assert pipeline.run(shop, job_id, pipeline.Step(Stage.EXTRACT, State.EXTRACTING, think)) is Stage.CLASSIFY
    shop.heart.stop()


def test_a_stage_that_ends_in_review_is_followed_by_none(shop: Workshop, intake: Intake, judge: StandIn) -> None:
    """Even where the worker would go on."""
    judge.answer = Classification(label="invoice", confidence=0.2, review="not certain")
    job_id = accept(intake)
    assert pipeline.run(shop, job_id, EXTRACT, {step.stage: step for step in pipeline.STAGES}.get) is None
    job = job_of(shop, job_id)
    assert (job.state, job.stage, job.lease_owner) == (State.REVIEW, Stage.REPLY, "")


def test_an_outage_costs_no_attempt(shop: Workshop, intake: Intake, judge: StandIn) -> None:
    """A dependency that is down makes the job wait, ever with the attempts it had."""
    job_id = accept(intake)
    judge.error = Unavailable("ollama", "nothing listens there")
    for _ in range(20):
        trip(shop, job_id)
        make_due(shop, job_id)
    job = job_of(shop, job_id)
    assert (job.state, job.stage, job.attempts) == (State.WAITING, Stage.CLASSIFY, 0)
    judge.error = None
    assert pipeline.run(shop, job_id, CLASSIFY)


def test_transient_errors_end_in_a_dead_letter(shop: Workshop, intake: Intake, judge: StandIn) -> None:
    """Tried as often as the settings say, then failed with its reason, and it can be run again."""
    job_id = accept(intake)
    judge.error = Transient("stream broke off")
    for number in range(1, shop.settings.worker.max_attempts + 1):
        job = trip(shop, job_id)
        assert job.attempts == number
        make_due(shop, job_id)
    assert job.state is State.FAILED
    assert job.reason == "stream broke off (after 8 attempts)"
    judge.error = None
    assert shop.ledger.jobs.retry(job_id, Stage.CLASSIFY, why="test")
    assert pipeline.run(shop, job_id, CLASSIFY)


@pytest.mark.fault(number=16)
def test_a_job_that_kills_its_worker_is_given_up(shop: Workshop, intake: Intake) -> None:
    """Attempts are counted at the claim: after the limit the stage is not even begun."""
    job_id = accept(intake)
    for _ in range(shop.settings.worker.max_attempts):
        assert shop.ledger.leases.claim(job_id, Stage.EXTRACT, State.EXTRACTING, "dead")
        assert shop.ledger.leases.take_back(shop.ledger.leases.held()[0], "killed")
    assert not pipeline.run(shop, job_id, EXTRACT)
    job = job_of(shop, job_id)
    assert job.state is State.FAILED
    assert "may kill its worker" in job.reason


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Permanent("no such thing"), State.FAILED),
        (NeedsReview("look at it"), State.REVIEW),
        (ValueError("bug"), State.WAITING),
    ],
)
def test_each_error_has_its_state(
    shop: Workshop, intake: Intake, judge: StandIn, error: Exception, state: State
) -> None:
    """Permanent fails, NeedsReview rests, and an unknown error is tried again."""
    judge.error = error
    job = trip(shop, accept(intake))
    assert job.state is state
    assert str(error) in job.reason


def test_a_judgement_in_doubt_waits_for_a_person(
    shop: Workshop, intake: Intake, judge: StandIn, sent: list[Delivery]
) -> None:
    """Nothing is sent before it is approved; then it goes on with what was judged."""
    judge.answer = Classification(label="invoice", confidence=0.3, review="not sure")
    job = trip(shop, accept(intake))
    assert (job.state, job.stage, job.reason) == (State.REVIEW, Stage.REPLY, "not sure")
    assert not pipeline.run(shop, job.id, REPLY)
    assert shop.ledger.jobs.retry(job.id, Stage.REPLY, why="ok", approve=True)
    trip(shop, job.id)
    assert job_of(shop, job.id).state is State.DONE
    assert len(sent) == 1


def test_a_value_without_evidence_is_not_sent(
    shop: Workshop, intake: Intake, judge: StandIn, sent: list[Delivery]
) -> None:
    """A field that was not found in the text appears in no reply."""
    invented = Field(name="total", value="31415926", supported=False)
    found = Field(name="number", value="7", quote="Bill 7", supported=True)
    judge.answer = Classification(label="invoice", confidence=0.9, fields=(invented, found))
    trip(shop, accept(intake))
    assert b"31415926" not in sent[0].body


def test_an_automatic_mail_is_not_answered(shop: Workshop, intake: Intake, sent: list[Delivery]) -> None:
    """It is judged and done, and the ledger says why nobody heard from us."""
    job = trip(shop, accept(intake, b"Auto-Submitted: auto-replied\r\n" + MAIL))
    assert job.state is State.DONE
    assert "Auto-Submitted" in job.reason
    assert sent == []


def test_a_label_that_is_never_answered(shop: Workshop, intake: Intake, judge: StandIn, sent: list[Delivery]) -> None:
    """The route's word on a label is kept."""
    judge.answer = Classification(label="newsletter", confidence=0.9)
    job = trip(shop, accept(intake))
    assert (job.state, job.reason) == (State.DONE, "the route does not answer newsletter")
    assert sent == []


def test_one_correspondent_gets_only_so_many_replies(shop: Workshop, intake: Intake, sent: list[Delivery]) -> None:
    """Two machines that answer each other stop: above the cap the reply is not sent."""
    cap = shop.settings.smtp_out.max_replies_per_hour
    jobs = [
        trip(shop, accept(intake, MAIL.replace(b"m1@", b"%d@" % number), key=str(number))) for number in range(cap + 2)
    ]
    assert len(sent) == cap
    assert jobs[-1].state is State.DONE
    assert str(cap) in jobs[-1].reason


def test_an_event_is_judged_and_answers_nobody(shop: Workshop, intake: Intake, sent: list[Delivery]) -> None:
    """An event has no sender: without a webhook to deliver to, the job is done."""
    job = trip(shop, accept(intake, b'{"type": "order"}', kind=Kind.EVENT, content_type="application/json", sender=""))
    assert job.state is State.DONE
    assert sent == []
