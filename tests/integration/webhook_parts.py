"""Real HTTP over loopback for the webhook tests: Postroom's side under uvicorn, and a receiver that can misbehave."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn


@contextlib.contextmanager
def served(app: object, **options: object) -> Iterator[str]:
    """Run an ASGI app under uvicorn in a thread; yields its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", access_log=False, **options)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert time.monotonic() < deadline, "uvicorn did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@dataclass
class Seen:
    """One request as the sink got it."""

    line: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[socket.socket, Seen], None]


@dataclass
class Sink:
    """A receiver of webhooks on a bare socket, so that it can answer as badly as a test needs."""

    answer: Answer
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    url: str = ""
    read_bodies: bool = True

    def serve(self, listener: socket.socket) -> None:
        """Take connections until the listener is closed."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
            while line := stream.readline():
                headers: dict[str, str] = {}
                while (header := stream.readline()) not in {b"\r\n", b""}:
                    name, _, value = header.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                body = stream.read(int(headers.get("content-length", "0"))) if self.read_bodies else b""
                seen = Seen(line.decode("latin-1").strip(), headers, body)
                self.seen.append(seen)
                self.answer(connection, seen)


def replies(status: str, *headers: str, body: bytes = b"ok") -> Answer:
    """Answer every request alike, on a kept connection."""
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]).encode()

    def answer(connection: socket.socket, _: Seen) -> None:
        connection.sendall(head + body)

    return answer


@contextlib.contextmanager
def sink(answer: Answer) -> Iterator[Sink]:
    """A sink on a free loopback port."""
    listener = socket.create_server(("127.0.0.1", 0))
    receiver = Sink(answer)
    receiver.url = f"http://127.0.0.1:{listener.getsockname()[1]}/in"
    threading.Thread(target=receiver.serve, args=(listener,), daemon=True).start()
    try:
        yield receiver
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Check that the answer is a problem of this kind (RFC 9457), and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    content: dict[str, Any] = response.json()
    assert content["type"] == f"urn:postroom:problem:{kind}"
    assert content["status"] == status
    assert content["title"]
    assert content["detail"]
    return content
