"""Real processes whose PostgreSQL crashes and comes back: none of them has to be started again."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from config.settings import Settings
from daemon.embedded.broker import EmbeddedBroker
from tasks.ledger import Ledger
from tests.integration.postgres import Postgres
from tests.integration.test_cli import postroom
from tests.integration.webhook_parts import replies, sink
from tests.street import Street, signed, until


@pytest.mark.slow
@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
def test_every_process_outlives_its_ledger(
    settings: Settings, ledger: Ledger, tmp_path: Path, postgres_server: Postgres
) -> None:
    """503 and one plain sentence on the terminal while it is away; afterwards the same processes do all the work."""
    with (
        sink(replies("200 OK")) as receiver,
        EmbeddedBroker(tmp_path / "broker") as broker,
        Street(tmp_path, broker=broker.url, sink=receiver.url) as street,
    ):
        street.config.write_text(f'ledger_url = "{settings.ledger}"\n{street.config.read_text()}')
        street.start("worker")
        street.start("rescue")
        with street.web() as client:
            assert signed(client, b'{"order": 0}', "msg_0").status_code == 202
            until(lambda: ledger.jobs.counts() == {"done": 1}, 60, "the first job")
            postgres_server.stop(signal.SIGQUIT)
            try:
                away = signed(client, b'{"order": 1}', "msg_1")
                assert (away.status_code, away.json()["status"]) == (503, 503)
                told = postroom("jobs", state=settings.state_dir)
                assert (told.returncode, told.stdout) == (1, "")
                assert told.stderr.startswith("postroom: the ledger does not answer")
                assert "Traceback" not in told.stderr
                until(lambda: "rescue waits for the ledger" in street.log(1), 60, "the rescue saying so")
            finally:
                postgres_server.start()
            again = [signed(client, b'{"order": %d}' % number, f"msg_{number}") for number in range(4)]
            assert [one.status_code for one in again] == [202] * 4
            until(lambda: ledger.jobs.counts() == {"done": 4}, 90, "the end of all jobs")
        assert [one.poll() for one in street.processes] == [None] * 3
        assert street.log(1).count("rescue waits for the ledger") == 1
        until(lambda: "ledger works again" in street.log(1), 30, "the rescue telling the end")
        assert len({seen.headers["idempotency-key"] for seen in receiver.seen}) == len(receiver.seen) == 4
