"""A `postroom web` that is killed while it accepts: before the commit, before the broker hears, before that is noted."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import httpx
import pytest

from daemon.embedded.broker import EmbeddedBroker
from tests.faults.parts import QUICK, by_key, ended_once, full, until_done
from tests.integration.webhook_parts import replies, sink
from tests.street import Street, signed

pytestmark = pytest.mark.slow
TAMPERED = "tests.faults.tampered"


@full
@pytest.mark.fault(number=1)
def test_killed_before_the_commit_nobody_was_told(tmp_path: Path) -> None:
    """No 2xx was given and nothing is there; the sender tries again and it is one new job (fault 1)."""
    with Street(tmp_path) as street:
        with street.web(program=("-m", TAMPERED, "before-commit")) as client, pytest.raises(httpx.TransportError):
            signed(client, b'{"order": 1}', "msg_1")
        assert street.processes[0].wait(30) == -signal.SIGKILL
        ledger = street.ledger()
        assert not ledger.jobs.page()
        with street.web() as client:
            again = signed(client, b'{"order": 1}', "msg_1")
        assert (again.status_code, "duplicate" in again.json()) == (202, False)
        [job] = ledger.jobs.page()
        assert job.id == again.json()["job"]
        ledger.close()


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("before-publish", marks=pytest.mark.fault(number=3)),
        pytest.param("before-mark", marks=[pytest.mark.fault(number=4), full]),
    ],
)
def test_killed_around_publishing_it_is_done_once(tmp_path: Path, point: str) -> None:
    """What nobody published the rescue does (fault 3); what was published twice is done once (fault 4)."""
    with (
        sink(replies("200 OK")) as receiver,
        EmbeddedBroker(tmp_path / "broker") as broker,
        Street(tmp_path, broker=broker.url, sink=receiver.url, worker=QUICK) as street,
    ):
        with street.web(program=("-m", TAMPERED, point)) as client:
            # it was committed before it died: whether the sender heard of it does not matter
            with contextlib.suppress(httpx.TransportError):
                assert signed(client, b'{"order": 1}', "msg_1").status_code == 202
            assert street.processes[0].wait(30) == -signal.SIGKILL
        street.start("rescue")
        street.start("worker")
        ledger = street.ledger()
        until_done(ledger, 1)
        ended_once(ledger, [job.id for job in ledger.jobs.page()])
        assert [len(bodies) for bodies in by_key(receiver).values()] == [1]
        ledger.close()
