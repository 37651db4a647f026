"""The end of what a model is writing, for people who watch it write."""

from __future__ import annotations

from tasks.letters import one_line

SHOWN = 300
"""Characters."""
_TELLING = 4
"""Characters of the secret that words of anybody may end with."""


class Tail:
    """Takes an answer piece by piece, and tells its end on one line without what cannot be seen.

    An answer that has the secret in it repeats its orders, and nothing of it is told from there on; nor is what may yet
    become the secret.
    """

    def __init__(self, secret: str) -> None:
        """`secret`: what stands in prompts only (tasks.prompts.canary); empty where there is none."""
        self._secret = secret
        self._end = ""
        self._repeats = False

    def add(self, piece: str) -> None:
        """More of the answer."""
        grown = self._end + piece
        self._repeats = self._repeats or bool(self._secret and self._secret in grown)
        self._end = grown[-(SHOWN + len(self._secret)) :]

    def shown(self) -> str:
        """At most SHOWN characters; empty when the answer has the secret."""
        if self._repeats:
            return ""
        sizes = range(len(self._secret) - 1, _TELLING, -1)
        begun = next((size for size in sizes if self._end.endswith(self._secret[:size])), 0)
        safe = self._end[: len(self._end) - begun]
        return one_line(safe, len(safe))[-SHOWN:]
