"""A circuit breaker: an endpoint that is down costs one try now and then, and holds up nobody else.

While an endpoint answers, any number of calls may be under way to it. After a failure, and before its first success,
one call at a time probes it; so an endpoint that never answers holds one worker, not all of them. When it keeps
failing, calls are refused at once for a pause that doubles with each failed probe. State lives in the process: after a
restart an endpoint is simply probed again.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Policy:
    """When a breaker opens, and for how long. Seconds throughout."""

    streak: int = 5
    """Failures in a row that open it."""
    window: float = 300
    """Time over which the share of failures is looked at."""
    least: int = 10
    """Calls in the window below which the share says nothing."""
    share: float = 0.7
    """Share of failed calls that opens it."""
    first_pause: float = 10
    longest_pause: float = 300
    patience: float = 1
    """How long a probe may be under way for other calls to wait for it; later they are refused at once."""
    trusted: bool = False
    """Whether it counts as well before its first answer."""


class Paused(Exception):
    """No call may be made for `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"paused for {seconds:.0f} s")
        self.seconds = seconds


class Breaker:
    """Guards one endpoint. Thread-safe. Each `enter` that returns needs one `leave`."""

    def __init__(self, policy: Policy | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy or Policy()
        self._clock = clock
        self._changed = threading.Condition()
        self._under_way = 0
        self._probed_at = 0.0
        self._trusted = self._policy.trusted
        self._streak = 0
        self._results: collections.deque[tuple[float, bool]] = collections.deque(maxlen=1000)
        self._open_until = 0.0
        self._pause = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it keeps calls back, or would but for the next probe: since it opened, none has succeeded."""
        return self._pause > 0

    def enter(self) -> None:
        """Begin a call. Raises Paused when the breaker is open, or a probe takes longer than calls want to wait."""
        with self._changed:
            while True:
                now = self._clock()
                if now < self._open_until:
                    raise Paused(self._open_until - now)
                if self._trusted or not self._under_way:
                    self._under_way += 1
                    self._probed_at = now
                    return
                patience = self._probed_at + self._policy.patience - now
                if patience <= 0:
                    raise Paused(self._policy.first_pause)
                self._changed.wait(patience)

    @property
    def is_trusted(self) -> bool:
        """Whether its last call came back well: a call that begins now is no probe."""
        return self._trusted

    def answers(self) -> None:
        """It has shown a sign of life while a call is under way, which others need not wait for any longer."""
        with self._changed:
            self._trusted = True
            self._changed.notify_all()

    def state(self) -> tuple[Literal["closed", "open", "half-open"], float]:
        """`open` refuses calls for so many seconds more, `half-open` lets one through that decides."""
        with self._changed:
            left = self._open_until - self._clock()
            if left > 0:
                return "open", left
            return ("half-open" if self._pause else "closed"), 0.0

    def leave(self, *, alive: bool) -> None:
        """End a call; `alive` tells whether the endpoint answered as a working one does, be it with a refusal."""
        with self._changed:
            now = self._clock()
            self._under_way -= 1
            self._results.append((now, alive))
            self._trusted = alive
            if alive:
                self._streak = 0
                self._pause = 0.0
                self._open_until = 0.0
            else:
                self._streak += 1
                if self._pause or self._failing(now):
                    self._open(now)
            self._changed.notify_all()

    def _failing(self, now: float) -> bool:
        if self._streak >= self._policy.streak:
            return True
        while self._results and self._results[0][0] < now - self._policy.window:
            self._results.popleft()
        failed = sum(not alive for _, alive in self._results)
        return len(self._results) >= self._policy.least and failed >= self._policy.share * len(self._results)

    def _open(self, now: float) -> None:
        if now < self._open_until:
            return  # calls that were under way when it opened tell nothing new
        self._pause = min(max(2 * self._pause, self._policy.first_pause), self._policy.longest_pause)
        self._open_until = now + self._pause
