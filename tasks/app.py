"""The Celery app: queues, tasks, workers, and publishing. A message carries a job id and nothing else."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery, chain
from celery.exceptions import Ignore
from celery.signals import worker_ready
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from config.settings import Settings
from tasks import log
from tasks.errors import Unavailable
from tasks.ledger import Ledger
from tasks.models import Stage
from tasks.pipeline import QUEUES, STAGES, Step, from_stage, run
from tasks.workshop import Workshop

BROKER_ERRORS = (KombuError, RedisError, OSError)
_NUDGES = 256  # more than this waits for the rescue, so that accepting is never slowed by the broker


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
        task_routes={name_of(step): {"queue": step.queue} for step in STAGES},
        task_create_missing_queues=True,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"socket_connect_timeout": 3, "socket_timeout": 30, "socket_keepalive": True},
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    return app


def name_of(step: Step) -> str:
    """The Celery task that runs `step`."""
    return f"postroom.{step.stage.value}"


def publish(app: Celery, job_id: str, stage: Stage) -> None:
    """Publish the chain of all stages from `stage` on. Raises one of BROKER_ERRORS."""
    links = [app.signature(name_of(step), args=(job_id,), immutable=True) for step in from_stage(stage)]
    chain(*links).apply_async(retry=False)


def queued(app: Celery) -> dict[str, int]:
    """Messages that wait in each queue. Raises one of BROKER_ERRORS."""
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        return {queue: int(channel._size(queue)) for queue in QUEUES}  # kombu has no public call for it


def ping(app: Celery) -> None:
    """Raises one of BROKER_ERRORS when the broker does not answer."""
    with app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)


class Nudger:
    """Publishes new jobs from a thread of its own, so that nobody who accepts has to wait for the broker."""

    def __init__(self, app: Celery, ledger: Ledger) -> None:
        self._app = app
        self._ledger = ledger
        self._new: deque[str] = deque(maxlen=_NUDGES)
        self._wake = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="nudger", daemon=True)
        self._thread.start()

    def __call__(self, job_id: str) -> None:
        """Ask for `job_id` to be published soon. Never blocks; what is dropped or fails is the rescue's."""
        self._new.append(job_id)
        self._wake.set()

    def close(self) -> None:
        """Publish what waits and stop."""
        self._stop = True
        self._wake.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop:
            self._wake.wait()
            self._wake.clear()
            done = []
            try:
                while self._new:
                    job_id = self._new.popleft()
                    publish(self._app, job_id, Stage.EXTRACT)
                    done.append(job_id)
            except BROKER_ERRORS as error:
                log.broker_down(str(error))
                self._new.clear()
            try:
                self._ledger.backlog.mark_enqueued(done)
            except Unavailable:
                continue  # they are published twice at worst, and the lease absorbs it


def run_worker(settings: Settings, queues: Sequence[str], concurrency: int, ready: Callable[[], None]) -> int:
    """Consume `queues` with `concurrency` threads until told to stop; the exit status."""
    shop = Workshop.open(settings)
    app = make_app(settings)
    for step in STAGES:
        _register(app, shop, step)
    announce = worker_ready.connect(lambda **_: ready(), weak=False)
    try:
        worker = app.Worker(
            pool="threads",
            concurrency=concurrency,
            queues=list(queues),
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            loglevel="WARNING",
            quiet=True,
        )
        worker.start()
        return int(worker.exitcode or 0)
    finally:
        worker_ready.disconnect(announce)
        shop.close()


def _register(app: Celery, shop: Workshop, step: Step) -> None:
    def task(job_id: str) -> None:
        try:
            goes_on = run(shop, job_id, step)
        except Unavailable as error:  # the ledger: the rescue finds the job when it is back
            log.ledger_down(job_id, step.stage, error.reason)
            goes_on = False
        if not goes_on:
            raise Ignore  # ends the chain without a failure; what comes next stands in the ledger

    app.task(name=name_of(step), typing=False)(task)
