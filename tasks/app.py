"""The Celery app: its queues and limits, and publishing. A message carries a job id and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from celery import Celery
from kombu import Producer
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from config.settings import Settings
from tasks.clock import now_ms
from tasks.models import Stage

BROKER_ERRORS = (KombuError, RedisError, OSError)
MODEL_QUEUE = "model"
QUEUE_OF = {
    Stage.FETCH: "fetch",
    Stage.EXTRACT: "extract",
    Stage.CLASSIFY: MODEL_QUEUE,
    Stage.REPLY: MODEL_QUEUE,
    Stage.DELIVER: "deliver",
}
"""Which workers run a stage. The order of the stages is Stage's own."""
QUEUES = tuple(dict.fromkeys(QUEUE_OF.values()))

MEMORY = "postroom.memory"
"""The Redis key that is gone when the queues are."""


def queues_of(settings: Settings) -> tuple[str, ...]:
    """All queues: one a class of models more where [model.classes] names some."""
    return (*QUEUES, *(f"{MODEL_QUEUE}.{name}" for name in sorted(set(settings.model.classes.values()))))


def make_app(settings: Settings) -> Celery:
    """The app for `settings`: JSON only, acknowledged late, one message ahead, no results."""
    app = Celery("postroom", broker=settings.broker)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        task_routes={name_of(stage): {"queue": queue} for stage, queue in QUEUE_OF.items()},
        task_create_missing_queues=True,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"socket_connect_timeout": 3, "socket_timeout": 30, "socket_keepalive": True},
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_send_task_events=settings.worker.events,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        postroom_queues=queues_of(settings),
    )
    return app


def name_of(stage: Stage) -> str:
    """The Celery task that runs `stage`."""
    return f"postroom.{stage.value}"


def publish(app: Celery, job_id: str, stage: Stage, producer: Producer | None = None, queue: str | None = None) -> None:
    """Publish the chain of all stages from `stage` on, the first to `queue` where one is given.

    Raises one of BROKER_ERRORS.
    """
    first, *left = list(Stage)[list(Stage).index(stage) :]
    # what `chain(...).apply_async()` comes to, at a third of its cost
    links = [app.signature(name_of(one), args=(job_id,), immutable=True) for one in reversed(left)]
    place = queue or QUEUE_OF[first]
    app.send_task(
        name_of(first), args=(job_id,), chain=links, producer=producer, retry=False, add_to_parent=False, queue=place
    )


@contextlib.contextmanager
def in_bulk(app: Celery) -> Iterator[Producer]:
    """A producer whose messages reach Redis together, when the block ends. Raises one of BROKER_ERRORS.

    A round trip for each would be most of what publishing takes. Kombu has no public call for it; where its channel does
    not have what is replaced here, each message goes by itself.
    """
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        pipeline = channel.client.pipeline(transaction=False)
        channel.conn_or_acquire = lambda _client=None: contextlib.nullcontext(pipeline)
        yield app.amqp.Producer(channel)
        pipeline.execute()


def queued(app: Celery) -> dict[str, int]:
    """Messages that wait in each queue. Raises one of BROKER_ERRORS."""
    with app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)  # else six seconds of tries
        channel: Any = connection.default_channel
        return {
            queue: int(channel._size(queue)) for queue in app.conf.postroom_queues
        }  # kombu has no public call for it


def remembers_since(app: Celery) -> int:
    """Since when the broker has kept what it was given (milliseconds): it was flushed, or began empty, at or before then.

    A key without an end, written where there is none; it goes with all the rest. Raises one of BROKER_ERRORS.
    """
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        channel.client.set(MEMORY, now_ms(), nx=True)
        return int(channel.client.get(MEMORY) or 0)


def ping(app: Celery) -> None:
    """Raises one of BROKER_ERRORS when the broker does not answer."""
    with app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)
