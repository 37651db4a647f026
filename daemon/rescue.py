"""Puts back to work what is due, lost or stuck. Safe to run in several places at once: each move is compare-and-set."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from celery import Celery

from config.settings import Settings
from daemon.indexing import Backfill
from daemon.retention import SlowTick
from tasks import log
from tasks.app import BROKER_ERRORS, make_app, publish, queued
from tasks.clock import now_ms
from tasks.errors import Unavailable
from tasks.heart import is_gone
from tasks.ledger import Held, Ledger
from tasks.models import Stage

FRESH_MS = 1500  # a job this young is still with the one who accepted it
BATCH = 500
STALE_FACTOR = 10  # published this many times `lost_after` ago: published again, however long the queue is


class Rescue:
    """One look at the ledger per tick."""

    def __init__(self, settings: Settings, ledger: Ledger, app: Celery) -> None:
        self._settings = settings
        self._ledger = ledger
        self._app = app
        self._beats: dict[str, tuple[Held, float]] = {}
        self._broker_down = False

    def tick(self) -> int:
        """Free dead leases, then publish what nobody has; the number of jobs published. Raises Unavailable."""
        self.free_leases()
        try:
            depth = queued(self._app)
            published = self._publish(depth)
        except BROKER_ERRORS as error:
            if not self._broker_down:
                log.broker_down(str(error))
            self._broker_down = True
            return 0
        if self._broker_down:
            log.broker_up()
        self._broker_down = False
        return published

    def free_leases(self) -> None:
        """Take back the leases of processes that ended, and those whose beat stood still for a lease's length."""
        now = time.monotonic()
        seen: dict[str, tuple[Held, float]] = {}
        for held in self._ledger.leases.held():
            before = self._beats.get(held.job_id)
            since = before[1] if before and before[0] == held else now
            seen[held.job_id] = (held, since)
            reason = "its process has ended" if is_gone(held.owner) else ""
            if not reason and now - since > self._settings.worker.lease:
                reason = f"no sign of life for {now - since:.0f} s"
            if reason and self._ledger.leases.take_back(held, reason):
                log.lease_taken_back(held.job_id, held.owner, reason)
        self._beats = seen

    def _publish(self, depth: dict[str, int]) -> int:
        room = self._settings.rescue.max_queued - sum(depth.values())
        if room <= 0:
            return 0
        backlog, now = self._ledger.backlog, now_ms()
        found = backlog.not_enqueued(min(room, BATCH), older_than_ms=FRESH_MS)
        patience = int(self._settings.rescue.lost_after * 1000)
        if not any(depth.values()):
            found += backlog.lost(min(room, BATCH), enqueued_before=now - patience)
        found += backlog.lost(min(room, BATCH), enqueued_before=now - patience * STALE_FACTOR)
        return self._put_back({job.job_id: job.stage for job in found}, now - patience)

    def _put_back(self, found: dict[str, Stage], late: int) -> int:
        """Publish those that no other rescue has just taken.

        They are marked first: a mark too many is a job found late, a mark too few is one published by each rescue.
        """
        taken = self._ledger.backlog.take(list(found), enqueued_before=late)
        done = 0
        try:
            for job_id in taken:
                publish(self._app, job_id, found[job_id])
                done += 1
        finally:
            if done < len(taken):
                self._ledger.backlog.give_back(taken[done:])
        if done:
            log.enqueued(done, "due, new or lost")
        return done


def run(settings: Settings, stop: threading.Event, ready: Callable[[str], None]) -> None:
    """Tick until `stop` is set."""
    ledger = Ledger.open(settings.ledger)
    rescue = Rescue(settings, ledger, make_app(settings))
    slow, backfill = SlowTick(settings, ledger), Backfill(ledger)
    ready(f"rescue every {settings.rescue.tick:g} s")
    while not stop.wait(settings.rescue.tick):
        try:
            while rescue.tick() >= BATCH and not stop.is_set():
                pass
            slow.step()
            backfill.step()
        except Unavailable as error:
            log.rescue_waits(error.reason)
    ledger.close()
