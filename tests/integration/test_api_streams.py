"""Following a job over real HTTP: server-sent events from the real ledger."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from config.settings import Settings
from daemon.web import stream
from tasks.models import Stage, State
from tests.integration.api_parts import House, claim, running, take_to_the_end
from tests.integration.webhook_parts import problem


@pytest.fixture
def house(settings: Settings) -> Iterator[House]:
    with running(settings) as made:
        yield made


@dataclass
class Heard:
    """One server-sent event."""

    event: str
    id: str
    data: dict[str, Any]


def heard(text: str) -> list[Heard]:
    """The events of a stream, comments left out."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if "event" in lines:
            found.append(Heard(lines["event"], lines.get("id", ""), json.loads(lines["data"])))
    return found


def test_a_stream_tells_the_trip_to_its_end(house: House) -> None:
    """Steps with numbers, progress with stage, tokens and percent, and an end after which the connection closes.

    What the model is writing is told to no program: nothing has checked it.
    """
    job_id = house.post(content=b"note").json()["job"]
    lines: list[str] = []
    with house.http.stream("GET", f"/jobs/{job_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        for line in answer.iter_lines():
            lines.append(line)
            if '"received"' in line:
                lease = claim(house.ledger, job_id, Stage.EXTRACT, State.EXTRACTING)
                house.ledger.leases.beat([(lease, {"phase": "reading", "tokens": 7, "tail": "Dear Sir"})])
            if '"reading"' in line:
                assert house.http.get(f"/jobs/{job_id}").json()["progress"] == {"phase": "reading", "tokens": 7}
                row = {"stage": "classify", "state": "classifying", "reason": ""}
                house.ledger.leases.finish(lease, value={}, job=row, event="extract done", detail={"documents": 1})
            if '"percent": 25' in line:
                house.ledger.jobs.cancel(job_id, why="enough")
    assert "Dear" not in "".join(lines)
    events = heard("\n".join(lines))
    assert [one.event for one in events] == [
        "step", "progress", "progress", "step", "progress", "step", "progress", "end",
    ]  # fmt: skip
    assert [(one.id, one.data["event"]) for one in events if one.event == "step"] == [
        ("1", "accepted"),
        ("2", "extract done"),
        ("3", "cancelled"),
    ]
    second = events[2].data
    assert (second["state"], second["stage"], second["phase"], second["tokens"], second["percent"]) == (
        "extracting", "extract", "reading", 7, 0,
    )  # fmt: skip
    assert (events[-1].id, events[-1].data["state"], events[-1].data["reason"]) == ("3.end", "cancelled", "enough")


def test_a_client_that_comes_again_goes_on_where_it_was(house: House) -> None:
    """Last-Event-ID leaves out what was seen; after the end there is nothing, which 204 says for good."""
    job_id = house.post(content=b"note").json()["job"]
    take_to_the_end(house.ledger, job_id)

    def events(last: str) -> list[Heard]:
        return heard(house.http.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": last}).text)

    assert [one.id for one in events("") if one.event == "step"] == ["1", "2", "3", "4", "5"]
    assert [one.id for one in events("3") if one.event == "step"] == ["4", "5"]
    assert next(one.id for one in events("nonsense")) == "1"
    assert house.http.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": "5.end"}).status_code == 204
    assert house.ledger.jobs.retry(job_id, Stage.DELIVER, why="test")
    house.stop.set()  # so that the stream of the open job ends
    again = house.http.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": "5.end"})
    assert again.status_code == 200


def test_a_silent_stream_shows_that_it_lives(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment comes when nothing else does; and when the process stops, the stream ends."""
    monkeypatch.setattr(stream, "HEARTBEAT", 0.3)
    job_id = house.post(content=b"note").json()["job"]
    beats = 0
    with house.http.stream("GET", f"/jobs/{job_id}/events") as answer:
        for line in answer.iter_lines():
            beats += line.startswith(":")
            if beats == 2:
                house.stop.set()
    assert beats == 2


def test_streams_are_limited_and_end_with_their_client(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is 503; a client that goes away makes room."""
    monkeypatch.setattr(stream, "MAX_STREAMS", 1)
    job_id = house.post(content=b"note").json()["job"]
    with house.http.stream("GET", f"/jobs/{job_id}/events") as answer:
        lines = answer.iter_lines()  # kept, for the connection closes with it
        next(lines)
        problem(house.http.get(f"/jobs/{job_id}/events"), 503, "too-many-streams")
    deadline = time.monotonic() + 60
    while True:
        with house.http.stream("GET", f"/jobs/{job_id}/events") as answer:
            if answer.status_code == 200:
                break
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_streams_hold_no_thread_each(house: House) -> None:
    """Eighty clients that wait leave the other requests as quick as before, and few threads."""
    job_id = house.post(content=b"note").json()["job"]
    host, port = house.url.removeprefix("http://").split(":")
    request = f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    before = threading.active_count()
    clients = []
    for _ in range(80):
        client = socket.create_connection((host, int(port)), timeout=20)
        client.sendall(request)
        clients.append(client)
    try:
        for client in clients:
            assert b"200 OK" in client.recv(65_536)
        started = time.monotonic()
        assert house.http.get(f"/jobs/{job_id}").status_code == 200
        assert time.monotonic() - started < 60
        assert threading.active_count() - before < 60  # the two pools of the event loop, whatever the clients' number
        house.ledger.jobs.cancel(job_id, why="test")
        for client in clients:
            text = b""
            while part := client.recv(65_536):
                text += part
                if b"event: end" in text:
                    break
            assert b"event: end" in text
    finally:
        for client in clients:
            client.close()
