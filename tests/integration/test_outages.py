"""An hour without one of the things that every job needs: no attempt is lost, two alerts are written, all goes on.

Servers are really gone and really come back; only the hour is a moved clock's.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from config.engine import ModelSettings
from config.settings import Settings
from daemon import outages as watching
from daemon.checks import Finding, _outages
from daemon.embedded.broker import EmbeddedBroker
from daemon.outages import Watcher
from daemon.rescue import Rescue
from tasks import guard as guards
from tasks import pipeline
from tasks.app import make_app
from tasks.clock import now_ms
from tasks.errors import Unavailable
from tasks.intake import Intake
from tasks.judging.calls import Ask
from tasks.ledger import Ledger, engine
from tasks.model import Models
from tasks.models import Classification, Job, State
from tasks.outages import standings
from tasks.workshop import Workshop
from tests.integration.api_parts import running
from tests.integration.postgres import Postgres
from tests.integration.test_smtp_out import sink as mail_sink
from tests.moved_clock import Clock
from tests.ports import free_port
from tests.unit.test_pipeline import CLASSIFY, DELIVER, MAIL, ROUTE, StandIn, accept, before_deliver, job_of

HOUR = 3600
STEP = 240


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    guards.forget()
    yield Clock(monkeypatch)
    guards.forget()


def configured(settings: Settings, **changes: Any) -> Settings:
    values = {
        "state_dir": settings.state_dir,
        "ledger_url": settings.ledger_url,
        "alerts": {"mail": ["admin@team.example"]},
        "smtp_out": {"port": free_port(), "domain": "post.example"},
    }
    return Settings.model_validate({**values, **changes})


@pytest.fixture
def shop(settings: Settings, ledger: Ledger) -> Iterator[Workshop]:
    made = Workshop(configured(settings), [ROUTE], ledger, StandIn())  # type: ignore[arg-type]
    yield made
    made.heart.stop()


def alerts(ledger: Ledger) -> list[Job]:
    return list(reversed(ledger.jobs.page(source="postroom")))


def subjects(ledger: Ledger) -> list[str]:
    return [job.subject for job in alerts(ledger)]


def live(shop: Workshop, clock: Clock, job_ids: list[str], seconds: float) -> None:
    """So much time passes: whatever is due is run, and everybody looks, every four minutes."""
    watcher, left = Watcher(shop.settings, shop.ledger), seconds
    while left > 0:
        clock.on(min(left, STEP))
        left -= STEP
        for one in guards.guards():
            one.breaker._clock = clock.monotonic
        for job_id in job_ids:
            job = job_of(shop, job_id)
            if job.stage and (job.due_at or 0) <= now_ms():
                pipeline.run(shop, job_id, pipeline.from_stage(job.stage)[0])
        shop.reporter.look()
        watcher.look("")


def waits_unharmed(shop: Workshop, job_id: str) -> None:
    job = job_of(shop, job_id)
    assert (job.state, job.attempts) == (State.WAITING, 0)
    assert [one.attempts for one in shop.ledger.deliveries.of(job_id)] in ([], [0])


def found(shop: Workshop, name: str) -> str:
    return next(one.state for one in standings(shop.ledger, shop.settings) if one.dependency.startswith(name))


def test_an_hour_without_the_mail_server(shop: Workshop, intake: Intake, clock: Clock) -> None:
    """Three answers wait; one alert says so and one that it is over; then each answer goes out once."""
    ids = [accept(intake, MAIL.replace(b"<m1@", b"<m%d@" % n), key=str(n)) for n in range(3)]
    for job_id in ids:
        before_deliver(shop, job_id)
    assert found(shop, "smtp:") == "closed"
    live(shop, clock, ids, HOUR)
    for job_id in ids:
        waits_unharmed(shop, job_id)
    [told] = subjects(shop.ledger)
    assert told == f"the mail server 127.0.0.1:{shop.settings.smtp_out.port} does not work"
    assert found(shop, "smtp:") in {"open", "half-open"}
    with mail_sink(port=shop.settings.smtp_out.port) as (post, _):
        live(shop, clock, ids, HOUR / 2)
    assert [job_of(shop, job_id).state for job_id in ids] == [State.DONE] * 3
    assert len(post.got) == 3
    assert subjects(shop.ledger)[1:] == [f"the mail server 127.0.0.1:{shop.settings.smtp_out.port} works again"]
    assert found(shop, "smtp:") == "closed"
    tries = [one.outcome for job_id in ids for one in shop.ledger.deliveries.attempts_of(job_id)]
    assert tries.count("sent") == 3
    assert set(tries) == {"sent", "unavailable"}


class Model(BaseHTTPRequestHandler):
    """A server that answers as Ollama does, for want of a real one that starts within a second."""

    def do_GET(self) -> None:
        self._say({"version": "0"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked["model"] == "gone":
            self._say({"error": "model 'gone' not found"}, 404)
            return
        self._say(
            {"model": "m", "message": {"role": "assistant", "content": "yes"}, "done": True, "prompt_eval_count": 9}
        )

    def _say(self, told: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(told).encode() + b"\n"
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Asking(StandIn):
    """A judge that asks a server one real question."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self._engine = Models(settings)

    def classify(self, *_: Any) -> Classification:
        self._engine.ask(Ask("m", [{"role": "user", "content": "Well?"}], "label", predict=16, num_ctx=2048))
        return self.answer


