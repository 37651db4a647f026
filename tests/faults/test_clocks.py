"""Wall clocks that step, and retries that are due in many hours: all processes of a test share one clock, set by a file."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa

from daemon.embedded.broker import EmbeddedBroker
from tasks.clock import now_ms
from tasks.ledger.schema import deliveries, jobs
from tests.faults.parts import QUICK, accept, by_key, ended_once, full, slowly, states, until_done
from tests.integration.webhook_parts import Seen, sink
from tests.street import Street, signed, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), full]
HOURS_10, MINUTES_10 = 36_000, 600


@pytest.mark.fault(number=15)
def test_a_retry_due_in_ten_hours_fires_once(tmp_path: Path) -> None:
    """Nothing holds it but the ledger: it outlives worker and broker, and goes out once when its time has come (15)."""
    clock = tmp_path / "clock"
    clock.write_text("0")

    def answer(connection: object, seen: Seen) -> None:
        first = len(receiver.seen) == 1
        status = b"503 Later" if first else b"200 OK"
        connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")  # type: ignore[attr-defined]

    with (
        sink(answer) as receiver,
        EmbeddedBroker(tmp_path / "broker") as broker,
        Street(tmp_path, broker=broker.url, sink=receiver.url, worker=QUICK) as street,
    ):
        program = ("-m", "tests.faults.tampered", f"clock={clock}")
        for name in ("rescue", "rescue", "worker"):
            street.start(name, program=program)
        [job] = accept(street, 1)
        ledger = street.ledger()
        until(lambda: states(ledger) == {"waiting": 1}, 60, "the first attempt")
        with ledger.database.write() as connection:
            due = {"due_at": now_ms() + HOURS_10 * 1000}
            connection.execute(sa.update(jobs).values(due))
            connection.execute(sa.update(deliveries).values(due))
        street.processes.pop().kill()
        with redis.Redis.from_url(broker.url) as memory:
            memory.flushall()
        street.start("worker", program=program)
        clock.write_text(str(HOURS_10 - 60))
        time.sleep(5)
        assert len(receiver.seen) == 1, "too early"
        clock.write_text(str(HOURS_10 + 60))
        until_done(ledger, 1)
        time.sleep(3)
        assert len(receiver.seen) == 2
        assert len(by_key(receiver)) == 1
        ended_once(ledger, [job])
        ledger.close()


@pytest.mark.fault(number=19)
def test_a_clock_that_steps_ten_minutes_disturbs_nothing(tmp_path: Path) -> None:
    """No lease is stolen or left; a request that is too old stays refused, and a replay makes no second job (fault 19)."""
    clock = tmp_path / "clock"
    clock.write_text("0")
    with (
        sink(slowly(8, 2)) as receiver,
        EmbeddedBroker(tmp_path / "broker") as broker,
        Street(tmp_path, broker=broker.url, sink=receiver.url, worker=QUICK) as street,
    ):
        program = ("-m", "tests.faults.tampered", f"clock={clock}")
        for name in ("rescue", "worker"):
            street.start(name, program=program)
        ledger = street.ledger()
        with street.web(program=program) as client:
            assert signed(client, b"{}", "msg_1").status_code == 202
            for number, step in enumerate((MINUTES_10, -MINUTES_10), 1):
                until(lambda number=number: len(receiver.seen) == number, 60, "a delivery under way")
                clock.write_text(str(step))
                answer = signed(client, b"{}", f"msg_{number}_late")
                assert answer.status_code == 401, "ten minutes are beyond the tolerance, to either side"
                until_done(ledger, number, 60)
                clock.write_text("0")
                again = signed(client, b"{}", f"msg_{number}")
                assert again.json().get("duplicate") is True
                if number == 1:
                    assert signed(client, b"{}", "msg_2").status_code == 202
        told = [job.id for job in ledger.jobs.page()]
        ended_once(ledger, told)
        assert not [event for job in told for event in ledger.jobs.events(job) if event.event == "lease taken back"]
        assert [len(bodies) for bodies in by_key(receiver).values()] == [1, 1]
        ledger.close()
