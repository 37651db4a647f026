"""tasks/turns.py: no more calls at once than a server can do, few changes of its model, and nobody waits for ever."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks import turns as under_test
from tasks.errors import Busy
from tasks.turns import Turns, Wish

HERE = "http://a:11434"
THERE = "http://b:11434"
HOLDS = """
import sys
from pathlib import Path
from tasks.turns import Turns, Wish
with Turns(Path(sys.argv[1])).turn(Wish("small", ("http://a:11434",), "")):
    print("mine", flush=True)
    sys.stdin.read()
"""


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)


def waiting(folder: Path) -> int:
    return len(list(folder.glob("wait-*")))


@pytest.fixture(autouse=True)
def _slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, nobody who waits here counts as stopped."""
    monkeypatch.setattr(under_test, "FROZEN", 600.0)


@pytest.fixture
def started() -> Iterator[list[threading.Thread]]:
    threads: list[threading.Thread] = []
    yield threads
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_no_more_at_once_than_it_can_do(tmp_path: Path, started: list[threading.Thread]) -> None:
    """However many wait, in however many processes: each has turns of its own in the same folder."""
    lock, counts, most = threading.Lock(), [0], [0]

    def ask() -> None:
        with Turns(tmp_path, slots=2).turn(Wish("small", (HERE,), HERE)):
            with lock:
                counts[0] += 1
                most[0] = max(most[0], counts[0])
            until(lambda: most[0] == 2)
            with lock:
                counts[0] -= 1

    started += [threading.Thread(target=ask) for _ in range(6)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(30)
    assert (most[0], waiting(tmp_path)) == (2, 0)


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    """Its turn is free when it is gone, and what it left in line as well."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert holder.stdout
    assert holder.stdout.readline() == "mine\n"
    with pytest.raises(Busy, match="no server had a turn for small"):
        Turns(tmp_path, most=0.1).turn(Wish("small", (HERE,), HERE)).__enter__()
    holder.kill()
    holder.communicate()
    (tmp_path / "wait-00000000001.000000-1-1").write_text(json.dumps(["small", [HERE], HERE]))
    with Turns(tmp_path, most=30).turn(Wish("small", (HERE,), HERE)) as address:
        assert address == HERE
    assert waiting(tmp_path) == 0


@pytest.mark.parametrize(
    ("patience", "order"), [(60.0, ["small", "small", "large"]), (0.0, ["large", "small", "small"])]
)
def test_the_model_that_is_there_goes_first(
    tmp_path: Path, started: list[threading.Thread], patience: float, order: list[str]
) -> None:
    """One that would have to be loaded waits for those who need the other one, but not for longer than its patience."""
    done: list[str] = []

    def ask(model: str) -> None:
        with Turns(tmp_path, patience=patience).turn(Wish(model, (HERE,), HERE)):
            done.append(model)

    with Turns(tmp_path).turn(Wish("small", (HERE,), HERE)):
        for number, model in enumerate(("large", "small", "small"), 1):
            started.append(threading.Thread(target=ask, args=(model,)))
            started[-1].start()
            until(lambda number=number: waiting(tmp_path) == number)  # type: ignore[misc]
    for thread in started:
        thread.join(30)
    assert done == order


def test_the_last_caller_may_ask_on(
    tmp_path: Path, started: list[threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two questions of one job nobody gets another model loaded."""
    monkeypatch.setattr(under_test, "LINGER", 600.0)
    done: list[str] = []

    def ask() -> None:
        with Turns(tmp_path).turn(Wish("large", (HERE,), HERE)):
            done.append("large")

    mine = Turns(tmp_path)
    started.append(threading.Thread(target=ask))
    with mine.turn(Wish("small", (HERE,), HERE)):
        started[0].start()
        until(lambda: waiting(tmp_path) == 1)
    with mine.turn(Wish("small", (HERE,), HERE)):
        done.append("small")
    monkeypatch.setattr(under_test, "LINGER", 0.0)
    started[0].join(30)
    assert done == ["small", "large"]


def test_each_goes_where_it_is_best(tmp_path: Path) -> None:
    """Home, unless another model is there; another server, where home has no turn left."""
    turns, both = Turns(tmp_path, slots=2), (HERE, THERE)
    with turns.turn(Wish("small", both, THERE)) as first, turns.turn(Wish("small", both, THERE)) as second:
        with turns.turn(Wish("small", both, THERE)) as third:
            assert (first, second, third) == (THERE, HERE, THERE)
        with turns.turn(Wish("small", (HERE,), THERE)) as only:
            assert only == HERE
    with turns.turn(Wish("large", (THERE,), THERE)):
        pass
    with turns.turn(Wish("small", both, THERE)) as away:
        assert away == HERE


def test_one_who_looks_no_more_is_passed_over(tmp_path: Path) -> None:
    """A process that was stopped while it waited keeps its place in line, and nobody else from theirs."""
    frozen = tmp_path / "wait-00000000001.000000-1-1"
    frozen.write_text(json.dumps(["small", [HERE], HERE]))
    os.utime(frozen, (1, 1))
    with frozen.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with Turns(tmp_path, most=30).turn(Wish("small", (HERE,), HERE)) as address:
            assert address == HERE
        assert waiting(tmp_path) == 1


def test_without_files_everybody_is_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be made, or one who was stopped while choosing, keeps no job from the model."""
    (tmp_path / "no folder").write_text("")
    with Turns(tmp_path / "no folder").turn(Wish("small", (HERE,), HERE)) as address:
        assert address == HERE
    with monkeypatch.context() as full_disk:

        def refuse(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        full_disk.setattr(Path, "write_text", refuse)
        with Turns(tmp_path / "full").turn(Wish("small", (HERE,), HERE)) as address:
            assert (address, waiting(tmp_path / "full")) == (HERE, 0)
    monkeypatch.setattr(under_test, "CHOOSING", 0.05)
    with (tmp_path / "choosing").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with Turns(tmp_path).turn(Wish("small", (HERE, THERE), THERE)) as address:
            assert address == THERE
