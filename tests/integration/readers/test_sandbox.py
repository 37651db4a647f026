"""The children's limits, and the warm server's life (tasks/readers/sandbox/)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import Unreadable
from tasks.readers.limits import Limits
from tasks.readers.sandbox import client
from tasks.readers.sandbox.client import Sandbox
from tasks.readers.sandbox.server import READY
from tests.integration.readers import samples


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox of the test's own."""
    own = Sandbox()
    yield own
    own.close()


def request(**changes: str) -> dict[str, object]:
    """A request to read one file."""
    return {"op": "read", "as": "", "name": "x", "claimed": "", "charset": "", "passwords": [], **changes}


def children_of(pid: int | None) -> list[int]:
    """Process ids of the running children."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(number) for number in path.read_text().split()] if path.exists() else []


def busy(pid: int | None) -> list[int]:
    """Process ids of the children that have a file: they are older than those that wait for one."""
    return children_of(pid)[:-READY]


def idle(pid: int | None) -> bool:
    """Whether only children that wait for a file are there."""
    return len(children_of(pid)) == READY


def descriptors(pid: int | str) -> int:
    """How many descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def eventually(true: object, seconds: float = 10.0) -> bool:
    """Wait until the function says so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False


def noise() -> bytes:
    """A large picture of many small words: some seconds of recognition."""
    return samples.png(*[f"{n} the quick brown fox jumps over the lazy dog {n * 7919}" for n in range(60)])


def slow_table() -> bytes:
    """HTML that takes some seconds of processor time."""
    return b"<html><table>" + b"<tr><td>a<td>b" * 200_000


def test_a_file_is_read(sandbox: Sandbox) -> None:
    """A call gives the text and what the child used."""
    result = sandbox.call(request(), b"hello", Limits())
    assert result.header["text"] == "hello"
    assert result.peak_kib > 0


def test_wall_limit_ends_a_child(sandbox: Sandbox) -> None:
    """A child that takes too long is ended, and the reason says so."""
    sandbox.call(request(), b"warm", Limits())
    begin = time.monotonic()
    with pytest.raises(Unreadable, match=r"longer than 0.3 seconds"):
        sandbox.call(request(), slow_table(), Limits(wall_seconds=0.3, ocr_seconds=0))
    assert time.monotonic() - begin < 60
    assert eventually(lambda: idle(sandbox.server_pid))


def test_a_sleeping_child_that_lost_its_alarm_is_killed_by_the_server(sandbox: Sandbox) -> None:
    """The server's own clock is the backstop: a stopped child cannot answer its alarm."""
    sandbox.call(request(), b"warm", Limits())
    outcome: list[str] = []

    def call() -> None:
        try:
            sandbox.call(request(), slow_table(), Limits(wall_seconds=1, ocr_seconds=0))
        except Unreadable as error:
            outcome.append(error.reason)

    thread = threading.Thread(target=call)
    thread.start()
    assert eventually(lambda: busy(sandbox.server_pid))
    os.kill(busy(sandbox.server_pid)[0], signal.SIGSTOP)
    thread.join(20)
    assert outcome == ["reading took longer than 1 seconds"]


def test_processor_limit_ends_a_child(sandbox: Sandbox) -> None:
    """Processor time is bounded too."""
    with pytest.raises(Unreadable, match="1 seconds of processor time"):
        sandbox.call(request(), slow_table(), Limits(cpu_seconds=1, ocr_seconds=0))


def test_memory_limit_ends_a_child(sandbox: Sandbox) -> None:
    """A 1.2 GiB flate bomb never gets more than its gibibyte."""
    with pytest.raises(Unreadable, match="1024 MiB"):
        sandbox.call(request(), samples.flate_bomb(1200), Limits())


