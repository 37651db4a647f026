"""Answers of one conversation go out in the order in which its mails came."""

from __future__ import annotations

import pytest

from tasks import pipeline
from tasks.errors import NeedsReview, Transient
from tasks.intake import Intake
from tasks.models import Delivery, State
from tasks.workshop import Workshop
from tests.unit.test_delivering import failing
from tests.unit.test_pipeline import DELIVER, MAIL, StandIn, accept, before_deliver, job_of, judge, make_due, shop, trip

__all__ = ["judge", "shop"]  # fixtures


def in_thread(number: int, head: bytes = b"") -> bytes:
    """A mail of one conversation."""
    return MAIL.replace(b"<m1@", b"<m%d@" % number).replace(b"Subject:", head + b"Subject:")


@pytest.mark.parametrize(
    "head", [b"References: <m1@sender.example> <m2@sender.example>\r\n", b"In-Reply-To: <m1@sender.example>\r\n"]
)
def test_answers_within_a_conversation_keep_its_order(
    shop: Workshop, intake: Intake, sent: list[Delivery], head: bytes
) -> None:
    """A later mail that is ready first waits for the earlier one's answer, and then goes out, at no attempt's cost."""
    earlier, later = accept(intake, in_thread(1), key="1"), accept(intake, in_thread(3, head), key="3")
    before_deliver(shop, later)
    assert not pipeline.run(shop, later, DELIVER)
    waiting = job_of(shop, later)
    assert (waiting.state, waiting.attempts, sent) == (State.WAITING, 0, [])
    assert earlier in waiting.reason
    assert trip(shop, earlier).state is State.DONE
    make_due(shop, later)
    pipeline.run(shop, later, DELIVER)
    assert job_of(shop, later).state is State.DONE
    assert [delivery.key.count("@") for delivery in sent] == [1, 1]
    assert b"In-Reply-To: <m1@sender.example>" in sent[0].body
    assert b"In-Reply-To: <m3@sender.example>" in sent[1].body


def test_what_rests_is_not_waited_for(shop: Workshop, intake: Intake, judge: StandIn, sent: list[Delivery]) -> None:
    """A mail in review would hold up its conversation for days."""
    judge.error = NeedsReview("who knows")
    assert trip(shop, accept(intake, in_thread(1), key="1")).state is State.REVIEW
    judge.error = None
    later = accept(intake, in_thread(2, b"In-Reply-To: <m1@sender.example>\r\n"), key="2")
    assert trip(shop, later).state is State.DONE
    assert len(sent) == 1


def test_other_conversations_are_not_waited_for(shop: Workshop, intake: Intake, sent: list[Delivery]) -> None:
    """Nor is a mail without any Message-ID in a conversation with others of its kind."""
    accept(intake, in_thread(1), key="1")
    accept(intake, MAIL.replace(b"Message-ID: <m1@sender.example>\r\n", b""), key="2")
    assert trip(shop, accept(intake, in_thread(3), key="3")).state is State.DONE
    nameless = accept(intake, MAIL.replace(b"Message-ID: <m1@sender.example>\r\n", b"X: 1\r\n"), key="4")
    assert trip(shop, nameless).state is State.DONE
    assert len(sent) == 2


def test_an_answer_that_is_refused_again_and_again_lets_the_later_ones_pass(
    shop: Workshop, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One recipient that is greylisted for days does not silence a conversation."""
    monkeypatch.setattr("tasks.sending.deliver", failing(3, Transient("451 later")))
    earlier = accept(intake, in_thread(1), key="1")
    later = accept(intake, in_thread(2, b"In-Reply-To: <m1@sender.example>\r\n"), key="2")
    before_deliver(shop, earlier)
    before_deliver(shop, later)
    for _ in range(3):
        make_due(shop, later)
        assert not pipeline.run(shop, later, DELIVER)
        assert "same conversation" in job_of(shop, later).reason
        make_due(shop, earlier)
        pipeline.run(shop, earlier, DELIVER)
    make_due(shop, later)
    pipeline.run(shop, later, DELIVER)
    assert (job_of(shop, later).state, job_of(shop, earlier).state) == (State.DONE, State.WAITING)
