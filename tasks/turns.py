"""Whose turn it is to ask a model's server: no more calls at once than it can do, and few changes of its model.

The processes of one machine agree through files in a folder of the state directory. What is held is a lock of the kernel
(flock), which goes with the process that held it, however that ended; nobody holds one of them while waiting for another,
but for the moment in which the next turn is chosen. Processes on other machines are not seen: a server that several
machines ask keeps them apart by its own queue.

Who waits for the model in a server's memory goes first, and a server is left to its last caller for a moment, whose next
question follows its answer. Who has waited for long goes before all others, so that nobody waits for ever.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import structlog

from tasks.errors import Busy

SWAP = 0.5
"""What another model in a server's memory counts, in calls under way."""
AWAY_FROM_HOME = 0.25
"""What a prefix cache without the prompt's beginning counts, in calls under way."""
LINGER = 0.5
"""Seconds after a call in which its caller's next one may come, before another model is loaded."""
POLL = 0.05
FROZEN = 5.0
"""Seconds after which one who waits and does not look any more is passed over."""
CHOOSING = 10.0
"""Seconds that choosing may take before nobody is asked any more whose turn it is."""
_log = structlog.get_logger("postroom.model")
_numbers = itertools.count()


@dataclass(frozen=True)
class Wish:
    """What somebody waits for."""

    model: str
    servers: tuple[str, ...]
    """Addresses that may be asked."""
    home: str
    """The address whose prefix cache has the prompt's beginning."""
    waits: bool = False
    """Whether all others go first, however long it takes."""


@dataclass
class Standing:
    """How a server stands, as all processes of this machine see it."""

    free: list[int]
    """Turns that nobody has, by number."""
    busy: int = 0
    model: str = ""
    """The one that it was asked for last."""
    by: str = ""
    """Who asked."""
    released: float = 0.0
    """When a call ended last; CLOCK_MONOTONIC, which all processes share."""

    def cost(self, wish: Wish, address: str) -> float:
        """How badly it would serve: calls under way, and what counts like one."""
        return self.busy + SWAP * self.swaps(wish) + AWAY_FROM_HOME * (address != wish.home)

    def swaps(self, wish: Wish) -> bool:
        """Whether it would have to load the model."""
        return self.model not in {"", wish.model}


@dataclass(frozen=True)
class _Ticket:
    """One who waits."""

    path: Path
    since: float
    wish: Wish


