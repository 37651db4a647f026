"""How things stand now, as /metrics tells it: jobs, queues, workers, mailboxes, endpoints, breakers, sizes."""

from __future__ import annotations

import importlib.metadata
import shutil
import time
from collections.abc import Callable, Iterable, Iterator

from celery import Celery
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric

from config.settings import Settings
from daemon.web.mailboxes import stale_folders
from tasks.app import BROKER_ERRORS, ping, queued
from tasks.canary import workers
from tasks.clock import now_ms
from tasks.errors import Unavailable
from tasks.ledger import Gauge, Ledger
from tasks.ledger.census import ARCHIVE, BUSY, OPEN
from tasks.meters import BREAKER, TICKED, labels_of
from tasks.models import State
from tasks.outages import HELD_BACK, standings

ARCHIVE_EVERY = 300.0
"""Seconds between two counts of the jobs that are done or cancelled: it takes longer the more there are."""

RESCUE_SILENCE = 60.0
"""Seconds after which a rescue that runs and does not look counts as none."""


def standing(settings: Settings, ledger: Ledger, app: Celery) -> Callable[[], Iterator[Metric]]:
    """A look that can be taken again and again; what does not answer is told as such and leaves its figures out."""
    archive = _Archive(ledger)
    began = now_ms()

    def look() -> Iterator[Metric]:
        yield InfoMetricFamily("postroom_build", "The version.", {"version": importlib.metadata.version("postroom")})
        yield from _from_ledger(settings, ledger, archive, began)
        yield from _from_broker(app)
        yield _one("postroom_state_free_bytes", "Room left on the disk of state_dir.", _free(settings))

    return look


class _Archive:
    """The number of jobs that are done or cancelled, counted now and then."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._at = float("-inf")
        self._numbers: dict[State, int] = {}

    def numbers(self) -> dict[State, int]:
        if time.monotonic() - self._at >= ARCHIVE_EVERY:
            self._numbers = {state: self._ledger.census.number(state) for state in ARCHIVE}
            self._at = time.monotonic()
        return self._numbers


def _from_ledger(settings: Settings, ledger: Ledger, archive: _Archive, began: int) -> Iterator[Metric]:
    found: list[Metric] = []
    try:
        found += _jobs(ledger, archive)
        told = ledger.tallies.standing()
        found += _rescues(told, settings.rescue.tick)
        found += _dependencies(settings, ledger, told)
        found += _endpoints(ledger)
        found += _mailboxes(settings, ledger, began)
        found.append(_one("postroom_ledger_bytes", "What the ledger takes, without blobs.", ledger.census.size()))
    except Unavailable:
        found = []
    yield _one("postroom_ledger_up", "1: the ledger answers.", bool(found))
    yield from found


def _jobs(ledger: Ledger, archive: _Archive) -> Iterator[Metric]:
    numbers = {state: ledger.census.number(state) for state in BUSY} | archive.numbers()
    said = "Jobs by state; those that are done or cancelled are counted every five minutes."
    jobs = GaugeMetricFamily("postroom_jobs", said, labels=["state"])
    for state in State:
        jobs.add_metric([state.value], numbers[state])
    yield jobs
    now, said = now_ms(), "Age of the oldest job in this state, open or in review; 0 when there is none."
    oldest = GaugeMetricFamily("postroom_oldest_job_age_seconds", said, labels=["state"])
    for state in (*OPEN, State.REVIEW):
        at = ledger.census.oldest(state) if numbers[state] else None
        oldest.add_metric([state.value], max(0, now - at) / 1000 if at else 0)
    yield oldest
    said = "Jobs that are due and that the rescue has not published for half a minute; 10,000 at most."
    yield _one("postroom_rescue_backlog", said, ledger.census.backlog())
    unsent = GaugeMetricFamily("postroom_deliveries_unsent", "Deliveries that wait or have failed.", labels=["state"])
    for name, number in ledger.census.unsent().items():
        unsent.add_metric([name], number)
    yield unsent


def _dependencies(settings: Settings, ledger: Ledger, told: Iterable[Gauge]) -> Iterator[Metric]:
    """What jobs need and do not have: the outages that all processes have written down, and the receivers' breakers."""
    breakers = GaugeMetricFamily(BREAKER.name, BREAKER.says, labels=BREAKER.labels)
    said = "For how long what jobs need has failed, as all processes have seen it; 0 while it works."
    failing = GaugeMetricFamily("postroom_dependency_failing_seconds", said, labels=BREAKER.labels)
    held = {labels_of(one.labels)["dependency"]: one.value for one in told if one.name == BREAKER.name}
    now = now_ms()
    for one in standings(ledger, settings):
        held[one.dependency] = max(held.get(one.dependency, 0), float(one.state in HELD_BACK))
        failing.add_metric([one.dependency], max(0, now - one.since) / 1000 if one.since else 0)
    for dependency, value in sorted(held.items()):
        breakers.add_metric([dependency], value)
    yield from (breakers, failing)


