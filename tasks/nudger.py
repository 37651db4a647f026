"""Publishing new jobs without making those who accept them wait for the broker."""

from __future__ import annotations

import threading
from collections import deque

from celery import Celery

from tasks import log
from tasks.app import BROKER_ERRORS, publish
from tasks.errors import Unavailable
from tasks.ledger import Ledger

MOST = 256  # more than this waits for the rescue, so that accepting is never slowed by the broker


class Nudger:
    """Publishes new jobs from a thread of its own, so that nobody who accepts has to wait for the broker."""

    def __init__(self, app: Celery, ledger: Ledger) -> None:
        self._app = app
        self._ledger = ledger
        self._new: deque[str] = deque(maxlen=MOST)
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
            try:
                while self._new:
                    self._publish([self._new.popleft() for _ in range(len(self._new))])
            except BROKER_ERRORS as error:
                log.broker_down(str(error))
                self._new.clear()
            except Unavailable:
                continue  # the rescue publishes them, some twice at worst, and the lease absorbs it

    def _publish(self, job_ids: list[str]) -> None:
        done = []
        try:
            for job in self._ledger.backlog.stages_of(job_ids):
                publish(self._app, job.job_id, job.stage)
                done.append(job.job_id)
        finally:
            self._ledger.backlog.mark_enqueued(done)
