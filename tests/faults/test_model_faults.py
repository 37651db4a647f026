"""A model server that hangs, breaks off, or runs out of memory: real workers, and a stand-in that can do it on demand."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.embedded.broker import EmbeddedBroker
from tests.faults.parts import QUICK, accept, by_key, ended_once, full, states
from tests.integration.webhook_parts import replies, sink
from tests.standin_model import standing_in
from tests.street import Street, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), full]
ROUTE = '[[deliver]]\nwebhook = "books"\n[labels.order]\nsays = "Somebody orders."\n[labels.other]\nsays = "Anything else."\n'


@pytest.mark.fault(number=30)
def test_a_model_that_fails_is_waited_for_or_given_up(tmp_path: Path) -> None:
    """Silence ends at a deadline and costs no attempt; what breaks off or is refused is retried, at last a dead letter."""
    with (
        sink(replies("200 OK")) as receiver,
        standing_in() as model,
        EmbeddedBroker(tmp_path / "broker") as broker,
        Street(
            tmp_path,
            broker=broker.url,
            sink=receiver.url,
            worker=QUICK,
            route=ROUTE,
            more=f'[model]\nhost = "{model.url}"\nread_timeout = 1\n',
        ) as street,
    ):
        street.start("rescue")
        street.start("worker")
        ledger = street.ledger()
        for mode, words in (("dies", "broke the connection"), ("out of memory", "requires more system memory")):
            model.mode = mode
            [job] = accept(street, 1, len(mode))
            until(lambda job=job: ledger.jobs.get(job).state.value == "failed", 60, f"a dead letter: {mode}")
            reason = ledger.jobs.get(job).reason
            assert words in reason
            assert "after 3 attempts" in reason
        model.mode = "hangs"
        [job] = accept(street, 1)
        until(lambda: _waits(ledger, job) >= 2, 60, "two waits")
        told = ledger.jobs.get(job)
        assert told
        assert told.attempts <= 1, "an outage costs no attempt"
        model.mode = "well"
        model.woken.set()
        until(lambda: states(ledger) == {"done": 1, "failed": 2}, 60, "the end")
        ended_once(ledger, [job])
        assert [len(bodies) for bodies in by_key(receiver).values()] == [1]
        ledger.close()


def _waits(ledger: object, job: str) -> int:
    events = ledger.jobs.events(job)  # type: ignore[attr-defined]
    return sum(event.event == "unavailable" for event in events)
