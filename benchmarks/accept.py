"""How fast webhooks are accepted: 2 KiB of JSON, signed, at 1, 16 and 64 requests in flight.

Compares in one run, on one process each: bare uvicorn that answers 202; the tutorial stack (FastAPI and `task.delay()`
on Redis); Postroom, which verifies, deduplicates and commits to disk before it answers.

    python -m benchmarks.accept [--seconds 2] [--rounds 5] [--memory 100000]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

from benchmarks import load, servers
from daemon.embedded.broker import EmbeddedBroker
from tasks.signatures import sign_standard

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = json.dumps({"type": "order.created", "data": {"lines": ["x" * 61] * 31}}).encode().ljust(2048)
STACKS = ("bare", "tutorial", "postroom")
CONCURRENCY = (1, 16, 64)
HTTP = {"postroom": "daemon.listeners.webhook_protocol:GuardedProtocol"}


def signed_requests(prefix: str) -> Iterator[bytes]:
    """Requests with ids of their own, rightly signed."""
    number = 0
    while True:
        number += 1
        headers = sign_standard(BODY, [SECRET], f"{prefix}-{number}", int(time.time()))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        yield (
            "POST /hooks/shop HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(BODY)}\r\n{lines}\r\n"
        ).encode() + BODY


@dataclass(frozen=True)
class Run:
    """One run: answers a second, latencies and the server's CPU time per request in milliseconds."""

    rate: float
    p50: float
    p99: float
    cpu_ms: float


def measure(stack: str, port: int, pid: int, concurrency: int, seconds: float, name: str) -> Run:
    """Warm up, then one run of about `seconds`."""
    warm = load.run(port, signed_requests(f"warm-{name}"), concurrency, 200)
    count = max(200, int(warm.rate * seconds))
    before = servers.cpu_seconds(pid)
    result = load.run(port, signed_requests(name), concurrency, count)
    if result.refused:
        raise SystemExit(f"{stack}: {result.refused} of {count} requests were refused: {result.first_refusal!r}")
    cpu = (servers.cpu_seconds(pid) - before) * 1000 / count
    return Run(result.rate, result.percentile(0.5), result.percentile(0.99), cpu)


def middle(runs: Iterable[Run]) -> Run:
    """The median of each figure."""
    columns = zip(*(astuple(run) for run in runs), strict=True)
    return Run(*map(statistics.median, columns))


def main() -> None:
    """Measure in rounds, each stack in each, so that what else the machine does meets all of them; print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2, help="length of one run")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each stack and concurrency; medians are shown")
    parser.add_argument("--memory", type=int, default=100_000, help="requests before memory is looked at; 0: skip")
    options = parser.parse_args()
    runs: dict[tuple[str, int], list[Run]] = {(stack, c): [] for stack in STACKS for c in CONCURRENCY}
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, body {len(BODY)} bytes")
    with contextlib.ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        broker = opened.enter_context(EmbeddedBroker(folder / "broker", append_only=True))
        environment = {"BENCH_STATE": str(folder), "BENCH_REDIS": broker.url, "BENCH_SECRET": SECRET}
        started = {
            stack: opened.enter_context(servers.running(stack, folder, environment, HTTP.get(stack, "httptools")))
            for stack in STACKS
        }
        for number in range(options.rounds):
            for concurrency in CONCURRENCY:
                for stack, (port, pid) in started.items():
                    name = f"{stack}-{concurrency}-{number}"
                    runs[stack, concurrency].append(measure(stack, port, pid, concurrency, options.seconds, name))
        table = {place: middle(found) for place, found in runs.items()}
        print_table(table)
        if options.memory:
            port, pid = started["postroom"]
            load.run(port, signed_requests("memory"), 64, options.memory)
            print(f"postroom's memory after {options.memory} more: {servers.memory_mb(pid):.0f} MB")
    print(f"load generator: {resource.getrusage(resource.RUSAGE_SELF).ru_utime:.0f} s of CPU")


def print_table(table: Mapping[tuple[str, int], Run]) -> None:
    """The figures, and what the issue asks for."""
    print(f"{'stack':<10}{'c':>4}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>9}")
    for (stack, concurrency), row in table.items():
        print(f"{stack:<10}{concurrency:>4}{row.rate:>9.0f}{row.p50:>9.2f}{row.p99:>9.2f}{row.cpu_ms:>9.3f}")
    mine, theirs, ceiling = (table[stack, 16] for stack in ("postroom", "tutorial", "bare"))
    times, part = mine.rate / theirs.rate, ceiling.rate / mine.rate
    print(f"c=16: {times:.1f} times the tutorial stack, 1/{part:.1f} of bare uvicorn", flush=True)


if __name__ == "__main__":
    main()
