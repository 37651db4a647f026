"""A value that is costly to count and may be some seconds old."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Calls `make` at most every `seconds`; others get what it said the last time. Thread-safe."""

    def __init__(self, make: Callable[[], T], seconds: float) -> None:
        self._make = make
        self._seconds = seconds
        self._lock = threading.Lock()
        self._value: T | None = None
        self._until = 0.0

    def __call__(self) -> T:
        """The value. Raises what `make` raises."""
        with self._lock:
            if self._value is None or time.monotonic() >= self._until:
                self._value = self._make()
                self._until = time.monotonic() + self._seconds
            return self._value
