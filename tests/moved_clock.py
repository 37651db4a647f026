"""Wall clock and monotonic clock, moved by hand: days pass without anybody waiting for them."""

from __future__ import annotations

import time

import pytest

from tasks.clock import now_ms


class Clock:
    """Real time, and as much more as was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        real, steady = time.time_ns, time.monotonic
        monkeypatch.setattr(time, "time_ns", lambda: real() + int(self.ahead * 1e9))
        self.monotonic = lambda: steady() + self.ahead

    def on(self, seconds: float) -> None:
        """Move on by so much."""
        self.ahead += seconds

    def to(self, moment_ms: int) -> None:
        """Move on to this time, if it lies ahead."""
        self.ahead += max(0.0, (moment_ms - now_ms()) / 1000)