@pytest.mark.sqlite_only
def test_an_hour_without_the_model_server(settings: Settings, ledger: Ledger, intake: Intake, clock: Clock) -> None:
    """The same for what asks the model: one breaker for its host, one alert, one when it is over."""
    port = free_port()
    model = ModelSettings(host=f"http://127.0.0.1:{port}")
    shop = Workshop(configured(settings, model=model), [ROUTE], ledger, Asking(model))  # type: ignore[arg-type]
    ids = [accept(intake, MAIL.replace(b"<m1@", b"<m%d@" % n), key=str(n)) for n in range(3)]
    live(shop, clock, ids, HOUR)
    for job_id in ids:
        waits_unharmed(shop, job_id)
        assert not shop.ledger.jobs.result(job_id, CLASSIFY.stage)
    assert subjects(ledger) == [f"the model server http://127.0.0.1:{port} does not work"]
    server = ThreadingHTTPServer(("127.0.0.1", port), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    live(shop, clock, ids, 600)
    server.shutdown()
    server.server_close()
    assert all(shop.ledger.jobs.result(job_id, CLASSIFY.stage) for job_id in ids)
    # the mail server is away too, since the answers are there
    assert sorted(one for one in subjects(ledger) if "model" in one)[1:] == [
        f"the model server http://127.0.0.1:{port} works again"
    ]
    shop.heart.stop()


@pytest.mark.sqlite_only
def test_a_model_that_is_not_there_stops_no_other(shop: Workshop, clock: Clock) -> None:
    """It has a breaker and an alert of its own; what asks the same server for another model goes on."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        engine_of = Models(ModelSettings(host=f"http://127.0.0.1:{server.server_port}"))
        wish = Ask("m", [{"role": "user", "content": "Well?"}], "label", predict=16, num_ctx=2048)
        for _ in range(12):
            with pytest.raises(Unavailable, match="no model gone"):
                engine_of.ask(dataclasses.replace(wish, model="gone"))
            live(shop, clock, [], STEP)
        assert engine_of.ask(wish).text == "yes"
        server.shutdown()
    assert subjects(shop.ledger) == [f"the model gone at http://127.0.0.1:{server.server_port} does not work"]


@pytest.mark.sqlite_only
def test_an_hour_without_the_broker(settings: Settings, ledger: Ledger, clock: Clock, tmp_path: Path) -> None:
    """No worker hears of anything meanwhile, so the alert is sent by the rescue itself; and the one when it is over."""
    broker = EmbeddedBroker(tmp_path / "broker", port=free_port())
    url = broker.start()
    with mail_sink() as (post, port):
        chosen = configured(settings, broker_url=url, smtp_out={"port": port, "domain": "post.example"})
        rescue, watchers = Rescue(chosen, ledger, make_app(chosen)), [Watcher(chosen, ledger) for _ in range(2)]

        def look() -> None:
            rescue.tick()
            for one in watchers:
                one.look(rescue.broker_down)
                if one._carrier._thread:
                    one._carrier._thread.join(30)

        look()
        broker.stop()
        for _ in range(3):
            look()
            clock.on(HOUR / 3)
        assert [message[1] for message in post.got] == [["admin@team.example"]]
        assert [(job.state, job.attempts) for job in alerts(ledger)] == [(State.DONE, 0)]
        assert subjects(ledger) == ["the broker (Redis) does not work"]
        broker = EmbeddedBroker(tmp_path / "broker", port=broker._wanted_port)
        rescue._app = make_app(chosen.model_copy(update={"broker_url": broker.start()}))
        look()
        clock.on(61)
        look()
        broker.stop()
    [_, over] = alerts(ledger)
    assert over.subject == "the broker (Redis) works again"
    for watcher in watchers:
        if watcher._carrier._shop:
            watcher._carrier._shop.heart.stop()


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
def test_an_hour_without_the_ledger(
    settings: Settings, ledger: Ledger, clock: Clock, postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line in the journal at once; when it is back one alert with both times, however many hosts saw it."""
    lines: list[str] = []
    monkeypatch.setattr(watching.log, "rescue_waits", lines.append)
    chosen = configured(settings)
    watchers = [Watcher(chosen, ledger) for _ in range(2)]
    postgres_server.stop()
    try:
        for _ in range(4):
            for watcher in watchers:
                with pytest.raises(Unavailable) as down:
                    watcher.look("")
                watcher.ledger_down(down.value)
            clock.on(HOUR / 4)
        assert len(lines) == 2, "one of each process"
        assert "the ledger does not answer" in lines[0]
    finally:
        postgres_server.start()
    for watcher in watchers:
        watcher.look("")
    [told] = alerts(ledger)
    assert told.subject == "the ledger works again"
    text = (ledger.jobs.raw(told.id) or b"").decode()
    assert "(60 minutes)" in text
    assert text.count("Z") == 2


def test_a_blip_is_not_told(shop: Workshop, intake: Intake, clock: Clock) -> None:
    """What is away for half a minute wakes nobody; `outage_after` says how long is long."""
    job_id = accept(intake)
    before_deliver(shop, job_id)
    pipeline.run(shop, job_id, DELIVER)
    shop.reporter.look()
    assert found(shop, "smtp:") == "failing"
    with mail_sink(port=shop.settings.smtp_out.port):
        live(shop, clock, [job_id], 30)
        live(shop, clock, [job_id], 300)
    assert job_of(shop, job_id).state is State.DONE
    assert alerts(shop.ledger) == []


def test_another_process_ends_what_a_dead_one_began(shop: Workshop, intake: Intake, clock: Clock) -> None:
    """An outage does not stay open because the process that saw it is gone."""
    shop.ledger.outages.failed(
        f"smtp:127.0.0.1:{shop.settings.smtp_out.port}", 1, now_ms() - 1, "refused", settle_ms=60_000
    )
    with mail_sink(port=shop.settings.smtp_out.port):
        live(shop, clock, [accept(intake)], 1200)
    [outage] = shop.ledger.outages.all()
    assert outage.ended_at is not None


@pytest.mark.sqlite_only
def test_what_nobody_asks_for_any_more_is_over(shop: Workshop, clock: Clock) -> None:
    """An outage ends when nothing has failed for longer than any job waits."""
    shop.ledger.outages.failed("smtp:old.example:25", 1, now_ms(), "refused", settle_ms=60_000)
    live(shop, clock, [], 1700)
    assert subjects(shop.ledger) == ["the mail server old.example:25 does not work"]
    live(shop, clock, [], 300)
    assert subjects(shop.ledger)[1:] == ["the mail server old.example:25 works again"]


def test_a_ledger_that_goes_away_within_a_stage_costs_no_attempt(
    shop: Workshop, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the stage could not write is done again as soon as the ledger answers; no lease has to run out for it."""
    job_id = accept(intake)
    with monkeypatch.context() as away:

        def gone(*_: object, **__: object) -> None:
            raise Unavailable("ledger", "gone")

        away.setattr(shop.ledger.leases, "finish", gone)
        with pytest.raises(Unavailable):
            pipeline.run(shop, job_id, pipeline.STAGES[1])
        away.setattr(shop.ledger.leases, "stop", gone)
        with pytest.raises(Unavailable):
            shop.reporter.look()
    assert shop.ledger.leases.held()
    shop.reporter.look()
    assert (job_of(shop, job_id).state, job_of(shop, job_id).attempts) == (State.WAITING, 0)
    assert pipeline.run(shop, job_id, pipeline.STAGES[1])


@pytest.mark.sqlite_only
def test_check_tells_which_breaker_is_open(shop: Workshop, intake: Intake, clock: Clock) -> None:
    """As a finding with its state, since when, and the last reason."""
    job_id = accept(intake)
    before_deliver(shop, job_id)
    live(shop, clock, [job_id], 600)
    [finding] = list(_outages(shop.settings, shop.ledger))
    assert isinstance(finding, Finding)
    assert finding.what == f"breaker smtp:127.0.0.1:{shop.settings.smtp_out.port}"
    assert finding.state == "warning"
    assert "Connection refused" in finding.detail


@pytest.mark.sqlite_only
def test_a_ledger_that_takes_nothing_is_away(
    settings: Settings, ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rescue that has nothing to write finds it all the same, and tells it like any other outage."""
    lines: list[str] = []
    monkeypatch.setattr(watching.log, "rescue_waits", lines.append)
    monkeypatch.setattr(engine, "BUSY_MS", 200)
    watcher = Watcher(configured(settings), ledger)
    watcher.look("")
    ledger.database.close()
    other = sqlite3.connect(settings.state_dir / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        clock.on(60)
        with pytest.raises(Unavailable) as down:
            watcher.look("")
        watcher.ledger_down(down.value)
    other.close()
    watcher.look("")
    assert [("locked" in line) for line in lines] == [True]
    assert subjects(ledger) == ["the ledger works again"]


@pytest.mark.sqlite_only
def test_a_ledger_that_takes_nothing_is_not_ready(
    settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers every question, but no message can be accepted: `/readyz` says so, and `/healthz` does not."""
    monkeypatch.setattr(engine, "BUSY_MS", 200)
    with running(settings) as house:
        assert house.http.get("/readyz").status_code == 200
        other = sqlite3.connect(settings.state_dir / "ledger.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        told = house.http.get("/readyz")
        assert (told.status_code, house.http.get("/healthz").status_code) == (503, 200)
        assert "locked" in told.json()["parts"]["ledger"]
        other.close()
        assert house.http.get("/readyz").status_code == 200
