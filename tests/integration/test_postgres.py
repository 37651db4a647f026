"""What only PostgreSQL can show: a server that goes and comes back, transactions that cross, two hosts on one ledger."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from config.engine import RescueSettings, WorkerSettings
from config.settings import Settings
from daemon.embedded.broker import EmbeddedBroker
from daemon.rescue import Rescue
from tasks import pipeline
from tasks.app import make_app
from tasks.blobs import Blobs
from tasks.errors import Unavailable
from tasks.intake import Intake
from tasks.ledger import Arrival, Ledger
from tasks.ledger.engine import retried
from tasks.ledger.schema import attempts, events, jobs
from tasks.models import Delivery, State
from tasks.workshop import Workshop
from tests.commands import REPO, postroom
from tests.conftest import envelope
from tests.integration.api_parts import PDF, running, take_to_the_end
from tests.integration.postgres import Postgres
from tests.unit.test_pipeline import MAIL, ROUTE, StandIn

pytestmark = pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


class Sender:
    """Sends mails one after the other as a real one does: what got no receipt is sent again."""

    def __init__(self, intake: Intake, name: str) -> None:
        self.receipts: dict[str, str] = {}
        self.refused = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(intake, name), daemon=True)
        self.thread.start()

    def _run(self, intake: Intake, name: str) -> None:
        number = 0
        while not self.stop.is_set():
            key = f"{name}{number}"
            sender = f"{key}@sender.example"
            raw = MAIL.replace(b"ada@sender.example", sender.encode()).replace(b"<m1@", f"<{key}@".encode())
            try:
                receipt = intake.accept(envelope(key, sender=sender, recipients=("in@post.example",)), raw)
            except Unavailable:
                self.refused += 1
                time.sleep(0.02)
            else:
                self.receipts[key] = receipt.job_id
                number += 1


@pytest.fixture
def shop(settings: Settings, ledger: Ledger) -> Iterator[Workshop]:
    made = Workshop(settings, [ROUTE], ledger, StandIn())  # type: ignore[arg-type]
    yield made
    made.heart.stop()


def work(shop: Workshop, stop: threading.Event) -> None:
    """Run whatever is open, as workers do whose messages come in any order and more than once."""
    while not stop.is_set():
        try:
            for job in shop.ledger.jobs.page(states=[state for state in State if state is not State.DONE], limit=20):
                for step in pipeline.STAGES:
                    pipeline.run(shop, job.id, step)
        except Unavailable:
            time.sleep(0.05)


def test_a_server_that_restarts_loses_nothing(
    settings: Settings, ledger: Ledger, shop: Workshop, sent: list[Delivery], postgres_server: Postgres
) -> None:
    """Ended and crashed under load three times: what has a receipt is there and gets done, no process is restarted."""
    intake = Intake(ledger, Blobs(settings.blobs_dir), settings.inline_limit)
    senders = [Sender(intake, name) for name in "ab"]
    stop = threading.Event()
    workers = [threading.Thread(target=work, args=(shop, stop), daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGINT):
        before = [len(one.receipts) for one in senders]
        until(lambda before=before: all(len(one.receipts) > had + 5 for one, had in zip(senders, before, strict=True)))
        refused = [one.refused for one in senders]
        postgres_server.stop(how)
        until(lambda refused=refused: all(one.refused > had for one, had in zip(senders, refused, strict=True)))
        postgres_server.start()
    before = [len(one.receipts) for one in senders]
    until(lambda: all(len(one.receipts) > had for one, had in zip(senders, before, strict=True)))
    for one in senders:
        one.stop.set()
        one.thread.join(20)
    short = settings.model_copy(update={"worker": WorkerSettings(lease=1.1)})
    rescue = Rescue(short, ledger, make_app(settings))

    def all_done() -> bool:
        rescue.free_leases()  # stages whose last word did not reach the ledger
        with ledger.database.write() as connection:  # nobody waits for the end of a back-off
            connection.execute(sa.update(jobs).where(jobs.c.state == "waiting").values(due_at=1))
        return set(ledger.jobs.counts()) == {"done"}

    until(all_done)
    stop.set()
    for worker in workers:
        worker.join(20)
    receipts = {key: job_id for one in senders for key, job_id in one.receipts.items()}
    with ledger.database.read() as connection:
        found = {row.key: row.id for row in connection.execute(sa.select(jobs.c.key, jobs.c.id))}
        ends = connection.execute(sa.select(events.c.job_id).where(events.c.event == "deliver done")).scalars().all()
        tries = connection.execute(sa.select(attempts.c.job_id, attempts.c.outcome)).all()
    assert receipts.items() <= found.items()
    assert len(found) <= len(receipts) + len(senders)  # one each may be stored and not yet be told
    assert sorted(ends) == sorted(found.values())
    doubt = sum(row.outcome == "in-doubt" for row in tries)
    assert len(sent) - len({delivery.key for delivery in sent}) <= doubt
    assert len({(delivery.key, delivery.body) for delivery in sent}) == len({delivery.key for delivery in sent})
    intake._arrivals.close()


def test_a_server_that_is_down_is_an_outage(settings: Settings, ledger: Ledger, postgres_server: Postgres) -> None:
    """Every question says Unavailable at once, and is answered again when the server is back."""
    intake = Intake(ledger, Blobs(settings.blobs_dir), settings.inline_limit)
    postgres_server.stop()
    try:
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="the ledger does not answer"):
            intake.accept(envelope(), b"x")
        with pytest.raises(Unavailable, match="the ledger does not answer"):
            ledger.jobs.counts()
        with pytest.raises(Unavailable, match="the ledger does not answer"):
            Ledger.open(settings.ledger)
        assert time.monotonic() - begun < 30
    finally:
        postgres_server.start()
    assert not intake.accept(envelope(), b"x").duplicate
    assert ledger.jobs.counts() == {"received": 1}
    intake._arrivals.close()


def test_a_standby_gives_no_receipt(settings: Settings, ledger: Ledger, postgres_server: Postgres) -> None:
    """A server that only reads, as after a failover, is an outage; nothing has to be restarted when it writes again."""
    intake = Intake(ledger, Blobs(settings.blobs_dir), settings.inline_limit)
    name = ledger.database.url.database

    def read_only(value: str) -> None:
        postgres_server.run(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}')
        postgres_server.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    read_only("on")
    with pytest.raises(Unavailable, match="read-only"):
        intake.accept(envelope(), b"x")
    read_only("off")
    assert not intake.accept(envelope(), b"x").duplicate
    intake._arrivals.close()


def test_a_restart_while_nothing_happens_is_not_noticed(
    intake: Intake, ledger: Ledger, postgres_server: Postgres
) -> None:
    """Connections that died in the pool are replaced before they are used: nobody is refused for them."""
    intake.accept(envelope("before"), b"x")
    postgres_server.stop()
    postgres_server.start()
    assert not intake.accept(envelope("after"), b"x").duplicate
    assert ledger.jobs.counts() == {"received": 2}


def test_two_hosts_take_the_same_mails_in_another_order(settings: Settings, ledger: Ledger) -> None:
    """Their transactions wait for each other and never lock each other out; each key is one job."""
    doors = [Intake(Ledger(settings.ledger), Blobs(settings.blobs_dir), settings.inline_limit) for _ in range(2)]
    meet = threading.Barrier(2)

    def commit(order: int) -> int:
        new = 0
        for turn in range(20):
            batch = [
                Arrival(envelope(f"{turn}-{number}"), "0" * 64, 1, b"x", "", Future(), None) for number in range(100)
            ][::order]
            meet.wait(30)
            new += sum(not receipt.duplicate for receipt in doors[order > 0]._arrivals._commit(batch))
        return new

    with ThreadPoolExecutor(2) as pool:
        new = list(pool.map(commit, (1, -1)))
    for door in doors:
        door.close()
    assert sum(new) == 2000
    assert ledger.jobs.counts() == {"received": 2000}


def test_a_deadlock_is_tried_again(ledger: Ledger, settings: Settings) -> None:
    """Two transactions that lock the same rows crosswise both come through in the end."""
    intake = Intake(ledger, Blobs(settings.blobs_dir), settings.inline_limit)
    ids = [intake.accept(envelope(str(number)), b"x").job_id for number in range(2)]
    intake._arrivals.close()
    meet, tries = threading.Barrier(2), Counter[int]()

    def crosswise(order: int) -> None:
        def once() -> None:
            tries[order] += 1
            with ledger.database.write() as connection:
                for number, job_id in enumerate(ids[::order]):
                    connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(outages=jobs.c.outages + 1))
                    if number == 0 and tries[order] == 1:
                        meet.wait(20)

        retried(once)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(crosswise, (1, -1)))
    assert sum(tries.values()) == 3
    with ledger.database.read() as connection:
        assert connection.execute(sa.select(jobs.c.outages)).scalars().all() == [2, 2]


def test_processes_that_start_at_once_make_one_schema(
    settings: Settings, postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an empty database each finds the schema whole; none fails."""
    url = postgres_server.create(f"empty_{time.monotonic_ns()}")
    monkeypatch.setenv("POSTROOM_TEST_LEDGER_URL", url)
    with ThreadPoolExecutor(3) as pool:
        told = list(pool.map(lambda _: postroom("jobs", state=settings.state_dir), range(3)))
    assert [(one.returncode, one.stdout.strip().splitlines()[-1]) for one in told] == [(0, "no jobs yet")] * 3


