"""Flower on the same Celery app and a real broker: it starts, and sees a real worker and its tasks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from config.settings import Settings
from daemon import flower
from daemon.embedded.broker import EmbeddedBroker
from tasks.app import make_app, publish
from tasks.errors import Unavailable
from tasks.models import Stage
from tests.ports import free_port

pytest.importorskip("flower")
pytestmark = pytest.mark.sqlite_only
REPOSITORY = Path(__file__).resolve().parents[2]
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path / "broker") as started:
        yield started


@pytest.fixture
def start(settings: Settings, broker: EmbeddedBroker, tmp_path: Path) -> Iterator[Start]:
    """Starts processes of Postroom on this broker; ends them."""
    told = {"POSTROOM_STATE_DIR": str(settings.state_dir), "POSTROOM_BROKER_URL": broker.url}
    environment = {**os.environ, **told, "POSTROOM_WORKER__EVENTS": "true"}
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "daemon.cli", *arguments]
        with (tmp_path / f"{arguments[0]}.log").open("wb") as out:
            started.append(subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=out, stderr=out))
        return started[-1]

    yield begin
    for process in started:
        process.send_signal(signal.SIGTERM)
    for process in started:
        process.wait(30)


def until(look: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < deadline, what
        time.sleep(0.3)
    return found


def workers(http: httpx.Client) -> list[dict[str, Any]]:
    try:
        answer = http.get("/workers", params={"json": "1"})
    except httpx.TransportError:
        return []
    found: list[dict[str, Any]] = answer.json()["data"] if answer.status_code == 200 else []
    return found


def test_flower_sees_a_worker_and_what_it_does(start: Start, settings: Settings, broker: EmbeddedBroker) -> None:
    """By its queues and process; a task that it took is counted."""
    port = free_port()
    window = start("flower", "--port", str(port))
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as http:
        until(lambda: window.poll() is not None or _answers(http), "Flower does not answer")
        worker = start("worker", "--queues", "extract", "--concurrency", "1")
        name = f"extract.{worker.pid}@{socket.gethostname()}"
        until(lambda: any(one["hostname"] == name and one["status"] for one in workers(http)), "the worker is not seen")
        publish(make_app(settings.model_copy(update={"broker_url": broker.url})), "0" * 26, Stage.EXTRACT)
        until(lambda: any(one.get("task-received", 0) for one in workers(http)), "its task is not seen")
    assert window.poll() is None
    window.send_signal(signal.SIGTERM)
    assert window.wait(30) == 0


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/workers").status_code == 200
    except httpx.TransportError:
        return False


def test_without_a_broker_it_says_so() -> None:
    """One sentence without the password, and no window that shows nothing."""
    nobody = Settings(broker_url=f"redis://user:hidden@127.0.0.1:{free_port()}/0")
    with pytest.raises(Unavailable, match=r"the broker 127\.0\.0\.1:\d+/0 does not answer: .*; start it") as error:
        flower.run(nobody, 0)
    assert "hidden" not in error.value.reason
