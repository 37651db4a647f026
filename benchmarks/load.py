"""A small HTTP load generator on asyncio: keeps `concurrency` requests in flight on kept connections."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import uvloop

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass
class Result:
    """What one run measured."""

    requests: int
    seconds: float
    latencies: list[float]
    refused: int
    first_refusal: bytes = b""

    @property
    def rate(self) -> float:
        """Answers with 2xx a second."""
        return (self.requests - self.refused) / self.seconds

    def percentile(self, share: float) -> float:
        """Latency in milliseconds."""
        return statistics.quantiles(self.latencies, n=1000)[round(share * 1000) - 1] * 1000


class _Client(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], result: Result, done: asyncio.Future[None]) -> None:
        self._requests = requests
        self._result = result
        self._done = done
        self._buffer = b""
        self._started = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        end = self._buffer.find(b"\r\n\r\n")
        length = _LENGTH.search(self._buffer, 0, end) if end >= 0 else None
        if not length or len(self._buffer) < end + 4 + int(length[1]):
            return
        self._result.latencies.append(time.perf_counter() - self._started)
        self._result.requests += 1
        if self._buffer[9:10] != b"2":
            self._result.refused += 1
            self._result.first_refusal = self._result.first_refusal or self._buffer
        self._buffer = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._done.set_result(None)
            self._transport.close()
            return
        self._started = time.perf_counter()
        self._transport.write(request)


def run(port: int, requests: Iterator[bytes], concurrency: int, count: int) -> Result:
    """Send `count` of `requests` to loopback `port`. Raises OSError when the server goes away."""
    result = Result(0, 0.0, [], 0)
    limited = islice(requests, count)

    async def drive() -> None:
        loop = asyncio.get_running_loop()
        waiting = []
        for _ in range(concurrency):
            done: asyncio.Future[None] = loop.create_future()
            await loop.create_connection(lambda done=done: _Client(limited, result, done), "127.0.0.1", port)  # type: ignore[misc]
            waiting.append(done)
        await asyncio.gather(*waiting)

    started = time.perf_counter()
    uvloop.run(drive())
    result.seconds = time.perf_counter() - started
    return result
