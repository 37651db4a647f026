"""Makes jobs findable by words that were there before the search index, a few at each look of the rescue."""

from __future__ import annotations

from tasks.ledger import Ledger

BATCH = 200
"""Jobs looked at each time; some milliseconds each when their words have to be written."""


class Backfill:
    """Walks once over all jobs, the newest first; jobs that come later are indexed by the stages themselves."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._place = ""
        self._done = False

    def step(self) -> int:
        """Look at the next jobs; how many of them were not indexed yet. Raises Unavailable; it goes on from there."""
        if self._done:
            return 0
        self._place, number = self._ledger.search.backfill(self._place, BATCH)
        self._done = not self._place
        return number
