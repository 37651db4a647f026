"""A breaker for each dependency that all jobs share (model server, mail relay, object store), and what it has seen.

Guards live in the process. `tasks/outages.py` carries what they have seen to the ledger, where all processes see it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

from tasks.breaker import Breaker, Paused, Policy
from tasks.clock import now_ms
from tasks.errors import Unavailable
from tasks.models import Noun

RELAY = Policy(streak=3, longest_pause=60, trusted=True)
"""For a server of ours: it is trusted until it fails, and is asked again once a minute at least."""
QUIET_MS = 3_600_000
"""Without a call for so long nobody knows how it did, and its failing begins anew. Retries are closer together."""


class Seen(Noun):
    """What one process knows of a dependency. Times are milliseconds since the epoch."""

    name: str
    state: str
    """Of the breaker: `closed`, `open` or `half-open`."""
    open_until: int | None
    failing_since: int | None
    """The first failure after the last success."""
    last_failure_at: int | None
    last_success_at: int | None
    reason: str


class Guard:
    """Calls to one dependency. Thread-safe."""

    def __init__(self, name: str, policy: Policy) -> None:
        self.name = name
        self.breaker = Breaker(policy)
        self._lock = threading.Lock()
        self._failing_since: int | None = None
        self._last_failure: int | None = None
        self._last_success: int | None = None
        self._reason = ""

    @contextlib.contextmanager
    def call(self, probe: Callable[[], object] | None = None) -> Iterator[None]:
        """Around one call. Unavailable with this guard's own name, and nothing else, says that the dependency is away.

        Raises Unavailable (`asked` is False) while the breaker is open. After a failure `probe` goes first, where
        given: a cheap question, so that a call of minutes does not keep all others waiting for its end.
        """
        try:
            self.breaker.enter()
        except Paused as pause:
            said = f"{self._reason} (it keeps failing and is left alone for {pause.seconds:.0f} s)"
            raise Unavailable(self.name, said, retry_after=pause.seconds, asked=False) from None
        alive = True
        try:
            if probe and not self.breaker.is_trusted:
                probe()
                self.breaker.answers()
            yield
            self._worked()
        except Unavailable as error:
            if error.dependency == self.name:
                alive = False
                self._failed(error.reason)
            raise
        finally:
            self.breaker.leave(alive=alive)

    def seen(self) -> Seen:
        """How it stands now."""
        state, left = self.breaker.state()
        with self._lock:
            return Seen(
                name=self.name,
                state=state,
                open_until=now_ms() + int(left * 1000) if state == "open" else None,
                failing_since=self._failing_since,
                last_failure_at=self._last_failure,
                last_success_at=self._last_success,
                reason=self._reason,
            )

    def _worked(self) -> None:
        with self._lock:
            self._last_success, self._failing_since, self._reason = now_ms(), None, ""

    def _failed(self, reason: str) -> None:
        now = now_ms()
        with self._lock:
            if self._failing_since is None or now - (self._last_failure or now) > QUIET_MS:
                self._failing_since = now
            self._last_failure, self._reason = now, reason


_lock = threading.Lock()
_guards: dict[tuple[int, str], Guard] = {}


def guard(name: str, policy: Policy = RELAY) -> Guard:
    """The guard of this dependency in this process; made anew in a forked child."""
    key = (os.getpid(), name)
    with _lock:
        if key not in _guards:
            _guards[key] = Guard(name, policy)
        return _guards[key]


def guards() -> list[Guard]:
    """All that this process has used."""
    with _lock:
        return [one for (process, _), one in _guards.items() if process == os.getpid()]


def forget() -> None:
    """Drop what is known about all dependencies."""
    with _lock:
        _guards.clear()