def _rescues(told: Iterable[Gauge], tick: float) -> Iterator[Metric]:
    since = [max(0.0, now_ms() / 1000 - gauge.value) for gauge in told if gauge.name == TICKED.name]
    idle = GaugeMetricFamily("postroom_rescue_idle_seconds", "Since a rescue that runs last looked.")
    if since:
        idle.add_metric([], min(since))
    yield idle
    looks = bool(since) and min(since) < max(RESCUE_SILENCE, 3 * tick)
    yield _one("postroom_rescue_up", "1: a rescue has looked in the last minute.", looks)


def _endpoints(ledger: Ledger) -> Iterator[Metric]:
    disabled = GaugeMetricFamily(
        "postroom_endpoint_disabled", "1: nothing is sent there any more.", labels=["endpoint"]
    )
    said = "For how long an endpoint has failed; 0 while it does well."
    failing = GaugeMetricFamily("postroom_endpoint_failing_seconds", said, labels=["endpoint"])
    now = now_ms()
    for one in ledger.endpoints.all():
        disabled.add_metric([one.name], int(one.disabled_at is not None))
        failing.add_metric([one.name], max(0, now - one.failing_since) / 1000 if one.failing_since else 0)
    yield from (disabled, failing)


def _mailboxes(settings: Settings, ledger: Ledger, began: int) -> Iterator[Metric]:
    names = ["account", "folder"]
    searched = GaugeMetricFamily("postroom_mailbox_search_age_seconds", "Since it was searched.", labels=names)
    down = GaugeMetricFamily("postroom_mailbox_down", "1: it cannot be searched or emptied now.", labels=names)
    said = "1: not searched, or not emptied, for longer than its stale_after."
    stale = GaugeMetricFamily("postroom_mailbox_stale", said, labels=names)
    said = "How long the last mail to ourselves was on its way."
    canary = GaugeMetricFamily("postroom_mailbox_canary_seconds", said, labels=names)
    said = "Since a mail to ourselves last came back."
    age = GaugeMetricFamily("postroom_mailbox_canary_age_seconds", said, labels=names)
    every = GaugeMetricFamily("postroom_mailbox_canary_every_seconds", "How often one is sent.", labels=["account"])
    watched, now = ledger.imap_folders.all() if settings.imap else {}, now_ms()
    silent = stale_folders(settings.imap, watched, since=began, now=now)
    for (account, folder), row in sorted(watched.items()):
        if account not in settings.imap or folder not in settings.imap[account].folders:
            continue  # a row of former days
        labels = [account, folder]
        searched.add_metric(labels, max(0, now - (row.searched_at or began)) / 1000)
        down.add_metric(labels, int(row.down_since > 0))
        stale.add_metric(labels, int(f"imap:{account}/{folder}" in silent))
        if row.canary_at:
            canary.add_metric(labels, row.canary_ms / 1000)
            age.add_metric(labels, max(0, now - row.canary_at) / 1000)
    for name, configured in settings.imap.items():
        if configured.canary:
            every.add_metric([name], configured.canary)
    yield from (searched, down, stale, canary, age, every)


def _from_broker(app: Celery) -> Iterator[Metric]:
    depth = GaugeMetricFamily("postroom_queue_depth", "Messages that wait in the broker.", labels=["queue"])
    said = "Workers that proved in the last minutes that they consume."
    serving = GaugeMetricFamily("postroom_queue_workers", said, labels=["queue"])
    said = "Since a worker of this queue last proved that it consumes."
    canary = GaugeMetricFamily("postroom_queue_canary_age_seconds", said, labels=["queue"])
    up = True
    try:
        ping(app)  # gives up at once when nobody is there
        for queue, number in queued(app).items():
            depth.add_metric([queue], number)
        seen, now = workers(app), now_ms()
        for queue in app.conf.postroom_queues:
            times = [one["at"] for one in seen if queue in one["serves"].split(", ")]
            serving.add_metric([queue], len(times))
            if times:
                canary.add_metric([queue], max(0, now - max(times)) / 1000)
    except BROKER_ERRORS:
        up = False
    yield _one("postroom_broker_up", "1: the broker answers.", up)
    if up:
        yield from (depth, serving, canary)


def _one(name: str, said: str, value: float) -> Metric:
    return GaugeMetricFamily(name, said, value=float(value))


def _free(settings: Settings) -> int:
    folder = next(path for path in (settings.state_dir, *settings.state_dir.parents) if path.exists())
    return shutil.disk_usage(folder).free
