"""What every way in promises, whatever its protocol: the same statements for each, and none may be left out."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import listeners
from daemon.listeners import folder
from tests.integration.doors import LEDGER_DOWN, PATIENCE, Door, until
from tests.integration.dovecot import Dovecot, running
from tests.integration.ways_in import LATER, LIMIT, TAKEN, TOO_LARGE, Drop, Http, Mailbox, Smtp, Way, in_background

NAMES = ("smtp", "lmtp", "webhook", "api", "imap", "folder")
MANY = 12


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with running() as server:
        yield server


@pytest.fixture(params=NAMES)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Way:
    """Each way in, in turn."""
    return made(request.param, request, tmp_path)


def made(name: str, request: pytest.FixtureRequest, home: Path) -> Way:
    """A way in by its name."""
    if name in {"smtp", "lmtp"}:
        return Smtp(name)
    if name == "imap":
        return Mailbox(request.getfixturevalue("server"))
    return {"webhook": Http("/hooks/open", "webhook"), "api": Http("/jobs"), "folder": Drop(home / "drop")}[name]


def test_each_listener_is_here(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A file in daemon/listeners that begins a way in has to be among those that are tested below."""
    begin = {
        one.name
        for one in pkgutil.iter_modules(listeners.__path__)
        for module in [importlib.import_module(f"daemon.listeners.{one.name}")]
        if hasattr(module, "run") or hasattr(module, "install")
    }
    assert begin == {module for name in NAMES for module in made(name, request, tmp_path).modules}


def test_taken_is_told_after_the_commit(way: Way, tmp_path: Path) -> None:
    """While the ledger cannot commit nobody is told anything; then it is told, and the job stands there."""
    with way.opened(tmp_path) as door, contextlib.closing(sqlite3.connect(door.settings.ledger[10:])) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        with in_background(lambda: way.hand_in(door, 1)):
            time.sleep(0.7)
            assert way.told(door, 1) == ""
            assert door.jobs() == 0
            other.execute("ROLLBACK")
            until(lambda: way.told(door, 1) == TAKEN, 30)
        assert door.jobs() == 1


def test_a_ledger_that_is_down(way: Way, tmp_path: Path) -> None:
    """Its sender is told to come again, or finds it untouched; once the ledger is back it is one job."""
    with way.opened(tmp_path) as door:
        door.intake.fault = LEDGER_DOWN
        way.hand_in(door, 1)
        until(lambda: way.told(door, 1) == LATER)
        assert door.jobs() == 0
        door.intake.fault, door.intake.refused = None, 0
        way.again(door, 1)
        until(lambda: way.told(door, 1) == TAKEN, 30)
        assert door.jobs() == 1


def test_the_same_message_twice(way: Way, tmp_path: Path) -> None:
    """The second one is told the same as the first, and is no second job; a later one is."""
    with way.opened(tmp_path) as door:
        for _ in range(2):
            way.hand_in(door, 1)
            until(lambda: way.told(door, 1) == TAKEN)
        way.hand_in(door, 2)
        until(lambda: way.told(door, 2) == TAKEN)
        until(lambda: len(door.intake.seen) >= 2)
        assert door.jobs() == 2


def test_too_large(way: Way, tmp_path: Path) -> None:
    """It has an outcome of its own, makes no job, and is in no other's way."""
    with way.opened(tmp_path) as door:
        way.hand_in(door, 1, 2 * LIMIT)
        until(lambda: way.told(door, 1) == TOO_LARGE)
        way.hand_in(door, 2)
        until(lambda: way.told(door, 2) == TAKEN)
        assert door.jobs() == 1


def test_stopped_in_mid_work(way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was told TAKEN is there after a stop; the rest, sent again, comes in; and nothing comes in twice."""
    monkeypatch.setattr(folder, "ABANDONED", 1.0)  # in which a claim of the stopped process is left alone

    def all_in() -> None:
        for number in range(MANY):
            way.hand_in(door, number)

    with way.opened(tmp_path) as door:
        with in_background(all_in):
            until(lambda: door.jobs() >= 3)
            door.stop.set()
        door.thread.join(PATIENCE)
        assert not door.thread.is_alive()
        told = [number for number in range(MANY) if way.told(door, number) == TAKEN]
        assert len(told) <= door.jobs()
    with way.opened(tmp_path) as again:
        finish(way, again)
        assert again.jobs() == MANY


def finish(way: Way, door: Door) -> None:
    """Send again whatever was not told TAKEN, until all is."""
    for number in range(MANY):
        if way.told(door, number) != TAKEN:
            way.again(door, number)
    until(lambda: all(way.told(door, number) == TAKEN for number in range(MANY)), 40)
