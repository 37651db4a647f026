"""When a message that went wrong is tried again: alone, after the others, and ever less often."""

from __future__ import annotations

import time
from dataclasses import dataclass

FIRST_WAIT = 60.0
LONGEST_WAIT = 21_600.0


@dataclass
class Suspect:
    """A message or file that could not be taken, though nothing says that it never will be."""

    times: int = 0
    due: float = 0.0
    """`time.monotonic()` before which it is left alone."""

    def again(self) -> None:
        """Note one more failure: the wait doubles, from a minute to six hours."""
        self.due = time.monotonic() + min(FIRST_WAIT * 2**self.times, LONGEST_WAIT)
        self.times += 1

    def is_due(self) -> bool:
        """Whether it may be tried now."""
        return self.due <= time.monotonic()
