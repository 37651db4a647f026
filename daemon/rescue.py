"""Puts back to work what is due, lost or stuck. Safe to run in several places at once: each move is compare-and-set."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from celery import Celery

from config.settings import Settings
from daemon.outages import Watcher
from daemon.process import Process, stop_on_signals
from daemon.retention import SlowTick
from tasks import log, meters
from tasks.app import BROKER_ERRORS, make_app, publish, queued
from tasks.clock import now_ms
from tasks.errors import Unavailable
from tasks.heart import is_gone, this_process
from tasks.ledger import Held, Ledger
from tasks.models import Stage
from tasks.recorder import Recorder

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
        self.broker_down = ""
        """Why the broker does not answer; empty when it does."""

    def tick(self) -> int:
        """Free dead leases, then publish what nobody has; the number of jobs published. Raises Unavailable."""
        self.free_leases()
        try:
            depth = queued(self._app)
            published = self._publish(depth)
        except BROKER_ERRORS as error:
            if not self.broker_down:
                log.broker_down(str(error))
            self.broker_down = str(error) or type(error).__name__
            return 0
        if self.broker_down:
            log.broker_up()
        self.broker_down = ""
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


def serve(process: Process) -> None:
    """Tick until told to stop; a reload begins anew with the new settings."""
    stop = stop_on_signals()
    process.begin()
    process.turns(stop, lambda settings, turn: run(settings, turn, process.ready, process.alive))
    process.status.stop()


def run(
    settings: Settings, stop: threading.Event, ready: Callable[[str], None], alive: Callable[[], None] = lambda: None
) -> None:
    """Tick until `stop` is set, and count the messages that came meanwhile.

    `alive` is called after each look, one that found the ledger down as well.
    """
    ledger = Ledger.open(settings.ledger)
    rescue = Rescue(settings, ledger, make_app(settings))
    slow, watcher = SlowTick(settings, ledger), Watcher(settings, ledger)
    recorder = Recorder(ledger, this_process())
    recorder.start()
    ready(f"rescue every {settings.rescue.tick:g} s")
    while not stop.wait(settings.rescue.tick):
        try:
            while _timed(rescue) >= BATCH and not stop.is_set():
                alive()
            watcher.look(rescue.broker_down)
            ledger.tallies.count_arrivals(meters.RECEIVED.name)
            slow.step()
        except Unavailable as error:
            watcher.ledger_down(error)
        alive()
    recorder.stop()
    ledger.close()


def _timed(rescue: Rescue) -> int:
    began = time.monotonic()
    published = rescue.tick()
    meters.rescue_ticked(now_ms(), time.monotonic() - began, published)
    return published
