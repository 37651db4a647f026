"""Several servers with the same models, as one: each call goes to the best of them, and to another when that is away.

The best is the least busy one (tasks/turns.py). One that has another model in memory would have to swap; one that has had
a prompt with the same beginning has it in its prefix cache. So every prompt has a home, the same in all processes, which
it leaves when the home is clearly busier than another server, or away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from tasks.errors import Busy, Transient, Unavailable
from tasks.judging.calls import Answer, Ask, OnProgress
from tasks.providers.server import Failed, Server
from tasks.turns import Turns, Wish

Result = TypeVar("Result")


class Hosts:
    """The servers of one name in the configuration. Threads may share it."""

    def __init__(self, servers: Sequence[Server], turns: Turns) -> None:
        self.servers = servers
        self._turns = turns

    def context_limit(self, model: str) -> int:
        """The longest context of `model` (tokens), as the first server that answers tells it. Raises as Server does."""
        errors = list[Transient]()
        for server in self._usable(model, self.servers):
            try:
                return server.context_limit(model)
            except (Unavailable, Failed) as error:
                errors.append(error)
        raise max(errors, key=_weight)

    def ask(self, wish: Ask, progress: OnProgress | None = None) -> Answer:
        """Make one call where it is best made.

        Raises as Server.ask does. Unavailable means that no server could be asked: each is away, busy or lacks the model.
        """
        return self._anywhere(wish.model, wish.messages[0]["content"], lambda server: server.ask(wish, progress))

    def embed(self, model: str, text: str, *, waits: bool) -> list[float]:
        """What `text` means to `model`. `waits`: all other questions go first. Raises as `ask` does."""
        return self._anywhere(model, "", lambda server: server.embed(model, text), waits=waits)

    def _anywhere(self, model: str, start: str, call: Callable[[Server], Result], *, waits: bool = False) -> Result:
        left, errors = list(self.servers), list[Transient]()
        while left:
            with self._turn(model, start, left, waits=waits) as server:
                left.remove(server)
                try:
                    return call(server)
                except (Unavailable, Failed) as error:
                    errors.append(error)
        raise max(errors, key=_weight)

    @contextmanager
    def _turn(self, model: str, start: str, among: Sequence[Server], *, waits: bool) -> Iterator[Server]:
        """The best server to ask, when it is this call's turn there. Raises Busy."""
        home = max(self.servers, key=lambda server: _rank(server, model, start))
        usable = {server.address: server for server in self._usable(model, among)}
        with self._turns.turn(Wish(model, tuple(usable), home.address, waits)) as address:
            yield usable[address]

    def _usable(self, model: str, among: Sequence[Server]) -> Sequence[Server]:
        """Those that are not left alone by their breaker; all of them when there is no other."""
        return [server for server in among if not server.is_left_alone(model)] or among


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
