"""A queue for each class of models: who gets which job, and what becomes of one that is published to the wrong queue."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.engine import ModelSettings
from config.models import TaskModel
from config.routes import RouteModel
from config.settings import Settings
from daemon.checks import consumers
from daemon.embedded.broker import EmbeddedBroker
from tasks import pipeline
from tasks.app import make_app, publish, queued, queues_of
from tasks.canary import SEEN
from tasks.classes import queue_for, queue_of
from tasks.clock import now_ms
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.models import Stage
from tasks.worker import Current, Room, _register
from tasks.workshop import Workshop
from tests.unit.test_pipeline import CLASSIFY, EXTRACT, ROUTE, StandIn, accept, trip

pytestmark = pytest.mark.sqlite_only
CLASSES = ModelSettings(name="small:1b", classes={"large:32b": "gpu", "tiny:0.5b": "cpu"})
LARGE = ROUTE.model_copy(update={"model": RouteModel(name="large:32b", reply=TaskModel(name="tiny:0.5b"))})


@pytest.fixture
def shop(settings: Settings, ledger: Ledger, tmp_path: Path) -> Iterator[Workshop]:
    with EmbeddedBroker(tmp_path / "broker") as broker:
        connected = settings.model_copy(update={"model": CLASSES, "broker_url": broker.url})
        made = Workshop(connected, [LARGE], ledger, StandIn())  # type: ignore[arg-type]
        yield made
        made.heart.stop()


class Tasks:
    """A Celery app whose tasks are its own: Celery shares those of one name among all apps of a process."""

    def __init__(self, settings: Settings) -> None:
        self._app = make_app(settings)
        self.found: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    def task(self, **_: object) -> Any:
        return self.found.append


def handle(
    shop: Workshop, step: pipeline.Step, queues: Sequence[str], job_id: str, chain: list[dict[str, Any]]
) -> None:
    """What a worker of `queues` does with a message for the step."""
    tasks = Tasks(shop.settings)
    _register(tasks, Current(shop), step, Room(1), pipeline.elsewhere, queues)  # type: ignore[arg-type]
    tasks.found[0](SimpleNamespace(request=SimpleNamespace(chain=chain)), job_id)


def depths(shop: Workshop) -> dict[str, int]:
    return {queue: number for queue, number in queued(make_app(shop.settings)).items() if number}


def test_the_model_decides(settings: Settings) -> None:
    """Of the stage's tasks the larger one's model; what has no class is for the queue that there always was."""
    made = settings.model_copy(update={"model": CLASSES})
    fields = ROUTE.model_copy(update={"model": RouteModel(fields=TaskModel(name="large:32b"))})
    label = ROUTE.model_copy(update={"model": RouteModel(classify=TaskModel(name="tiny:0.5b"))})
    found = [queue_for(made, route, Stage.CLASSIFY) for route in (ROUTE, LARGE, fields, label)]
    assert found == ["model", "model.gpu", "model.gpu", "model.cpu"]
    assert [queue_for(made, route, Stage.REPLY) for route in (ROUTE, LARGE)] == ["model", "model.cpu"]
    assert queues_of(made) == ("fetch", "extract", "model", "deliver", "model.cpu", "model.gpu")
    assert queues_of(settings) == ("fetch", "extract", "model", "deliver")


def test_what_comes_next_is_for_its_queue(shop: Workshop, intake: Intake) -> None:
    """The link of the chain says so; without classes it stays as it was."""
    job_id = accept(intake)
    links: list[dict[str, Any]] = [{"task": f"postroom.{name}", "options": {}} for name in ("reply", "classify")]
    handle(shop, EXTRACT, ["extract"], job_id, links)
    assert links[-1] == {"task": "postroom.classify", "options": {"queue": "model.gpu"}}
    assert queue_of(shop, job_id, Stage.DELIVER) == "deliver"
    handle(shop, CLASSIFY, ["model.gpu"], job_id, links[:1])
    assert links[0]["options"] == {"queue": "model.cpu"}


def test_a_message_in_the_wrong_queue_goes_to_the_right_one(shop: Workshop, intake: Intake) -> None:
    """The rescue does not know the model of a job; a worker of `model` does, and costs it no attempt."""
    job_id = accept(intake)
    pipeline.run(shop, job_id, EXTRACT)
    publish(make_app(shop.settings), job_id, Stage.CLASSIFY)
    assert depths(shop) == {"model": 1}
    rest: list[dict[str, Any]] = [{"task": "postroom.reply", "options": {}}]
    handle(shop, CLASSIFY, ["model"], job_id, rest)
    assert depths(shop) == {"model": 1, "model.gpu": 1}
    assert rest == []
    job = shop.ledger.jobs.get(job_id)
    assert job
    assert (job.stage, job.attempts) == (Stage.CLASSIFY, 0)
    handle(shop, CLASSIFY, ["model.gpu"], job_id, rest)
    assert shop.ledger.jobs.result(job_id, Stage.CLASSIFY)


def test_a_job_that_is_through_is_sent_nowhere(shop: Workshop, intake: Intake, sent: list[Any]) -> None:
    """A second message for it is let run out where it is."""
    job_id = accept(intake)
    trip(shop, job_id)
    assert sent
    assert queue_of(shop, job_id, Stage.CLASSIFY) == "model"


def test_the_check_names_a_class_that_nobody_serves(shop: Workshop) -> None:
    """As it does for every other queue."""
    app = make_app(shop.settings)
    told = {"worker": "here:1", "serves": "fetch, extract, model, deliver, model.cpu", "at": now_ms()}
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        channel.client.set(f"{SEEN}here:1", json.dumps(told))
    found = consumers(shop.settings)
    assert found
    assert (found.state, found.instead) == ("failed", "start postroom worker --queues model.gpu")
