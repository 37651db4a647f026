"""Puts back to work what is due, lost or stuck. Safe to run in several places at once: each move is compare-and-set."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from celery import Celery

from config.settings import Settings
from daemon.indexing import Backfill
from daemon.outages import Watcher
from daemon.process import Process, stop_on_signals
from daemon.retention import SlowTick
from tasks import log, meters
from tasks.app import BROKER_ERRORS, in_bulk, make_app, publish, queued, remembers_since
from tasks.clock import now_ms
from tasks.errors import Unavailable
from tasks.heart import is_gone, this_process
from tasks.ledger import Held, Ledger, Look
from tasks.models import Stage
from tasks.recorder import Recorder
from tasks.review.questions import Asking

FRESH_MS = 1500  # a job this young is still with the one who accepted it
BATCH = 500
BULK = 50
STALE_FACTOR = 10  # published this many times `lost_after` ago: published again, however long the queue is
TELL_SECONDS = 10.0
LOG_SECONDS = 60.0


class Rescue:
    """One look at the ledger per tick."""

    def __init__(self, settings: Settings, ledger: Ledger, app: Celery) -> None:
        self._settings = settings
        self._ledger = ledger
        self._app = app
        self._still: dict[Held, float] = {}
        self._looked = time.monotonic()
        self.broker_down = ""
        """Why the broker does not answer; empty when it does."""
        self.tally = Tally(ledger)

    def tick(self) -> int:
        """Free dead leases, then publish what nobody has; the number of jobs published. Raises Unavailable."""
        begun = time.monotonic()
        self.free_leases()
        try:
            depth = queued(self._app)
            published = self._publish(depth, remembers_since(self._app))
        except BROKER_ERRORS as error:
            if not self.broker_down:
                log.broker_down(str(error))
            self.broker_down = str(error) or type(error).__name__
            self.tally.count(begun, 0, None)
            return 0
        if self.broker_down:
            log.broker_up()
        self.broker_down = ""
        self.tally.count(begun, published, sum(depth.values()) + published)
        return published

    def free_leases(self) -> None:
        """Take back the leases of processes that ended, and those whose beat stood still for a lease's length.

        Only what was watched counts: while the ledger is away no worker can beat, and a rescue that was frozen has seen
        nothing.
        """
        now = time.monotonic()
        before, self._looked = self._looked, now
        still: dict[Held, float] = {}
        for held in self._ledger.leases.held():
            lease = self._settings.worker.lease_of(held.stage)
            watched = min(now - before, max(5 * self._settings.rescue.tick, lease / 4))
            still[held] = self._still[held] + watched if held in self._still else 0.0
            reason = "its process has ended" if is_gone(held.owner) else ""
            if not reason and still[held] > lease:
                reason = f"no sign of life for {still[held]:.0f} s"
            if reason and self._ledger.leases.take_back(held, reason):
                self.tally.taken_back += 1
                log.lease_taken_back(held.job_id, held.owner, reason)
        self._still = still

    def _publish(self, depth: dict[str, int], remembers: int) -> int:
        room = min(self._settings.rescue.max_queued - sum(depth.values()), BATCH)
        if room <= 0:
            return 0
        backlog, now = self._ledger.backlog, now_ms()
        patience = int(self._settings.rescue.lost_after * 1000)
        late = max(remembers, now - patience * (STALE_FACTOR if any(depth.values()) else 1))
        found = backlog.not_enqueued(room, older_than_ms=FRESH_MS)
        if len(found) < room:
            found += backlog.lost(room - len(found), enqueued_before=late)
        return self._put_back({job.job_id: job.stage for job in found}, late)

    def _put_back(self, found: dict[str, Stage], late: int) -> int:
        """Publish those that no other rescue has just taken.

        They are marked first: a mark too many is a job found late, a mark too few is one published by each rescue.
        """
        taken = self._ledger.backlog.take(list(found), enqueued_before=late)
        for start in range(0, len(taken), BULK):
            bulk = taken[start : start + BULK]
            try:
                with in_bulk(self._app) as producer:
                    for job_id in bulk:
                        publish(self._app, job_id, found[job_id], producer)
            except BaseException:
                self._ledger.backlog.give_back(taken[start:])  # some of them twice at worst
                raise
        if taken:
            log.enqueued(len(taken), "due, new or lost")
        return len(taken)


@dataclass
class Tally:
    """What a rescue has found and done; told to the ledger now and then, and to the log while jobs wait."""

    ledger: Ledger
    owner: str = field(default_factory=this_process)
    started_at: int = field(default_factory=now_ms)
    looks: int = 0
    published: int = 0
    taken_back: int = 0
    queued: int | None = None
    _lately: list[float] = field(default_factory=list)
    _told: float | None = None
    _logged: float | None = None

    def count(self, begun: float, published: int, queued: int | None) -> None:
        """A look ends that began at `begun` (monotonic seconds)."""
        seconds = time.monotonic() - begun
        meters.rescue_ticked(now_ms(), seconds, published)
        self._lately.append(seconds * 1000)
        self.looks += 1
        self.published += published
        self.queued = queued

    def tell(self) -> Look | None:
        """Write the numbers down, when that is due; what was written. Raises Unavailable."""
        now = time.monotonic()
        if not self._lately or (self._told is not None and now - self._told < TELL_SECONDS):
            return None
        open_jobs, oldest_at = self.ledger.backlog.waiting()
        look = Look(
            owner=self.owner,
            started_at=self.started_at,
            at=now_ms(),
            tick_ms=round(sum(self._lately) / len(self._lately)),
            slowest_ms=round(max(self._lately)),
            looks=self.looks,
            published=self.published,
            taken_back=self.taken_back,
            open_jobs=open_jobs,
            oldest_at=oldest_at,
            unpublished=self.ledger.backlog.unpublished(),
            queued=self.queued,
            longest_since=self.ledger.backlog.longest_since(),
        )
        self.ledger.rescues.tell(look)
        self._told, self._lately = now, []
        if open_jobs and (self._logged is None or now - self._logged >= LOG_SECONDS):
            self._logged = now
            log.backlog(look)
        return look


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
    slow, watcher, backfill = SlowTick(settings, ledger), Watcher(settings, ledger), Backfill(ledger)
    asking = Asking(settings, ledger)
    recorder = Recorder(ledger, rescue.tally.owner)
    recorder.start()
    ready(f"rescue every {settings.rescue.tick:g} s")
    while not stop.wait(settings.rescue.tick):
        try:
            while rescue.tick() >= BATCH and not stop.is_set():
                rescue.tally.tell()
                alive()
            rescue.tally.tell()
            watcher.look(rescue.broker_down)
            ledger.tallies.count_arrivals(meters.RECEIVED.name)
            slow.step()
            backfill.step()
            asking.step()
        except Unavailable as error:
            watcher.ledger_down(error)
        alive()
    recorder.stop()
    with contextlib.suppress(Unavailable):
        ledger.rescues.leave(rescue.tally.owner)
    ledger.close()