class Turns:
    """The turns at all servers of one name. Threads may share it."""

    def __init__(self, folder: Path | None = None, slots: int = 1, patience: float = 30.0, most: float = 900.0) -> None:
        """`folder` is what processes share; None: one of this object's own. `slots`: calls at once of each server.

        `patience`: seconds after which who waits goes before all others; `most`: seconds that anybody waits here.
        """
        self._folder = folder
        self._slots = slots
        self._patience = patience
        self._most = most
        self._is_told = False

    @cached_property
    def _place(self) -> Path:
        """The folder, made when it is needed first."""
        if self._folder is None:
            own = Path(tempfile.mkdtemp(prefix="postroom-turns-"))
            weakref.finalize(self, shutil.rmtree, own, ignore_errors=True)
            return own
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._folder

    @contextlib.contextmanager
    def turn(self, wish: Wish) -> Iterator[str]:
        """The address to ask, for the block. Raises Busy when none gets free in time.

        Where the files cannot be used, on a full disk for example, everybody is let in: better too many questions than
        none.
        """
        try:
            held = self._wait(wish)
        except OSError as error:
            if not self._is_told:
                _log.warning("turns at the model's servers are not kept", reason=str(error))
            self._is_told = True
            yield wish.home if wish.home in wish.servers else wish.servers[0]
            return
        address, lock = held
        try:
            yield address
        finally:
            self._tell(address, wish.model, released=time.monotonic())
            _unlock(lock)

    def _wait(self, wish: Wish) -> tuple[str, int]:
        until = time.monotonic() + self._most
        with self._waiting(wish) as mine:
            while True:
                with self._choosing():
                    if taken := self._take(mine):
                        return taken
                if time.monotonic() > until:
                    raise Busy(
                        f"model:{wish.model}", f"no server had a turn for {wish.model} within {self._most:.0f} s"
                    )
                time.sleep(POLL)
                os.utime(mine.path)

    @contextlib.contextmanager
    def _waiting(self, wish: Wish) -> Iterator[_Ticket]:
        """Stand in line. The file goes with the block; when the process is killed its lock does, and the others see that."""
        since = time.monotonic()
        path = self._place / f"wait-{since:020.6f}-{os.getpid()}-{next(_numbers)}"
        lock: int | None = None
        try:
            with self._choosing():
                lock = _lock(path)
                path.write_text(json.dumps([wish.model, wish.servers, wish.home, wish.waits]))
            yield _Ticket(path, since, wish)
        finally:
            path.unlink(missing_ok=True)
            if lock is not None:
                _unlock(lock)

    @contextlib.contextmanager
    def _choosing(self) -> Iterator[None]:
        """One at a time. Raises TimeoutError (an OSError) when one who chooses was stopped in the middle of it."""
        until = time.monotonic() + CHOOSING
        while (lock := _lock(self._place / "choosing")) is None:
            if time.monotonic() > until:
                raise TimeoutError("the process that chooses does not go on")
            time.sleep(0.002)
        try:
            yield
        finally:
            _unlock(lock)

    def _take(self, mine: _Ticket) -> tuple[str, int] | None:
        """The turn that is mine now: all who wait are thought to take theirs first, in their order."""
        now, line = time.monotonic(), self._line()
        known = {address: self._standing(address) for one in line for address in one.wish.servers}
        for one in sorted(line, key=lambda one: self._rank(one, known, now)):
            address = self._best(one, known, now)
            if address and one.path == mine.path:
                lock = _lock(self._slot(address, known[address].free[0]))
                if lock is not None:
                    self._tell(address, mine.wish.model)
                    return address, lock
            elif address:
                known[address].free.pop()
                known[address].busy += 1
                known[address].model = one.wish.model
        return None

    def _line(self) -> list[_Ticket]:
        """Who waits, the longest first. What a dead process left is removed; who does not look any more is passed over."""
        found = []
        for path in sorted(self._place.glob("wait-*")):
            if (left := _lock(path, make=False)) is not None:
                path.unlink(missing_ok=True)
                _unlock(left)
                continue
            with contextlib.suppress(OSError, ValueError):
                model, servers, home, *more = json.loads(path.read_text())
                if time.time() - path.stat().st_mtime < FROZEN:
                    found.append(
                        _Ticket(path, float(path.name.split("-")[1]), Wish(model, tuple(servers), home, *more))
                    )
        return found

    def _rank(self, one: _Ticket, known: Mapping[str, Standing], now: float) -> tuple[int, float]:
        """Who goes first: the overdue, then those whose model is there, then the others; of each the longest waiting.

        Behind all of them stands what can wait.
        """
        if one.wish.waits:
            return 3, one.since
        if now - one.since > self._patience:
            return 0, one.since
        is_there = any(known[address].free and not known[address].swaps(one.wish) for address in one.wish.servers)
        return (1 if is_there else 2), one.since

    def _best(self, one: _Ticket, known: Mapping[str, Standing], now: float) -> str:
        """Where it would go now; empty when it has to wait."""
        overdue = now - one.since > self._patience and not one.wish.waits
        free = [address for address in one.wish.servers if known[address].free]
        may = [address for address in free if overdue or _may_load(known[address], one.wish, now)]
        return min(may, key=lambda address: known[address].cost(one.wish, address), default="")

    def _standing(self, address: str) -> Standing:
        free = [number for number in range(self._slots) if _is_free(self._slot(address, number))]
        told: list[Any] = ["", "", 0.0]
        with contextlib.suppress(OSError, ValueError):
            told = json.loads(self._file("last", address).read_text())
        return Standing(free, self._slots - len(free), *told)

    def _tell(self, address: str, model: str, released: float = 0.0) -> None:
        """Keep what a server does, for the next choice; on a full disk that is made without it."""
        with contextlib.suppress(OSError):
            self._file("last", address).write_text(json.dumps([model, _me(), released]))

    def _slot(self, address: str, number: int) -> Path:
        return self._file(f"turn-{number}", address)

    def _file(self, kind: str, address: str) -> Path:
        return self._place / f"{kind}-{hashlib.blake2b(address.encode(), digest_size=8).hexdigest()}"


def _may_load(standing: Standing, wish: Wish, now: float) -> bool:
    """Another model is loaded where nothing runs, and nobody's next question is about to come."""
    if not standing.swaps(wish) or standing.by == _me():
        return True
    return not standing.busy and now - standing.released > LINGER


def _me() -> str:
    return f"{os.getpid()}.{threading.get_ident()}"


def _lock(path: Path, *, make: bool = True) -> int | None:
    """Lock a file without waiting; None when somebody has it, or it is not there and is not to be made."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0), 0o600)
    except FileNotFoundError:
        if make:
            raise
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


def _unlock(file: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_UN)  # before it is closed: a forked child may have it too
    os.close(file)


def _is_free(path: Path) -> bool:
    lock = _lock(path)
    if lock is None:
        return False
    _unlock(lock)
    return True