def test_killed_child_is_an_unreadable_file(sandbox: Sandbox) -> None:
    """A signal out of nowhere (the kernel's OOM killer) costs this file only."""
    sandbox.call(request(), b"warm", Limits())
    outcome: list[str] = []

    def call() -> None:
        try:
            sandbox.call(request(), noise(), Limits())
        except Unreadable as error:
            outcome.append(error.reason)

    thread = threading.Thread(target=call)
    thread.start()
    assert eventually(lambda: busy(sandbox.server_pid))
    os.kill(busy(sandbox.server_pid)[0], signal.SIGSEGV)
    thread.join(20)
    assert len(outcome) == 1
    assert "SIGSEGV" in outcome[0]
    assert sandbox.call(request(), b"next", Limits()).header["text"] == "next"


def test_a_child_killed_while_it_waits_costs_no_file(sandbox: Sandbox) -> None:
    """The kernel may take any of them for its memory: the next one reads, and others are made ready."""
    sandbox.call(request(), b"warm", Limits())
    assert eventually(lambda: idle(sandbox.server_pid))
    dead = children_of(sandbox.server_pid)
    for pid in dead:
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: all(_is_zombie(pid) for pid in dead))
    assert [sandbox.call(request(), f"word {n}".encode(), Limits()).header["text"] for n in range(5)] == [
        f"word {n}" for n in range(5)
    ]
    assert eventually(lambda: idle(sandbox.server_pid))
    assert not any(Path(f"/proc/{pid}").exists() for pid in dead)


def test_the_limits_begin_with_the_file(sandbox: Sandbox) -> None:
    """A child that has long waited has all its time."""
    sandbox.call(request(), b"warm", Limits())
    time.sleep(1.2)
    assert sandbox.call(request(), b"late", Limits(wall_seconds=1, ocr_seconds=0)).header["text"] == "late"


