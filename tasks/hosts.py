"""Several servers with the same models, as one: each call goes to the best of them, and to another when that is away.

The best is the least busy one. One that has another model in memory would have to swap; one that has had a prompt with the
same beginning has it in its prefix cache. So every prompt has a home, the same in all processes, which it leaves when
the home is clearly busier than another server, or away.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from tasks.errors import Busy, Transient, Unavailable
from tasks.judging.calls import Answer, Ask, OnProgress
from tasks.providers.server import Failed, Server

SWAP = 0.5
"""What another model in a server's memory counts, in calls under way."""
AWAY_FROM_HOME = 0.25
"""What a prefix cache without the prompt's beginning counts, in calls under way."""

Result = TypeVar("Result")


class Hosts:
    """The servers of one name in the configuration. Threads may share it."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = servers
        self._lock = threading.Lock()
        self._under_way: Counter[str] = Counter()
        self._loaded: dict[str, str] = {}

    def context_limit(self, model: str) -> int:
        """The longest context of `model` (tokens), as the first server that answers tells it. Raises as Server does."""
        return self._anywhere(model, "", lambda server: server.context_limit(model))

    def ask(self, wish: Ask, progress: OnProgress | None = None) -> Answer:
        """Make one call where it is best made.

        Raises as Server.ask does. Unavailable means that no server could be asked: each is away, busy or lacks the model.
        """
        return self._anywhere(wish.model, wish.messages[0]["content"], lambda server: server.ask(wish, progress))

    def _anywhere(self, model: str, start: str, call: Callable[[Server], Result]) -> Result:
        left, errors = list(self.servers), list[Transient]()
        while left:
            with self._turn(model, start, left) as server:
                left.remove(server)
                try:
                    return call(server)
                except (Unavailable, Failed) as error:
                    errors.append(error)
        raise max(errors, key=_weight)

    @contextmanager
    def _turn(self, model: str, start: str, among: Sequence[Server]) -> Iterator[Server]:
        """The best server to ask now, counted as busy for the block."""
        usable = [server for server in among if not server.is_left_alone(model)] or among
        home = max(self.servers, key=lambda server: _rank(server, model, start))
        with self._lock:
            best = min(usable, key=lambda server: self._cost(server, model, home))
            self._under_way[best.address] += 1
            self._loaded[best.address] = model
        try:
            yield best
        finally:
            with self._lock:
                self._under_way[best.address] -= 1

    def _cost(self, server: Server, model: str, home: Server) -> float:
        swaps = self._loaded.get(server.address, model) != model
        return self._under_way[server.address] + SWAP * swaps + AWAY_FROM_HOME * (server is not home)


def _rank(server: Server, model: str, start: str) -> bytes:
    """Where a prompt is at home: rendezvous hashing, so that a server that goes moves only its own prompts."""
    return hashlib.blake2b("\0".join((server.address, model, start)).encode("utf-8", "replace"), digest_size=8).digest()


def _weight(error: Transient) -> int:
    """Which of several servers' errors tells most: one that tried and failed has to cost an attempt, or it never ends."""
    if isinstance(error, Failed):
        return 3
    if isinstance(error, Busy):
        return 2
    return int(isinstance(error, Unavailable) and error.asked)
