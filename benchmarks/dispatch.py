"""How fast webhooks are delivered, alone and beside endpoints that are sick.

5,000 deliveries go to 18 healthy endpoints of a local sink, by as many threads as a worker has. The second run adds
deliveries for two endpoints that always answer 500 (10% of all) and one that never answers; they are mixed in evenly
and are tried again on the schedule that the ledger would keep. The healthy ones should not notice.

    python -m benchmarks.dispatch [--deliveries 5000] [--threads 4]
"""

from __future__ import annotations

import argparse
import collections
import heapq
import os
import queue
import random
import socket
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import servers
from config.settings import Settings
from tasks.errors import Transient, Unavailable
from tasks.models import Delivery
from tasks.schedules import next_attempt
from tasks.transports import webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HEALTHY, FAILING = 18, 2
BODY = b'{"type":"job.processed","data":"' + b"x" * 1000 + b'"}'


class Later:
    """What is due later, as the ledger keeps it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: list[tuple[float, int, Delivery, int]] = []
        self._rng = random.Random(1)

    def put(self, delivery: Delivery, number: int, error: Transient) -> None:
        """After a failed attempt: a pause costs none, a failure follows the schedule."""
        if isinstance(error, Unavailable):
            wait: float | None = max(10, error.retry_after or 0) * self._rng.uniform(0.8, 1.2)
        else:
            wait = next_attempt("webhook", number, error.retry_after, self._rng)
        if wait is not None:
            with self._lock:
                heapq.heappush(self._due, (time.monotonic() + wait, id(delivery), delivery, number))

    def take(self) -> tuple[Delivery, int] | None:
        """One that is due."""
        with self._lock:
            if self._due and self._due[0][0] <= time.monotonic():
                _, _, delivery, number = heapq.heappop(self._due)
                return delivery, number
        return None


def work(
    fresh: queue.SimpleQueue[Delivery],
    healthy: set[str],
    done: collections.deque[float],
    count: int,
    settings: Settings,
    later: Later,
) -> None:
    """One worker thread: what is due first, then what is new, until all healthy deliveries are made."""
    while len(done) < count:
        delivery, number = later.take() or (None, 0)
        if delivery is None:
            try:
                delivery = fresh.get(timeout=0.01)
            except queue.Empty:
                continue
        try:
            webhook.send(delivery, settings)
        except Transient as error:
            later.put(delivery, number if isinstance(error, Unavailable) else number + 1, error)
        else:
            if delivery.target in healthy:
                done.append(time.perf_counter())


def run(settings: Settings, targets: list[str], count: int, threads: int) -> float:
    """Healthy deliveries a second."""
    webhook.forget()
    healthy = {name for name in targets if name.startswith("ok")}
    fresh: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
    for number, target in enumerate(targets):
        fresh.put(Delivery(ordinal=0, transport="webhook", target=target, key=f"dlv-{number}", body=BODY))
    made: collections.deque[float] = collections.deque()
    later = Later()
    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for worker in [pool.submit(work, fresh, healthy, made, count, settings, later) for _ in range(threads)]:
            worker.result()
    return count / (max(made) - started)


def main() -> None:
    """Measure both, print the difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deliveries", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0)) as silent,
        servers.running("sink", Path(folder), {}) as (port, _),
    ):
        urls = {f"ok{n}": f"http://127.0.0.1:{port}/ok/{n}" for n in range(HEALTHY)}
        urls |= {f"fail{n}": f"http://127.0.0.1:{port}/fail/{n}" for n in range(FAILING)}
        urls["silent"] = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        common = {"allow_private": True, "secrets": [SECRET]}
        settings = Settings.model_validate({"endpoint": {name: {"url": url, **common} for name, url in urls.items()}})
        good = [f"ok{n % HEALTHY}" for n in range(options.deliveries)]
        per_endpoint = options.deliveries // HEALTHY
        sick = [name for name in urls if not name.startswith("ok") for _ in range(per_endpoint)]
        mixed = good + sick
        random.Random(7).shuffle(mixed)
        print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {options.threads} threads")
        run(settings, good[:300], 300, options.threads)
        alone = run(settings, good, options.deliveries, options.threads)
        print(f"healthy alone:             {alone:7.0f} deliveries/s")
        beside = run(settings, mixed, options.deliveries, options.threads)
        print(
            f"beside {len(sick):4} for the sick:  {beside:7.0f} deliveries/s to the healthy ({beside / alone - 1:+.0%})"
        )


if __name__ == "__main__":
    main()
