"""The embedded broker: a real Valkey from the wheel, driven by a real client and by Celery's transport."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import kombu
import pytest
import redis

from daemon.embedded.broker import BrokerError, EmbeddedBroker

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path / "broker") as broker:
        yield broker


def gone(pid: int, seconds: float = 60.0) -> bool:
    """Whether a process ends within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False


def test_carries_a_message_for_celerys_transport(broker: EmbeddedBroker) -> None:
    """A message put through kombu, which Celery stands on, comes out again."""
    with kombu.Connection(broker.url) as connection, connection.SimpleQueue("jobs") as queue:
        queue.put({"job": "one"})
        message = queue.get(timeout=60)
        assert message.payload == {"job": "one"}
        message.ack()


def test_keeps_nothing_on_disk_and_evicts_nothing(broker: EmbeddedBroker) -> None:
    """No snapshots, no append-only file, and a full memory refuses instead of forgetting."""
    with redis.Redis.from_url(broker.url, decode_responses=True) as client:
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("appendonly") == {"appendonly": "no"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.set("first", "kept")
        client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("second", "refused")
        assert client.get("first") == "kept"


def test_listens_on_loopback_and_asks_for_the_password(broker: EmbeddedBroker) -> None:
    """Without the password nothing is answered; the address file and the log tell it to this user only."""
    port = int(broker.url.rpartition(":")[2].split("/")[0])
    with redis.Redis(host="127.0.0.1", port=port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    listening = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if line.split()[3] == "0A"}
    assert f"0100007F:{port:04X}" in listening
    assert f"00000000:{port:04X}" not in listening
    address = broker.directory / "url"
    assert address.read_text().strip() == broker.url
    assert address.stat().st_mode & 0o777 == 0o600
    assert broker.url not in Path(f"/proc/{broker.pid}/cmdline").read_text()


def test_stop_ends_the_process_and_removes_the_address(broker: EmbeddedBroker) -> None:
    """After stop the process is gone and nobody is pointed at it; a second stop does nothing."""
    pid = broker.pid
    assert pid is not None
    broker.stop()
    assert gone(pid)
    assert broker.pid is None
    assert not (broker.directory / "url").exists()
    broker.stop()


def test_starts_again_after_it_was_killed(broker: EmbeddedBroker) -> None:
    """A broker that was killed is seen as not running and can be started again."""
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)
    broker.wait()
    assert broker.pid is None
    broker.start()
    with redis.Redis.from_url(broker.url) as client:
        assert client.ping()


def test_append_only_survives_a_restart(tmp_path: Path) -> None:
    """With append_only the queue is there again after stop and start."""
    broker = EmbeddedBroker(tmp_path, append_only=True)
    for expected in (None, b"kept"):
        with broker, redis.Redis.from_url(broker.url) as client:
            assert client.get("key") == expected
            client.set("key", "kept")


def test_taken_port_is_told(tmp_path: Path) -> None:
    """A fixed port that is in use ends with the broker's own words."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=r"did not start: .*(Address already in use|listen).*broker\.log"):
            EmbeddedBroker(tmp_path, port).start()


def test_address_before_the_start_is_an_error(tmp_path: Path) -> None:
    """There is no address to give before the start."""
    with pytest.raises(BrokerError, match="before it is started"):
        _ = EmbeddedBroker(tmp_path).url


def foreground(directory: Path) -> subprocess.Popen[str]:
    """`python -m daemon.embedded.broker` in a process of its own."""
    command = [sys.executable, "-m", "daemon.embedded.broker", "--directory", str(directory)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def test_command_runs_until_sigterm(tmp_path: Path) -> None:
    """The command prints the address, serves, and ends with status 0 and without leaving the broker behind."""
    process = foreground(tmp_path)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    pid = int((tmp_path / "pid").read_text().split()[0])
    with redis.Redis.from_url(url) as client:
        assert client.ping()
    process.terminate()
    assert process.wait(60) == 0
    assert gone(pid)


def test_command_ends_when_its_broker_ends(tmp_path: Path) -> None:
    """A broker that dies takes the command with it, with status 1, so that a supervisor sees it."""
    process = foreground(tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(int((tmp_path / "pid").read_text().split()[0]), signal.SIGKILL)
    assert process.wait(60) == 1


def test_orphan_of_a_killed_parent_is_ended_by_the_next_start(tmp_path: Path) -> None:
    """When the parent was killed its broker lives on; the next start in the same folder ends that one first."""
    parent = foreground(tmp_path)
    assert parent.stdout is not None
    parent.stdout.readline()
    orphan = int((tmp_path / "pid").read_text().split()[0])
    parent.kill()
    parent.wait()
    assert not gone(orphan, 0.2)
    with EmbeddedBroker(tmp_path) as broker:
        assert broker.pid != orphan
        assert gone(orphan)


def test_folder_in_use_is_refused(broker: EmbeddedBroker) -> None:
    """A second start in the folder of a living parent is refused and does the first one no harm."""
    with pytest.raises(BrokerError, match=r"another process \(\d+\) runs an embedded broker"):
        EmbeddedBroker(broker.directory).start()
    with redis.Redis.from_url(broker.url) as client:
        assert client.ping()
