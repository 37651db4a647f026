"""What the guards of a process see is carried to the ledger here, and told from there in words and as data.

An outage begins with the first failure after a success, and ends with the first call that works: nothing is asked only
to find that out. The ledger has a row for each dependency, so that all processes of all hosts speak of one outage.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import structlog

from config.settings import Settings
from tasks.clock import now_ms
from tasks.errors import LeaseLost, Unavailable
from tasks.guard import Seen, guards
from tasks.ledger import Ledger, Outage
from tasks.models import Noun

EVERY = 2.0
"""Seconds between two looks of a process at its guards."""
AGAIN_MS = 15_000
"""What goes on failing is written down this often."""
HELD_BACK = frozenset({"open", "half-open"})
"""Standings in which a breaker lets nobody ask, or one call only."""
_log = structlog.get_logger("postroom.outages")

Owed = Callable[[], object]


class Reporter:
    """Carries what this process sees to the ledger, from a thread of its own. While the ledger is away it waits."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settle_ms = int(settings.alerts.outage_after * 1000)
        self._ledger = ledger
        self._written: dict[str, Seen] = {}
        self._known: dict[str, Outage] = {}
        self._looked = 0
        self._owed: list[Owed] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._run, name="outages", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=5)

    def owe(self, work: Owed) -> None:
        """Do `work` when the ledger answers again; LeaseLost from it means that it is not needed any more."""
        self._owed.append(work)

    def look(self) -> None:
        """One look at every guard. Raises Unavailable when the ledger does not answer; the next look begins there."""
        while self._owed:
            work = self._owed.pop(0)
            try:
                work()
            except LeaseLost:
                continue
            except Unavailable:
                self._owed.append(work)
                raise
        for seen in [one.seen() for one in guards()]:
            if seen.failing_since:
                self._failing(seen)
            elif seen.last_success_at:
                self._working(seen, seen.last_success_at)

    def _failing(self, seen: Seen) -> None:
        before, at = self._written.get(seen.name), seen.last_failure_at or 0
        if before and before.failing_since == seen.failing_since and at < (before.last_failure_at or 0) + AGAIN_MS:
            return
        self._ledger.outages.failed(
            seen.name, seen.failing_since or at, at, seen.reason, settle_ms=self._settle_ms, open_until=seen.open_until
        )
        if not before or not before.failing_since:
            _log.warning("dependency down", dependency=seen.name, reason=seen.reason)
        self._written[seen.name] = seen

    def _working(self, seen: Seen, at: int) -> None:
        before, now = self._written.get(seen.name), now_ms()
        if not (before and before.failing_since) and abs(now - self._looked) >= AGAIN_MS:
            # a process that has ended may have left it open
            self._known, self._looked = {one.name: one for one in self._ledger.outages.all()}, now
        known = self._known.pop(seen.name, None)
        is_open = known is not None and known.ended_at is None and known.last_failure_at <= at
        if (before and before.failing_since) or is_open:
            self._ledger.outages.worked(seen.name, at)
            _log.info("dependency works again", dependency=seen.name)
        self._written[seen.name] = seen

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            try:
                self.look()
            except Unavailable:
                continue


class Standing(Noun):
    """How a dependency stands, as data. Times are milliseconds since the epoch."""

    dependency: str
    state: str
    """`closed` (all is well), `failing`, `open` (left alone), `half-open` (one call tries it), `disabled`."""
    since: int | None = None
    """The first failure after the last success."""
    last_failure_at: int | None = None
    reason: str = ""
    ended_at: int | None = None
    """When its last outage ended."""


def standings(ledger: Ledger, settings: Settings) -> list[Standing]:
    """Every dependency that is configured or was ever away, as all processes have seen it. Raises Unavailable."""
    found = {one.dependency: one for one in _expected(settings)}
    found |= {one.name: _standing(one, now_ms()) for one in ledger.outages.all()}
    for endpoint in ledger.endpoints.all():
        name = f"webhook:{endpoint.name}"
        if endpoint.disabled_at or endpoint.failing_since:
            found[name] = Standing(
                dependency=name,
                state="disabled" if endpoint.disabled_at else "failing",
                since=endpoint.disabled_at or endpoint.failing_since,
                last_failure_at=endpoint.last_failure_at,
                reason=endpoint.disabled_because or endpoint.last_failure,
            )
    return [found[name] for name in sorted(found)]


def _expected(settings: Settings) -> Iterator[Standing]:
    out = settings.smtp_out
    names = ["ledger", "redis", f"smtp:{out.host}:{out.port}"]
    names += settings.model.dependencies()
    names += [f"webhook:{name}" for name in settings.endpoint]
    for name in names:
        yield Standing(dependency=name, state="closed")


def _standing(outage: Outage, now: int) -> Standing:
    if outage.ended_at is not None:
        return Standing(dependency=outage.name, state="closed", ended_at=outage.ended_at)
    state = "failing" if outage.open_until is None else "open" if outage.open_until > now else "half-open"
    return Standing(
        dependency=outage.name,
        state=state,
        since=outage.since,
        last_failure_at=outage.last_failure_at,
        reason=outage.reason,
    )


def words_for(name: str) -> str:
    """A dependency as a person calls it."""
    kind, _, rest = name.partition(":")
    known = {
        "ollama": f"the model server {rest}",
        "openai": f"the model server {rest}",
        "model": f"the model {rest}",
        "smtp": f"the mail server {rest}",
        "redis": "the broker (Redis)",
        "ledger": "the ledger",
        "blobs": f"the blob store {rest}",
    }
    return known.get(kind, name)
