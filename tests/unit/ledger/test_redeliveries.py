"""Sending many again: what is meant, what can be, and what is left alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import sqlalchemy as sa

from tasks.intake import Intake
from tasks.ledger import Ledger, Redelivery, Wanted
from tasks.ledger.schema import deliveries as table
from tasks.ledger.schema import jobs
from tasks.models import Delivery, Stage, State
from tests.conftest import envelope

FAILED = ("failed",)


def made(intake: Intake, key: str, *rows: dict[str, Any], state: str = "failed", stage: str | None = "deliver") -> str:
    """A job that stands at its deliveries, with `rows` as theirs."""
    ledger = intake.ledger
    job_id = intake.accept(envelope(key), b"body").job_id
    claimed = ledger.leases.claim(job_id, Stage.EXTRACT, State.EXTRACTING, "w")
    assert claimed
    planned = [
        Delivery(
            ordinal=number,
            transport=row.get("transport", "webhook"),
            target=row.get("target", "books"),
            key=f"{job_id}-{number}",
            body=b"{}",
        )
        for number, row in enumerate(rows)
    ]
    ledger.deliveries.plan(claimed[1], planned)
    ledger.leases.finish(claimed[1], value={}, job={"state": state, "stage": stage}, event="test", detail={})
    with ledger.database.write() as connection:
        for number, row in enumerate(rows):
            values = {"state": "failed", "attempts": 3, "failed_at": 1000, "tried_since": 500, "reason": "no", **row}
            mine = (table.c.job_id == job_id) & (table.c.ordinal == number)
            connection.execute(sa.update(table).where(mine).values(values))
    return job_id


def found(ledger: Ledger, **changes: Any) -> list[tuple[str, tuple[int, ...]]]:
    wanted = Wanted(**{"transport": "webhook", "target": "books", "states": FAILED, **changes})
    return [(one.job_id, one.ordinals) for one in ledger.redeliveries.find(wanted)]


SENT = {"state": "sent", "failed_at": None, "sent_at": 2000}


def test_only_what_was_asked_for_is_found(intake: Intake, ledger: Ledger) -> None:
    """Endpoint or address, state, and the time at which it failed or was sent, both ends counted in."""
    one = made(intake, "1", {}, {"target": "other"}, SENT, {"failed_at": 3000})
    two = made(intake, "2", {"transport": "smtp", "target": "books"}, {"failed_at": 1500})
    made(intake, "3", {"state": "pending", "failed_at": None})
    assert found(ledger) == [(one, (0, 3)), (two, (1,))]
    assert found(ledger, transport="smtp") == [(two, (0,))]
    assert found(ledger, target="nobody") == []
    assert found(ledger, since=1001) == [(one, (3,)), (two, (1,))]
    assert found(ledger, since=1000, until=1500) == [(one, (0,)), (two, (1,))]
    assert found(ledger, states=("sent",)) == [(one, (2,))]
    assert found(ledger, states=("sent",), since=2001) == []
    assert found(ledger, states=("failed", "sent")) == [(one, (0, 2, 3)), (two, (1,))]
    assert found(ledger, limit=1) == [(one, (0,))]


def test_what_is_put_back_counts_anew_and_the_rest_stays(intake: Intake, ledger: Ledger) -> None:
    """Job and deliveries move in one commit; a delivery that was not chosen is as it was."""
    job_id = made(intake, "1", {}, {"target": "other"})
    [done] = ledger.redeliveries.again(ledger.redeliveries.find(Wanted("webhook", "books", FAILED)), "test")
    assert (done.job_id, done.obstacle) == (job_id, "")
    job = ledger.jobs.get(job_id)
    assert job is not None
    assert (job.state, job.stage, job.reason) == (State.DELIVERING, Stage.DELIVER, "")
    mine, other = ledger.deliveries.of(job_id)
    assert (mine.state, mine.attempts, mine.tried_since, mine.failed_at, mine.reason) == ("pending", 0, None, None, "")
    assert (other.state, other.attempts, other.failed_at) == ("failed", 3, 1000)
    assert ledger.jobs.events(job_id)[-1].detail == {"why": "test", "deliveries": [0]}
    assert [one.job_id for one in ledger.backlog.not_enqueued(9, older_than_ms=0)] == [job_id]


def test_a_job_that_ended_well_sends_again_what_it_is_told(intake: Intake, ledger: Ledger) -> None:
    """A job that is done has no stage; it gets its last one back."""
    job_id = made(intake, "1", SENT, state="done", stage=None)
    ledger.redeliveries.again(ledger.redeliveries.find(Wanted("webhook", "books", ("sent",))), "test")
    job = ledger.jobs.get(job_id)
    assert job is not None
    assert (job.state, job.stage) == (State.DELIVERING, Stage.DELIVER)


def test_what_cannot_be_is_told_and_left(intake: Intake, ledger: Ledger) -> None:
    """Cancelled, in review, before its reply, held by a worker: a reason each, and nothing changes."""
    cancelled = made(intake, "1", {}, state="delivering")
    ledger.jobs.cancel(cancelled, why="test")
    review = made(intake, "2", {}, state="review", stage="reply")
    before = made(intake, "3", {}, state="classifying", stage="classify")
    held = made(intake, "4", {}, state="delivering")
    ledger.leases.claim(held, Stage.DELIVER, State.DELIVERING, "w")
    free = made(intake, "5", {})
    told = ledger.redeliveries.again(ledger.redeliveries.find(Wanted("webhook", "books", FAILED)), "test")
    reasons = {one.job_id: one.obstacle for one in told}
    assert "cancelled" in reasons[cancelled]
    assert "review" in reasons[review]
    assert "may still change" in reasons[before]
    assert "a worker holds it" in reasons[held]
    assert reasons[free] == ""
    left = [ledger.deliveries.of(job_id)[0].state for job_id in (cancelled, review, before, held, free)]
    assert left == ["failed", "failed", "failed", "failed", "pending"]


def test_two_who_ask_at_once_send_it_once(intake: Intake, ledger: Ledger) -> None:
    """What the first one's redelivery has sent by now is not sent again for the second one, who had looked before."""
    job_id = made(intake, "k", {})
    first, second = (ledger.redeliveries.find(Wanted("webhook", "books", FAILED)) for _ in range(2))
    [told] = ledger.redeliveries.again(first, "test")
    assert told.obstacle == ""
    with ledger.database.write() as connection:  # a worker sends it
        connection.execute(sa.update(table).where(table.c.job_id == job_id).values(state="sent", sent_at=1))
        connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(state="done", stage=None))
    [told] = ledger.redeliveries.again(second, "test")
    assert "meanwhile" in told.obstacle
    assert [one.state for one in ledger.deliveries.of(job_id)] == ["sent"]
    job = ledger.jobs.get(job_id)
    assert job
    assert job.state is State.DONE


