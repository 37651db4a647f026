"""Claiming, fencing and taking back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.errors import LeaseLost
from tasks.intake import Intake
from tasks.ledger import Lease, Ledger
from tasks.models import Delivery, Document, Outcome, Stage, State
from tests.conftest import envelope


def claim(ledger: Ledger, job_id: str, stage: Stage = Stage.EXTRACT, owner: str = "w1") -> Lease | None:
    claimed = ledger.leases.claim(job_id, stage, State.EXTRACTING, owner)
    return claimed[1] if claimed else None


@pytest.fixture
def job_id(intake: Intake) -> str:
    return intake.accept(envelope(), b"body").job_id


def test_only_one_of_many_gets_the_lease(ledger: Ledger, job_id: str) -> None:
    """Sixteen workers that try at once: one runs the stage."""
    with ThreadPoolExecutor(16) as pool:
        leases = list(pool.map(lambda n: claim(ledger, job_id, owner=f"w{n}"), range(16)))
    assert sum(lease is not None for lease in leases) == 1


def test_a_stage_that_is_not_next_cannot_be_claimed(ledger: Ledger, job_id: str) -> None:
    """A message that comes too early or too late finds nothing to do."""
    assert claim(ledger, job_id, Stage.CLASSIFY) is None


def test_the_attempt_is_counted_before_the_work(ledger: Ledger, job_id: str) -> None:
    """A job that kills its worker is counted, because the count is committed with the claim."""
    claim(ledger, job_id)
    job = ledger.jobs.get(job_id)
    assert job is not None
    assert job.attempts == 1


def test_finishing_moves_the_job_and_writes_the_value(ledger: Ledger, job_id: str) -> None:
    """One transaction: the value, the texts, the event and the next stage."""
    lease = claim(ledger, job_id)
    assert lease
    text = Document(ordinal=0, name="body", content_type="text/plain", size=4, sha256="0" * 64, text="hi")
    row = {"stage": "classify", "state": "classifying", "subject": "Hello"}
    ledger.leases.finish(lease, value={"mail": None}, job=row, event="extract done", detail={}, texts=[text])
    job = ledger.jobs.get(job_id)
    assert job is not None
    assert (job.stage, job.subject, job.lease_owner, job.attempts) == (Stage.CLASSIFY, "Hello", "", 0)
    assert ledger.jobs.documents(job_id) == [text]
    assert ledger.jobs.result(job_id, Stage.EXTRACT) == {"mail": None}
    assert [event.event for event in ledger.jobs.events(job_id)] == ["accepted", "extract done"]


@pytest.mark.fault(number=18)
def test_a_frozen_worker_that_wakes_late_is_refused(ledger: Ledger, job_id: str) -> None:
    """After its lease was taken back, nothing that a worker writes counts: no value, no attempt, no event."""
    late = claim(ledger, job_id)
    assert late
    [held] = ledger.leases.held()
    assert ledger.leases.take_back(held, "frozen")
    second = claim(ledger, job_id, owner="w2")
    assert second
    with pytest.raises(LeaseLost):
        ledger.leases.finish(late, value={}, job={"stage": None, "state": "done"}, event="late", detail={})
    with pytest.raises(LeaseLost):
        ledger.deliveries.plan(late, [])
    with pytest.raises(LeaseLost):
        ledger.deliveries.begin(late, 0, 1)
    assert ledger.leases.beat([(late, {}), (second, {})]) == [late]
    assert "late" not in [event.event for event in ledger.jobs.events(job_id)]


WRITES = {
    "finish": lambda ledger, late: ledger.leases.finish(late, value={}, job=ENDED, event="late", detail={}),
    "finish and go on": lambda ledger, late: ledger.leases.finish(
        late, value={}, job={"stage": "classify"}, event="late", detail={}, then=State.CLASSIFYING
    ),
    "keep": lambda ledger, late: ledger.leases.keep(late, {"late": True}, ["0" * 64]),
    "stop": lambda ledger, late: ledger.leases.stop(late, job={"state": "failed"}, event="late", detail={}),
    "plan": lambda ledger, late: ledger.deliveries.plan(late, [LATE]),
    "begin": lambda ledger, late: ledger.deliveries.begin(late, 0, 2),
    "sent": lambda ledger, late: ledger.deliveries.sent(late, 0, 1, 1, Outcome(detail="250 late")),
    "failed": lambda ledger, late: ledger.deliveries.failed(
        late, 0, 1, 1, outcome="transient", reason="late", due_at=None
    ),
    "refuse": lambda ledger, late: ledger.deliveries.refuse(late, 0, "late"),
}
ENDED = {"stage": None, "state": "done"}
LATE = Delivery(ordinal=0, transport="smtp", target="a@b.example", key="<late>", body=b"late")


@pytest.mark.parametrize("write", WRITES)
def test_each_write_of_a_worker_that_wakes_late_is_refused(ledger: Ledger, job_id: str, write: str) -> None:
    """Whatever it was about to write, nothing of it stays, before its successor has done anything and after."""
    late = claim(ledger, job_id)
    assert late
    ledger.deliveries.plan(late, [LATE.model_copy(update={"body": b"planned"})])
    ledger.deliveries.begin(late, 0, 1)
    assert ledger.leases.take_back(ledger.leases.held()[0], "frozen")

    def told() -> list[object]:
        with ledger.database.read() as connection:
            tables = ("jobs", "results", "documents", "job_blobs", "deliveries", "attempts", "events")
            return [connection.exec_driver_sql(f"SELECT * FROM {table}").all() for table in tables]

    for _ in range(2):
        before = told()
        with pytest.raises(LeaseLost):
            WRITES[write](ledger, late)
        assert told() == before
        claim(ledger, job_id, owner="w2")


def test_a_lease_that_moves_is_not_taken_back(ledger: Ledger, job_id: str) -> None:
    """The rescue frees exactly what it saw stand still; a beat in between saves the lease."""
    lease = claim(ledger, job_id)
    assert lease
    [held] = ledger.leases.held()
    ledger.leases.beat([(lease, {"phase": "fields", "tokens": 7})])
    assert not ledger.leases.take_back(held, "looked dead")
    job = ledger.jobs.get(job_id)
    assert job is not None
    assert job.progress == {"phase": "fields", "tokens": 7}


def test_what_a_dead_worker_was_at_is_forgotten(ledger: Ledger, job_id: str) -> None:
    """Nobody writes there any more, so nobody is shown writing."""
    lease = claim(ledger, job_id)
    assert lease
    ledger.leases.beat([(lease, {"phase": "reply", "tokens": 7, "tail": "Thank you for"})])
    assert ledger.leases.take_back(ledger.leases.held()[0], "killed")
    job = ledger.jobs.get(job_id)
    assert job is not None
    assert job.progress == {}


def test_a_job_that_is_not_due_cannot_be_claimed(ledger: Ledger, job_id: str) -> None:
    """A waiting job is left alone until its time."""
    lease = claim(ledger, job_id)
    assert lease
    ledger.leases.stop(lease, job={"state": "waiting", "due_at": 4_000_000_000_000}, event="waits", detail={})
    assert claim(ledger, job_id) is None
    assert ledger.backlog.not_enqueued(10, older_than_ms=0) == []


def test_a_cancelled_job_refuses_the_worker_that_holds_it(ledger: Ledger, job_id: str) -> None:
    """Cancelling needs nobody's leave, and the worker's result is thrown away."""
    lease = claim(ledger, job_id)
    assert lease
    assert ledger.jobs.cancel(job_id, why="test")
    with pytest.raises(LeaseLost):
        ledger.leases.finish(lease, value={}, job={"stage": None, "state": "done"}, event="done", detail={})
    assert not ledger.jobs.cancel(job_id, why="again")


def test_an_attempt_left_open_is_marked_in_doubt(ledger: Ledger, job_id: str) -> None:
    """The next worker says that the former attempt may have arrived, and sends the same bytes under the same key."""
    first = claim(ledger, job_id)
    assert first
    delivery = Delivery(ordinal=0, transport="smtp", target="x@y.example", key="<m@x>", body=b"bytes")
    ledger.deliveries.plan(first, [delivery])
    ledger.deliveries.begin(first, 0, 1)
    ledger.leases.take_back(ledger.leases.held()[0], "dead")
    second = claim(ledger, job_id, owner="w2")
    assert second
    [state] = ledger.deliveries.of(job_id)
    attempt = ledger.deliveries.begin(second, 0, state.attempts + 1)
    ledger.deliveries.sent(second, 0, attempt, 1, Outcome(detail="250 ok", code=250))
    assert [attempt.outcome for attempt in ledger.deliveries.attempts_of(job_id)] == ["in-doubt", "sent"]
    assert ledger.deliveries.of(job_id)[0].delivery == delivery


def test_what_was_sent_is_not_planned_again(ledger: Ledger, job_id: str) -> None:
    """A reply written anew does not replace, and so does not send again, what went out."""
    lease = claim(ledger, job_id)
    assert lease
    old = Delivery(ordinal=0, transport="smtp", target="x@y.example", key="<m@x>", body=b"old")
    ledger.deliveries.plan(lease, [old])
    ledger.deliveries.sent(lease, 0, ledger.deliveries.begin(lease, 0, 1), 1, Outcome(detail="250"))
    ledger.deliveries.plan(lease, [old.model_copy(update={"body": b"new"}), old.model_copy(update={"ordinal": 1})])
    states = ledger.deliveries.of(job_id)
    assert [(state.state, state.delivery.body) for state in states] == [("sent", b"old"), ("pending", b"old")]
