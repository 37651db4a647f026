"""What documents mean: their vectors, made a few at a time while nobody waits, and the search for what is near."""

from __future__ import annotations

import contextlib
import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from operator import add
from pathlib import Path

import structlog

from tasks.errors import Permanent, PostroomError, Transient, Unavailable
from tasks.judging.budget import split, tidy
from tasks.judging.calls import TooLong
from tasks.ledger import Ledger, Near
from tasks.ledger.vectors import unit
from tasks.model import Models

PORTION = 240
"""Estimated tokens of text that one vector is made of: what small models of this kind can take."""
MOST_PORTIONS = 8
"""Portions of a document that are looked at, from its start."""
LOOKED_AT = 200
"""Jobs that one look goes over."""
PAUSE = 5.0
"""Seconds until the next look, while there is more to do."""
_log = structlog.get_logger("postroom.meaning")

Embed = Callable[[str], list[float]]


class Meanings:
    """Gives the newest documents their vectors, then the older ones, one look after the other."""

    def __init__(self, ledger: Ledger, model: str, embed: Embed) -> None:
        self._ledger = ledger
        self._model = model
        self._embed = embed
        self._place: str | None = ""
        """Before which job this process looks on; empty: it has not looked yet; None: it has seen the oldest."""
        self._failed: set[tuple[str, int]] = set()
        """Documents that the server failed at, which keep no others from their turn."""

    def look(self, stops: Callable[[], bool] = lambda: False) -> tuple[int, bool]:
        """One look: how many vectors were made, and whether there is more to look at. Raises Unavailable."""
        place, lacking = self._lacking("")
        if self._place == "":
            self._place = place or None
        elif not lacking and self._place:
            place, lacking = self._lacking(self._place)
            self._place = self._place if lacking else place or None
        made = 0
        for job_id, ordinal in lacking:
            if stops():
                break
            made += self._make(job_id, ordinal)
        return made, self._place is not None or bool(lacking)

    def _lacking(self, before: str) -> tuple[str, list[tuple[str, int]]]:
        place, found = self._ledger.vectors.lacking(self._model, before, LOOKED_AT)
        return place, [one for one in found if one not in self._failed]

    def _make(self, job_id: str, ordinal: int) -> bool:
        """Give one document its vector; where the model can make none of its text, that is kept instead."""
        text = self._ledger.vectors.text(job_id, ordinal)
        try:
            vector, characters = meaning(text, self._embed)
        except Unavailable:
            raise
        except Transient as error:
            self._failed.add((job_id, ordinal))
            _log.warning("a document has no vector", job=job_id, document=ordinal, reason=error.reason)
            return False
        except Permanent as error:
            _log.warning("a document has no vector", job=job_id, document=ordinal, reason=error.reason)
            vector, characters = [], 0
        self._ledger.vectors.keep(job_id, ordinal, self._model, vector, characters)
        return True


def meaning(text: str, embed: Embed) -> tuple[list[float], int]:
    """The mean of the vectors of the text's first portions, and how many of its characters those are.

    Raises Permanent when the model can make none of it, Unavailable, Transient.
    """
    portions = [one for one in split(tidy(text), PORTION) if one.strip()][:MOST_PORTIONS]
    if not portions:
        raise Permanent("there is no text")
    whole: list[float] = []
    for one in portions:
        found = unit(_embedded(one, embed))
        if whole and len(found) != len(whole):
            raise Permanent("the model's vectors differ in length")
        whole = list(map(add, whole, found)) if whole else found
    return unit(whole), sum(map(len, portions))


def _embedded(text: str, embed: Embed) -> list[float]:
    """A vector of `text`, of its first half where the model can take no more."""
    try:
        return embed(text)
    except TooLong:
        half = text[: len(text) // 2]
        if not half.strip():
            raise
        return _embedded(half, embed)


def similar(ledger: Ledger, job_id: str, model: str, most: int) -> list[Near]:
    """The jobs nearest to one, the nearest first. Raises Permanent when it has no vector yet."""
    own = ledger.vectors.of(job_id, model)
    if not own:
        raise Permanent(f"{job_id} has no vector of {model} yet; they are made while model workers run")
    middle = [sum(values) for values in zip(*own, strict=True)]
    return ledger.vectors.near(middle, model, most, without=job_id)


class Background:
    """Looks now and then, from a thread of a process that may ask the model; one such process a machine."""

    def __init__(self, ledger: Ledger, models: Models, model: str, every: float, folder: Path) -> None:
        self._meanings = Meanings(ledger, model, lambda text: models.embed(text, waits=True))
        self._every = every
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meanings", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is being asked is not waited for."""
        self._stop.set()

    def _run(self) -> None:
        pause = PAUSE
        while not self._stop.wait(pause):
            pause = self._every
            try:
                with _alone(self._folder) as mine:
                    if mine and self._once():
                        pause = min(PAUSE, self._every)
            except Unavailable:
                continue  # their breakers tell of outages; the next look goes on where this one ended
            except PostroomError as error:
                _log.warning("documents get no vectors", reason=error.reason)

    def _once(self) -> bool:
        begun = time.monotonic()
        made, more = self._meanings.look(self._stop.is_set)
        if made:
            _log.info("vectors made", documents=made, seconds=round(time.monotonic() - begun, 1))
        return more


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no other process of this machine does the same; the lock goes with the process."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (folder / "meanings").open("a")
    except OSError:
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