def test_a_child_that_answered_is_not_waited_for_and_does_not_live_on(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was taken over could answer and go on: the server ends it once its client has what it wanted."""
    sandbox.call(request(), b"warm", Limits())
    assert eventually(lambda: idle(sandbox.server_pid))
    converse = client._converse

    def stopped(channel: socket.socket, *about: Any) -> tuple[dict[str, Any] | None, list[bytes]]:
        """The answer comes from the child's last breath: it is stopped before its own end."""
        told = converse(channel, *about)
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(first, signal.SIGSTOP)
        return told

    monkeypatch.setattr(client, "_converse", stopped)
    for number in range(5):
        first = children_of(sandbox.server_pid)[0]
        assert sandbox.call(request(), b"%d" % number, Limits()).header["text"] == str(number)
        assert eventually(lambda: not Path(f"/proc/{first}").exists(), 5)  # noqa: B023 - called within the loop
    assert eventually(lambda: idle(sandbox.server_pid))


def test_survives_the_servers_death(sandbox: Sandbox) -> None:
    """A killed server is started again, and the file that was being read is read after all."""
    sandbox.call(request(), b"warm", Limits())
    first = sandbox.server_pid
    assert first is not None
    texts: list[str] = []
    picture = samples.png("Invoice 2026-0815", "and some more words to take a moment")
    thread = threading.Thread(target=lambda: texts.append(sandbox.call(request(), picture, Limits()).header["text"]))
    thread.start()
    assert eventually(lambda: busy(first))
    orphan, *others = children_of(first)
    os.kill(first, signal.SIGKILL)
    thread.join(60)
    assert "Invoice 2026-0815" in texts[0]
    assert sandbox.server_pid not in (None, first)
    for child in (orphan, *others):
        assert eventually(lambda child=child: not Path(f"/proc/{child}").exists() or _is_zombie(child))


def test_leaves_nothing_behind(sandbox: Sandbox) -> None:
    """After many calls: no child but those that wait, no descriptor more, no folder; after close: no server."""
    sandbox.call(request(), b"warm", Limits())
    pid = sandbox.server_pid
    assert pid is not None
    assert eventually(lambda: idle(pid))
    before, server_before = descriptors("self"), descriptors(pid)
    folder = sandbox._folder
    assert folder is not None
    for number in range(30):
        with contextlib.suppress(Unreadable):
            data = samples.pdf(password="x") if number % 3 == 0 else b"words"
            sandbox.call(request(), data, Limits())
    assert eventually(lambda: idle(pid))
    assert descriptors("self") == before
    assert eventually(lambda: descriptors(pid) <= server_before)
    assert eventually(lambda: len(list(folder.iterdir())) == READY)
    waiting = children_of(pid)
    sandbox.close()
    assert not folder.exists()
    assert not Path(f"/proc/{pid}").exists()
    assert eventually(lambda: not any(Path(f"/proc/{child}").exists() and not _is_zombie(child) for child in waiting))


def test_the_server_ends_with_its_worker(tmp_path: Path) -> None:
    """A worker killed with SIGKILL leaves no server behind, and no folder with parts of people's documents."""
    script = (
        "import time\n"
        "from tasks.readers.sandbox.client import SANDBOX\n"
        "from tasks.readers.limits import Limits\n"
        "SANDBOX.call({'op':'read','as':'','name':'','claimed':'','charset':'','passwords':[]}, b'x', Limits())\n"
        "print(SANDBOX.server_pid, SANDBOX._folder, flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).parents[3]
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=root, text=True) as worker:
        assert worker.stdout is not None
        server, folder = worker.stdout.readline().split()
        assert Path(f"/proc/{server}").exists()
        assert Path(folder).exists()
        worker.kill()
    assert eventually(lambda: not Path(f"/proc/{server}").exists() or _is_zombie(int(server)))
    assert not Path(folder).exists()


def test_a_server_whose_worker_was_killed_as_it_began_ends_without_a_word(tmp_path: Path) -> None:
    """It finds nobody to tell that it is ready: no traceback, and nothing is left."""
    folder = tmp_path / "readers"
    folder.mkdir()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    command = [sys.executable, "-m", "tasks.readers.sandbox.server", str(theirs.fileno()), str(folder)]
    root = Path(__file__).parents[3]
    with theirs:
        ended = subprocess.run(
            command, pass_fds=(theirs.fileno(),), cwd=root, capture_output=True, text=True, timeout=60, check=False
        )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not folder.exists()


def test_children_have_no_network_where_the_kernel_allows_it(sandbox: Sandbox) -> None:
    """The server, and so each child, stands in a network namespace of its own."""
    sandbox.call(request(), b"warm", Limits())
    if not sandbox.isolated:
        pytest.skip("this kernel allows no user namespaces")
    own = Path("/proc/self/ns/net").readlink()
    assert Path(f"/proc/{sandbox.server_pid}/ns/net").readlink() != own


def test_the_server_gets_no_secrets(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's environment is not handed on."""
    monkeypatch.setenv("POSTROOM_SMTP_PASSWORD", "hunter2")
    sandbox.call(request(), b"warm", Limits())
    assert b"hunter2" not in Path(f"/proc/{sandbox.server_pid}/environ").read_bytes()


def test_a_forked_worker_gets_its_own_server(sandbox: Sandbox) -> None:
    """Celery's prefork pool: a child of the worker does not share its parent's server."""
    sandbox.call(request(), b"warm", Limits())
    parent_server = sandbox.server_pid
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            sandbox.forget()
            text = sandbox.call(request(), b"forked", Limits()).header["text"]
            theirs.sendall(f"{text} {sandbox.server_pid}".encode())
            sandbox.close()
        finally:
            os._exit(0)
    ours.settimeout(30)
    text, server = ours.recv(100).decode().split()
    os.waitpid(pid, 0)
    ours.close()
    theirs.close()
    assert text == "forked"
    assert int(server) != parent_server
    assert sandbox.call(request(), b"still here", Limits()).header["text"] == "still here"


def _is_zombie(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
