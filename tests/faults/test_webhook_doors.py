"""The way in under faults: a real `postroom web` is killed, its disk fills up, its broker refuses.

Faults 2, 11 and 12 of the list in docs/guarantees.md.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis

from config.settings import Settings
from daemon.embedded.broker import EmbeddedBroker
from tasks.models import State
from tests.faults.parts import full
from tests.integration.webhook_parts import problem, replies, sink
from tests.street import Street, signed, until

pytestmark = pytest.mark.slow


@pytest.mark.fault(number=2)
def test_killed_between_commit_and_202_it_is_one_job(tmp_path: Path) -> None:
    """The sender heard nothing and sends again: the first job's receipt, and no second job (fault 2)."""
    with Street(tmp_path) as street:
        with (
            street.web(program=("-m", "tests.faults.tampered", "before-202")) as client,
            pytest.raises(httpx.TransportError),
        ):
            signed(client, b'{"order": 1}', "msg_1")
        assert street.processes[0].wait(30) == -signal.SIGKILL
        ledger = street.ledger()
        (job,) = ledger.jobs.page()
        assert (job.key, ledger.jobs.raw(job.id)) == ("msg_1", b'{"order": 1}')
        with street.web() as client:
            again = signed(client, b'{"order": 1}', "msg_1")
            assert (again.status_code, again.json()["job"], again.json()["duplicate"]) == (202, job.id, True)
            other = signed(client, b'{"order": 2}', "msg_2")
            assert (other.status_code, "duplicate" in other.json()) == (202, False)
        assert len(ledger.jobs.page()) == 2
        ledger.close()


@full
@pytest.mark.fault(number=11)
def test_a_full_broker_refuses_nobody(tmp_path: Path) -> None:
    """Redis at maxmemory takes no message: 202 goes on, and when it has room again every job runs (fault 11)."""
    with (
        sink(replies("200 OK")) as receiver,
        EmbeddedBroker(tmp_path / "broker") as broker,
        redis.Redis.from_url(broker.url) as memory,
        Street(tmp_path, broker=broker.url, sink=receiver.url) as street,
    ):
        street.start("worker")
        street.start("rescue")
        with street.web() as client:
            memory.config_set("maxmemory", 1)
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                memory.set("more", "refused")
            answers = [signed(client, b'{"order": %d}' % number, f"msg_{number}") for number in range(30)]
            assert {answer.status_code for answer in answers} == {202}
            ledger = street.ledger()
            time.sleep(1)
            assert ledger.jobs.counts() == {State.RECEIVED.value: 30}
            memory.config_set("maxmemory", 0)
            until(lambda: ledger.jobs.counts() == {State.DONE.value: 30}, 100, "the end of all jobs")
            ledger.close()
    assert len({seen.headers["webhook-id"] for seen in receiver.seen}) == 30


INLINE = Settings().inline_limit
Disk = contextlib.AbstractContextManager[tuple[httpx.Client, Iterator[None]]]
"""A client of a `postroom web`, and what makes its disk full, then gives it room again."""


def fill_disk(disk: Path) -> Iterator[None]:
    """Write until nothing more fits."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    yield
    ballast.unlink()


def may_mount() -> bool:
    """Whether a process may have a file system of its own."""
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def small_disk(street: Street, _size: int) -> Iterator[tuple[httpx.Client, Iterator[None]]]:
    """On a disk of 8 MB, a tmpfs of the process's own."""
    mount = f'mount -t tmpfs -o size=8m tmpfs "{street.state}" && exec "$@"'
    with street.web(before=("unshare", "--mount", "sh", "-c", mount, "sh")) as client:
        yield client, fill_disk(Path(f"/proc/{street.processes[-1].pid}/root{street.state}"))


@contextlib.contextmanager
def small_files(street: Street, size: int) -> Iterator[tuple[httpx.Client, Iterator[None]]]:
    """With files that may grow no more (RLIMIT_FSIZE): every write beyond fails. Works where nobody may mount, too."""

    def limit(pid: int) -> Iterator[None]:
        largest = max(file.stat().st_size for file in street.state.iterdir() if file.is_file())
        room = min(largest + 50_000, size // 2) if size > INLINE else largest + 50_000
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        yield
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    with street.web() as client:
        yield client, limit(street.processes[-1].pid)


@pytest.mark.parametrize("size", [2_000, 200_000], ids=["in the ledger", "as blobs"])
@pytest.mark.parametrize("how", [small_disk, pytest.param(small_files, marks=full)])
@pytest.mark.fault(number=12)
def test_a_full_disk_is_a_503_and_never_a_false_202(
    tmp_path: Path, how: Callable[[Street, int], Disk], size: int
) -> None:
    """Until there is room again it is 503 with Retry-After; nothing that was answered 202 is missing (fault 12)."""
    how = small_files if how is small_disk and not may_mount() else how
    with Street(tmp_path) as street:
        with how(street, size) as (client, full):
            before = [post(client, number, size) for number in range(3)]
            next(full)
            answers = list(until_refused(client, size))
            refused = [number for number, answer in answers if answer.status_code == 503]
            assert {answer.status_code for _, answer in answers} <= {202, 503}
            assert len(refused) > 3, "the disk did not fill up"
            problem(answers[-1][1], 503, "not-stored")
            assert int(answers[-1][1].headers["retry-after"]) >= 1
            taken = [answer.json()["job"] for _, answer in [*before, *answers] if answer.status_code == 202]
            assert not [job for job in taken if client.get(f"/jobs/{job}/raw").status_code != 200]
            next(full, None)
            later = [post(client, number, size)[1] for number in refused[:3]]
            assert [(answer.status_code, answer.json().get("duplicate")) for answer in later] == [(202, None)] * 3
            assert len(client.get(f"/jobs/{taken[0]}/raw").content) == size
        assert street.processes[0].poll() is None


def until_refused(client: httpx.Client, size: int) -> Iterator[tuple[int, httpx.Response]]:
    """Post number 3 and on, and what comes of each; ends when twenty were refused."""
    refused = 0
    for number in range(3, 300):
        answer = post(client, number, size)
        refused += answer[1].status_code == 503
        yield answer
        if refused == 20:
            return


def post(client: httpx.Client, number: int, size: int) -> tuple[int, httpx.Response]:
    body = b"%08d" % number * (size // 8)
    return number, signed(client, body, f"msg_{number}")
