"""Publishing new jobs without making those who accept them wait for the broker."""

from __future__ import annotations

import contextlib
import queue
import threading
import time

from celery import Celery

from tasks import log
from tasks.app import BROKER_ERRORS, publish
from tasks.errors import Unavailable
from tasks.ledger import Ledger
from tasks.models import Stage

MOST = 10
"""Jobs published at once, and a second. Publishing costs ten times what accepting does: a flood is the rescue's."""


class Nudger:
    """Publishes new jobs from a thread of its own, so that nobody who accepts has to wait for the broker."""

    def __init__(self, app: Celery, ledger: Ledger, rate: float = MOST) -> None:
        self._app = app
        self._ledger = ledger
        self._rate = rate
        self._left = rate
        self._at = time.monotonic()
        self._flooded = False
        self._stop = False
        self._new: queue.SimpleQueue[tuple[str, Stage] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="nudger", daemon=True)
        self._thread.start()

    def __call__(self, job_id: str, stage: Stage) -> None:
        """Ask for `job_id` to be published at `stage` soon. Never blocks; what is dropped or fails is the rescue's."""
        now = time.monotonic()
        self._left = min(self._rate, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            self._flooded = True
        elif self._left > self._rate / 2:
            self._flooded = False
        self._left = max(0, self._left - 1)  # in a flood too: it is over when less comes
        if not self._flooded and self._new.qsize() < self._rate:
            self._new.put((job_id, stage))

    def close(self) -> None:
        """Publish what waits and stop."""
        self._stop = True
        self._new.put(None)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while (new := self._new.get()) is not None:
            done = []
            try:
                while new is not None:
                    publish(self._app, *new)
                    done.append(new[0])
                    new = self._next()
            except BROKER_ERRORS as error:
                log.broker_down(str(error))
                while self._next():  # each would wait for the broker's time-out
                    pass
            with contextlib.suppress(Unavailable):  # they are published twice at worst, and the lease absorbs it
                self._ledger.backlog.mark_enqueued(done)
            if self._stop:
                return

    def _next(self) -> tuple[str, Stage] | None:
        try:
            return self._new.get_nowait()
        except queue.Empty:
            return None
