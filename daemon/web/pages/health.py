"""Whether everything that Postroom needs is well, in plain words; looked at beside the pages, never while one waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from config.settings import Settings
from daemon import checks
from daemon.endpoints import states
from daemon.web.mailboxes import stale_folders
from daemon.web.pages.frame import span
from tasks.clock import now_ms
from tasks.errors import Unavailable
from tasks.ledger import Ledger
from tasks.outages import Standing, standings, words_for

SECONDS = 15.0
_NOW = {
    "failing": "jobs that need it wait, and lose no attempt",
    "open": "workers leave it alone for a moment, then one of them tries it; jobs that need it wait, and lose no attempt",
    "half-open": "the next job that needs it tries it; the others wait, and lose no attempt",
}
"""What a breaker's state means for jobs."""
_NAMES = {"broker": "Queue", "workers": "Workers", "model": "Model"}
FIRST = 2.0
"""Seconds that the very first page waits for an answer."""


@dataclass(frozen=True)
class Line:
    """One sentence about one thing."""

    state: str
    """`well`, `failing` or `disabled`."""
    what: str
    says: str


class Health:
    """Remembers what the last look saw, and looks again in a thread of its own when that is old."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._began = now_ms()
        self._lock = threading.Lock()
        self._seen = threading.Event()
        self._looking = False
        self._looked_at = float("-inf")
        self._lines: list[Line] = []

    def lines(self) -> list[Line]:
        """What is known; empty before the first look has ended."""
        with self._lock:
            if not self._looking and time.monotonic() - self._looked_at > SECONDS:
                self._looking = True
                threading.Thread(target=self._look, name="health", daemon=True).start()
        self._seen.wait(FIRST)
        return self._lines

    def _look(self) -> None:
        try:
            self._lines = list(self._all())
        except Unavailable as error:
            self._lines = [Line("failing", "Ledger", error.reason)]
        finally:
            self._looked_at = time.monotonic()
            self._looking = False
            self._seen.set()

    def _all(self) -> Iterator[Line]:
        broker = checks.broker(self._settings)
        consumers = checks.consumers(self._settings) if broker.state == "ok" else None
        for finding in (broker, consumers, checks.model(self._settings)):
            if finding:
                instead = f"; {finding.instead}" if finding.instead and finding.state != "ok" else ""
                state = "well" if finding.state == "ok" else "failing"
                yield Line(state, _NAMES[finding.what], finding.detail + instead)
        yield from self._breakers()
        yield from self._mailboxes()
        yield from self._endpoints()

    def _breakers(self) -> Iterator[Line]:
        """How the workers fare with what all jobs share; endpoints, and a queue that works, have lines of their own."""
        found = [one for one in standings(self._ledger, self._settings) if not one.dependency.startswith("webhook:")]
        for one in found:
            if one.state != "closed":
                words = words_for(one.dependency)
                yield Line("failing", words[0].upper() + words[1:], _trouble(one, now_ms()))
        well = [words_for(one.dependency) for one in found if one.state == "closed" and ":" in one.dependency]
        if well:
            yield Line("well", "What workers call", f"no trouble with {', '.join(well)}")

    def _mailboxes(self) -> Iterator[Line]:
        if not self._settings.imap:
            return
        stale = stale_folders(self._settings.imap, self._ledger.imap_folders.all(), since=self._began, now=now_ms())
        for name, said in stale.items():
            yield Line("failing", f"Mailbox {name.removeprefix('imap:')}", f"has not been looked into: {said}")
        if not stale:
            yield Line("well", "Mailboxes", f"{', '.join(sorted(self._settings.imap))}: looked into as they should be")

    def _endpoints(self) -> Iterator[Line]:
        for one in states(self._ledger, self._settings):
            waiting = f"; {_deliveries(one['waiting'], 'waits', 'wait')} for it" if one["waiting"] else ""
            failed = f"; {_deliveries(one['failed'], 'has', 'have')} failed" if one["failed"] else ""
            name = f"Endpoint {one['name']}"
            if one["disabled_at"]:
                said = f"gets nothing any more: {one['disabled_because']}{failed}"
                yield Line("disabled", name, said)
            elif one["failing_since"]:
                since = span(now_ms() - one["failing_since"])
                yield Line("failing", name, f"has failed for {since}: {one['last_failure']}{waiting}{failed}")
            else:
                yield Line("well", name, f"takes what it is sent{waiting}{failed}")


def _trouble(one: Standing, now: int) -> str:
    lasts = f"has not worked for {span(now - one.since)}" if one.since else "does not work"
    return f"{lasts}: {one.reason}; {_NOW.get(one.state, one.state)}"


def _deliveries(number: int, one: str, more: str) -> str:
    return f"1 delivery {one}" if number == 1 else f"{number} deliveries {more}"