@pytest.mark.slow
@pytest.mark.timeout(400)  # twenty seconds on a machine that has nothing else to do
def test_two_hosts_run_each_stage_once(settings: Settings, ledger: Ledger, tmp_path: Path) -> None:
    """Two hosts accept, rescue and work on one ledger and one broker: 200 mails, each stage of each begun once."""
    started: list[subprocess.Popen[bytes]] = []
    with EmbeddedBroker(tmp_path / "broker") as broker:
        for host in range(2):
            options = {
                "state_dir": str(tmp_path / f"host{host}"),
                "ledger_url": settings.ledger,
                "broker_url": broker.url,
                "log_level": "error",
                "rescue": RescueSettings(tick=0.2).model_dump(),
            }
            file = tmp_path / f"host{host}.json"
            file.write_text(json.dumps(options))
            command = [
                sys.executable,
                "-m",
                "tests.integration.host",
                str(file),
                str(host * 100),
                str(host * 100 + 100),
            ]
            started.append(subprocess.Popen(command, cwd=REPO))
        try:
            until(lambda: ledger.jobs.counts() == {"done": 200}, 360)
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(30)
    with ledger.database.read() as connection:
        claims = connection.execute(sa.select(jobs.c.lease_token)).scalars().all()
        told = Counter(connection.execute(sa.select(events.c.event)).scalars())
        tries = connection.execute(sa.select(attempts.c.outcome)).scalars().all()
    assert set(claims) == {4}
    assert told == dict.fromkeys(("extract done", "classify done", "reply done", "deliver done"), 200)
    assert tries == ["sent"] * 200