def test_a_worker_that_is_quicker_keeps_its_job(intake: Intake, ledger: Ledger) -> None:
    """What was free when it was looked for and is held when it is put back is left, and says so."""
    job_id = made(intake, "1", {}, state="delivering")
    looked = ledger.redeliveries.find(Wanted("webhook", "books", FAILED))
    ledger.leases.claim(job_id, Stage.DELIVER, State.DELIVERING, "w")
    [told] = ledger.redeliveries.again(looked, "test")
    assert "a worker holds it" in told.obstacle
    assert ledger.deliveries.of(job_id)[0].state == "failed"


def test_an_admin_and_a_worker_at_once_never_both_have_it(intake: Intake, ledger: Ledger) -> None:
    """Whoever comes first: what was put back is pending, and what a worker holds is as it found it."""
    for number in range(8):
        job_id = made(intake, str(number), {}, state="delivering")
        wanted = [Redelivery(job_id, (0,), FAILED, "")]
        with ThreadPoolExecutor(2) as pool:
            claim = pool.submit(ledger.leases.claim, job_id, Stage.DELIVER, State.DELIVERING, "w")
            [told] = pool.submit(ledger.redeliveries.again, wanted, "test").result()
        claimed = claim.result()
        assert claimed is not None
        assert ledger.deliveries.of(job_id)[0].state == ("failed" if told.obstacle else "pending")
        held = {one.job_id: one for one in ledger.leases.held()}
        assert held[job_id].token == claimed[1].token
