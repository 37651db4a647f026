"""The process that consumes the queues: Celery's threads pool around `pipeline.run`."""

from __future__ import annotations

import os
import socket
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery
from celery.exceptions import SecurityWarning
from celery.signals import worker_ready, worker_shutting_down
from celery.worker import state

from config.settings import Settings
from tasks import log, tracing
from tasks.app import BROKER_ERRORS, MODEL_QUEUE, QUEUE_OF, make_app, name_of, publish
from tasks.canary import Canary
from tasks.classes import TASKS_OF, queue_of
from tasks.errors import Unavailable
from tasks.meaning import Background
from tasks.models import Stage
from tasks.pipeline import STAGES, Here, Step, run
from tasks.workshop import Workshop, models_of, turns_of

HAND_BACK = 45.0
"""Seconds that stages may take to end when the worker is told to stop; below the unit's TimeoutStopSec."""
DEAF = 75
"""Exit status of a worker that does not consume any more (EX_TEMPFAIL of sysexits(3))."""


def run_worker(
    settings: Settings,
    queues: Sequence[str],
    concurrency: int,
    ready: Callable[[], None],
    alive: Callable[[], object] = lambda: None,
    *,
    stopping: Callable[[], object] = lambda: None,
    on_reload: Callable[[Callable[[Settings], None]], object] = lambda apply: None,
    canary: float = 0,
    steps: Sequence[Step] = STAGES,
) -> int:
    """Consume `queues` with `concurrency` threads until told to stop; the exit status.

    `alive` is called whenever the worker has proved that it consumes, every `canary` seconds (0: as [worker] says); one
    that is deaf ends the process with DEAF. Told to stop, it calls `stopping`, ends what it runs, and hands back what
    takes longer than HAND_BACK. `on_reload` is given what takes over new settings: stages that run keep the old ones.
    Raises Permanent when [tracing] is set and its extra is not installed.
    """
    # as root in a container is an admin's choice; Celery's page-long warning about it belongs in no journal
    warnings.filterwarnings("ignore", category=SecurityWarning)
    shop = Workshop.open(settings)
    tracing.configure(settings, shop.owner)
    app = make_app(settings)
    room = Room(concurrency)
    served = {step.stage: step for step in steps if QUEUE_OF[step.stage] in queues}

    def here(stage: Stage) -> Step | None:
        """What this worker may do next without asking the broker; nothing more when it is told to stop."""
        stops = state.should_stop is not None or state.should_terminate is not None  # 0 is the exit status "well"
        sorted_by_class = stage in TASKS_OF and current.shop.settings.model.classes
        return None if stops or sorted_by_class else served.get(stage)

    current = Current(shop)
    on_reload(current.change)
    for step in steps:
        _register(app, current, step, room, here, queues)
    proof = Canary(app, shop.owner, ", ".join(queues), canary or settings.worker.canary, room.is_full, alive, _end)

    meanings = (
        _meanings(shop) if settings.model.embed and any(name.startswith(MODEL_QUEUE) for name in queues) else None
    )

    def begin(**_: object) -> None:
        proof.start()
        if meanings:
            meanings.start()
        ready()

    def stop(**_: object) -> None:
        stopping()
        _hand_back_after(room)

    worker_ready.connect(begin, weak=False)
    worker_shutting_down.connect(stop, weak=False)
    try:
        worker = app.Worker(
            pool="threads",
            concurrency=concurrency,
            queues=[*queues, proof.queue],
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=not settings.worker.events,
            hostname=f"{'+'.join(queues)}.{os.getpid()}@{socket.gethostname()}",  # Flower keeps workers apart by it
            loglevel="WARNING",
            quiet=True,
        )
        worker.start()
        return int(worker.exitcode or 0)
    finally:
        proof.stop()
        if meanings:
            meanings.stop()
        worker_ready.disconnect(begin)
        worker_shutting_down.disconnect(stop)
        tracing.close()
        shop.close()


def _meanings(shop: Workshop) -> Background:
    """Documents get their vectors where models are asked anyway: elsewhere there may be no way to them."""
    model = shop.settings.model
    return Background(shop.ledger, models_of(shop.settings), model.embed, model.embed_every, turns_of(shop.settings))


class Current:
    """The workshop in force. A stage takes it once, so that it works from its start to its end with the same settings."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop

    def change(self, settings: Settings) -> None:
        """Take over new settings, routes and templates. Raises ConfigError."""
        self.shop = self.shop.again(settings)


class Room:
    """How many stages run at once, and whether there is room for more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._running = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._running += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._running -= 1

    def is_full(self) -> bool:
        """Whether a further task would have to wait."""
        return self._running >= self._most

    @property
    def running(self) -> int:
        """Stages that run now."""
        return self._running


def _end() -> None:
    """At once: what hangs in this process would not let it end in order, and its leases are freed when it is gone."""
    os._exit(DEAF)


def _hand_back_after(room: Room) -> None:
    """End the process when a stage does not come to its end: the rescue frees the leases of a process that is gone."""

    def end() -> None:
        log.handed_back(room.running)
        os._exit(0)

    timer = threading.Timer(HAND_BACK, end)
    timer.daemon = True
    timer.start()


def _register(app: Celery, current: Current, step: Step, room: Room, here: Here, queues: Sequence[str]) -> None:
    def task(self: Any, job_id: str) -> None:
        shop, queue, following = current.shop, "", None
        try:
            place = queue_of(shop, job_id, step.stage)
            if place not in queues and place != QUEUE_OF[step.stage]:  # whoever published it did not know the model
                publish(app, job_id, step.stage, queue=place)
            else:
                with room:
                    following = run(shop, job_id, step, here)
                queue = queue_of(shop, job_id, following) if following else ""
        except Unavailable as error:  # the ledger: the rescue finds the job when it is back
            log.ledger_down(job_id, step.stage, error.reason)
            following = None
        except BROKER_ERRORS as error:
            log.broker_down(str(error))
        _cut(self.request.chain, following, queue)

    app.task(name=name_of(step.stage), bind=True, typing=False)(task)


def _cut(chain: list[dict[str, Any]] | None, following: Stage | None, queue: str) -> None:
    """Take the stages out of the rest of the chain that are done, or all when nothing is to follow; the next is for `queue`.

    What comes next stands in the ledger; the chain only carries it there. Celery keeps the next link last.
    """
    while chain and (following is None or chain[-1]["task"] != name_of(following)):
        chain.pop()
    if chain and following and queue != QUEUE_OF[following]:
        chain[-1]["options"]["queue"] = queue