def test_the_api_answers_from_it(settings: Settings, ledger: Ledger) -> None:
    """Submit, list, search, story, result and raw bytes over HTTP."""
    with running(settings) as house:
        job_id = house.post(files={"file": PDF}, data={"sender": "ada@sender.example"}).json()["job"]
        take_to_the_end(house.ledger, job_id)
        assert [one["id"] for one in house.http.get("/jobs", params={"search": "ADA@"}).json()["jobs"]] == [job_id]
        assert house.http.get("/jobs", params={"search": "100%_\\"}).json()["jobs"] == []
        assert house.http.get(f"/jobs/{job_id}").json()["state"] == "done"
        assert house.http.get(f"/jobs/{job_id}/raw").content == PDF[1]
        assert house.http.get(f"/jobs/{job_id}/result").status_code == 200
        assert house.http.get("/jobs/%00%00%00%00").status_code == 404


def test_the_command_line_works_on_it(settings: Settings, intake: Intake, ledger: Ledger) -> None:
    """Jobs, show, cancel and retry, with the URL from the environment."""
    job_id = intake.accept(envelope(), MAIL).job_id
    assert job_id in postroom("jobs", state=settings.state_dir).stdout
    assert postroom("cancel", job_id[-8:], state=settings.state_dir).returncode == 0
    assert postroom("retry", job_id, state=settings.state_dir).returncode == 0
    assert ledger.jobs.counts() == {"received": 1} or ledger.jobs.counts() == {"delivering": 1}
