"""How fast webhooks are accepted: 2 KiB of JSON, signed, at 1, 16 and 64 requests in flight.

Compares in one run, on one process each: bare uvicorn that answers 202; the tutorial stack (FastAPI and `task.delay()`
on Redis); Postroom, which verifies, deduplicates and commits to disk before it answers.

    python -m benchmarks.accept [--seconds 5] [--memory 100000]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import load, servers
from daemon.embedded.broker import EmbeddedBroker
from tasks.signatures import sign_standard

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = json.dumps({"type": "order.created", "data": {"lines": ["x" * 61] * 31}}).encode().ljust(2048)
STACKS = ("bare", "tutorial", "postroom")
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


def measure(stack: str, port: int, pid: int, concurrency: int, seconds: float) -> dict[str, float]:
    """Warm up, then one run of about `seconds`."""
    warm = load.run(port, signed_requests(f"warm-{stack}-{concurrency}"), concurrency, 300)
    count = max(300, int(warm.rate * seconds))
    before = servers.cpu_seconds(pid)
    result = load.run(port, signed_requests(f"{stack}-{concurrency}"), concurrency, count)
    if result.refused:
        raise SystemExit(f"{stack}: {result.refused} of {count} requests were refused: {result.first_refusal!r}")
    return {
        "rate": result.rate,
        "p50": result.percentile(0.5),
        "p99": result.percentile(0.99),
        "cpu_ms": (servers.cpu_seconds(pid) - before) * 1000 / count,
    }


def main() -> None:
    """Measure and print a table, then what the issue asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="length of one run")
    parser.add_argument("--memory", type=int, default=100_000, help="requests before memory is looked at; 0: skip")
    options = parser.parse_args()
    table: dict[tuple[str, int], dict[str, float]] = {}
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, body {len(BODY)} bytes")
    print(f"{'stack':<10}{'c':>4}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>9}")
    with tempfile.TemporaryDirectory() as folder, EmbeddedBroker(Path(folder) / "broker", append_only=True) as broker:
        environment = {"BENCH_STATE": folder, "BENCH_REDIS": broker.url, "BENCH_SECRET": SECRET}
        for stack in STACKS:
            with servers.running(stack, Path(folder), environment, HTTP.get(stack, "httptools")) as (port, pid):
                for concurrency in (1, 16, 64):
                    row = table[stack, concurrency] = measure(stack, port, pid, concurrency, options.seconds)
                    print(
                        f"{stack:<10}{concurrency:>4}{row['rate']:>9.0f}{row['p50']:>9.2f}{row['p99']:>9.2f}"
                        f"{row['cpu_ms']:>9.3f}",
                        flush=True,
                    )
                if stack == "postroom" and options.memory:
                    load.run(port, signed_requests("memory"), 64, options.memory)
                    print(f"memory after {options.memory} more: {servers.memory_mb(pid):.0f} MB")
    mine, theirs, ceiling = (table[stack, 16] for stack in ("postroom", "tutorial", "bare"))
    times, part = mine["rate"] / theirs["rate"], ceiling["rate"] / mine["rate"]
    print(f"c=16: {times:.1f} times the tutorial stack, 1/{part:.1f} of bare uvicorn")
    print(f"load generator: {resource.getrusage(resource.RUSAGE_SELF).ru_utime:.0f} s of CPU")


if __name__ == "__main__":
    main()
