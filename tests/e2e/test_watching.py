"""Following jobs over HTTP: a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from daemon.demo.inputs import Drop, Expected, Input
from daemon.demo.scene import build
from daemon.demo.send import Sending
from daemon.demo.service import Service
from daemon.demo.watch import Followed, follow

STEPS: list[dict[str, Any]] = [
    {"state": "classifying", "progress": {"phase": "fields", "tokens": 12}},
    {"state": "replying", "classification": {"label": "order", "output_tokens": 40}, "progress": {}},
    {"state": "done", "classification": {"label": "order", "output_tokens": 40}, "reply": {"output_tokens": 5}},
]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The HTTP side of a Postroom with one job, which is a step further each time it is asked for; once it fails."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            steps = sum(path == "/jobs/J1" for path in asked)
            job = {"id": "J1", "name": "x.txt", "message_id": "", **STEPS[min(steps, len(STEPS)) - 1]}
            body = json.dumps(job if self.path == "/jobs/J1" else {"jobs": [job]}).encode()
            self.send_response(503 if len(asked) == 3 else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    scene = build(tmp_path / "state", ())
    made = Service(scene)
    made.addresses = {"web": f"http://127.0.0.1:{server.server_address[1]}"}
    yield made
    scene.close()
    server.shutdown()
    server.server_close()


def _one(file: str = "x.txt") -> Followed:
    item = Input("one", "folder", Drop(by="folder", file=file), Expected(), b"")
    return Followed(Sending(item, "drop folder", "put there"), time.monotonic())


def test_plain_lines_off_a_terminal(service: Service) -> None:
    """Each change of state is one line, a failed look is made again, and no control code is written."""
    out, one = StringIO(), _one()
    follow([one], service, Console(file=out, width=160), timeout=30)
    told = [line.strip().split(",")[0] for line in out.getvalue().splitlines()]
    assert told == ["one: classifying", "one: replying", "one: done"]
    assert one.tokens == 45
    assert one.rested_at is not None
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize(("width", "table"), [(100, True), (40, False)])
def test_a_table_where_it_fits(service: Service, width: int, table: bool) -> None:
    """A terminal shows stage, phase, label, tokens and time in a table; one too small for it gets the plain lines."""
    out = StringIO()
    follow([_one()], service, Console(file=out, width=width, force_terminal=True), timeout=30)
    assert ("classifying (fields)" in out.getvalue()) is table
    assert ("elapsed" in out.getvalue()) is table
    assert ("one: replying" in out.getvalue()) is not table


def test_it_ends_when_the_time_is_over(service: Service) -> None:
    """A job that never rests does not hold the demo for ever."""
    lost, started = _one("other.txt"), time.monotonic()
    follow([lost], service, Console(file=StringIO()), timeout=1)
    assert time.monotonic() - started < 20
    assert lost.rested_at is None
