"""Proof that a worker consumes: every half minute it sends itself a task through the broker.

A consumer can be alive and deaf (celery #10205, kombu #2492): connected, without an error, and fetching nothing. Such a
worker ends by itself, so that systemd or `postroom up` starts it again; its leases end with its process. A worker
that is full has no room for the canary, and a broker that is down carries none: neither is deaf.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from celery import Celery
from kombu import Connection, Exchange, Queue

from tasks import log
from tasks.app import BROKER_ERRORS
from tasks.clock import now_ms

TASK = "postroom.canary"
PATIENCE = 3
"""Canaries that may be unanswered in a row."""
SEEN = "postroom.worker."
"""Prefix of the Redis keys that tell which workers consume; they vanish with their worker."""


class Canary:
    """One worker's own queue, the task on it, and a thread that watches the answers."""

    def __init__(
        self,
        app: Celery,
        owner: str,
        serves: str,
        every: float,
        is_full: Callable[[], bool],
        alive: Callable[[], object],
        deaf: Callable[[], object],
    ) -> None:
        """`owner` names the process, `serves` its queues, `every` is in seconds.

        `alive` is called after each proof (and while none can be had), `deaf` once when there is none.
        """
        self.queue = f"canary.{owner}"
        self._app, self._owner, self._serves, self._every = app, owner, serves, every
        self._is_full, self._alive, self._deaf = is_full, alive, deaf
        self._keep = int(2 * PATIENCE * every) + 1
        self._heard = threading.Event()
        self._stop = threading.Event()
        # the nameless exchange: no binding is left in Redis when the process is killed (`add` would name it)
        app.amqp.queues[self.queue] = Queue(self.queue, Exchange(""), routing_key=self.queue)
        app.task(name=TASK, typing=False)(self._hear)

    def start(self) -> None:
        """Begin to watch; call it when the worker consumes."""
        threading.Thread(target=self._run, name="canary", daemon=True).start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()

    def _hear(self) -> None:
        self._heard.set()

    def _run(self) -> None:
        unheard = 0
        while not self._stop.is_set():
            if self._proved():
                unheard = 0
                self._alive()
                self._stop.wait(self._every)
            elif (unheard := unheard + 1) >= PATIENCE and not self._stop.is_set():
                log.worker_deaf(self._serves, unheard * self._every)
                self._deaf()
                return

    def _proved(self) -> bool:
        """Whether a canary came back, or could not: for want of a broker, or of room."""
        self._heard.clear()
        try:
            with self._app.connection_for_write() as connection:
                redis = _redis(connection)
                self._app.send_task(TASK, queue=self.queue, connection=connection, retry=False)
                redis.expire(self.queue, self._keep)
                if not self._heard.wait(self._every) and not self._is_full():
                    return False
                told = {"worker": self._owner, "serves": self._serves, "at": now_ms()}
                redis.set(SEEN + self._owner, json.dumps(told), ex=self._keep)
        except BROKER_ERRORS:
            pass
        return True


def workers(app: Celery) -> list[dict[str, Any]]:
    """The workers that consumed lately: `worker`, `serves` (queues), `at` (milliseconds). Raises one of BROKER_ERRORS."""
    with app.connection_for_read() as connection:
        redis = _redis(connection)
        values = [redis.get(key) for key in redis.scan_iter(f"{SEEN}*")]
    return sorted((json.loads(value) for value in values if value), key=lambda one: str(one["serves"]))


def _redis(connection: Connection) -> Any:
    channel: Any = connection.default_channel
    return channel.client
