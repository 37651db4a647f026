"""What the ledger costs a job: four stages that do nothing, beside a bare Celery chain of four tasks that do nothing.

Both run on one Valkey, in rounds, in as many worker processes and threads, from the same queues. Postroom's jobs are on
disk before (synchronous=FULL); each stage claims its lease, counts its attempt, writes its value and its event, and moves
the job on. A round's tasks are published where no worker looks and then moved into the queue at once: the rate is from
there to the last end. Latencies are of jobs that come one by one, at a fifth of the bare chain's rate.

    python -m benchmarks.overhead [--rounds 5] [--jobs 2000] [--rows 1000,10000,100000,1000000] [--split] [--folder .]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from celery import Celery

from benchmarks import rows, servers
from benchmarks.stacks import chain
from config.settings import Settings
from daemon.embedded.broker import EmbeddedBroker
from tasks import log
from tasks.app import make_app, publish
from tasks.clock import now_ms
from tasks.intake import Intake
from tasks.models import Envelope, Kind, Stage

RAW = b"From: a@sender.example\r\nTo: b@post.example\r\nSubject: x\r\n\r\n" + b"x" * 2000
TOGETHER = (("extract,model,deliver", 11),)
"""Queues and threads of the workers: one for all, as `postroom worker` is."""
SPLIT = (("extract,deliver", 10), ("model", 1))
"""As `postroom up` starts them."""
PATIENCE = 120


@dataclass(frozen=True)
class Run:
    """One round of one side: jobs a second, and the workers' CPU milliseconds a job."""

    rate: float
    cpu_ms: float


class Bare:
    """The chain of Celery tasks."""

    module = "chain"
    database = 0

    def __init__(self, folder: Path, broker: str) -> None:
        self._tell = folder / "ends"
        self._tell.touch()
        self._last = 0
        self.options = ["--tell", str(self._tell)]
        self.environment = {"BENCH_REDIS": broker}

    def app(self, broker: str) -> Celery:
        return chain.make_app(broker)

    def prepare(self, number: int) -> list[str]:
        """Names of so many new jobs."""
        self._last += number
        return [str(one) for one in range(self._last - number, self._last)]

    def publish(self, app: Celery, name: str) -> None:
        chain.publish(app, int(name))

    def ends(self, names: Sequence[str]) -> dict[str, int]:
        """When those of `names` that have ended did so, in milliseconds."""
        ended = (line.split() for line in self._tell.read_text().splitlines())
        found = {number: int(at) for number, at in ended}
        return {name: found[name] for name in names if name in found}


class Postroom:
    """The pipeline over the ledger."""

    module = "stages"
    database = 1

    def __init__(self, folder: Path, broker: str) -> None:
        self.options: list[str] = []
        self.environment = {"POSTROOM_STATE_DIR": str(folder), "POSTROOM_BROKER_URL": broker}
        self.settings = Settings.model_validate({"state_dir": folder, "broker_url": broker, "log_level": "error"})
        log.configure(self.settings, "benchmark")
        self.intake = Intake.open(self.settings)
        self.file = folder / "ledger.db"
        self._last = 0

    def app(self, broker: str) -> Celery:
        return make_app(self.settings.model_copy(update={"broker_url": broker}))

    def prepare(self, number: int) -> list[str]:
        """Accept so many mails; their job ids."""
        self._last += number
        keys = range(self._last - number, self._last)

        async def accept() -> list[str]:
            told = [
                self.intake.accept_async(Envelope(source="smtp", kind=Kind.MAIL, key=str(key)), RAW) for key in keys
            ]
            return [receipt.job_id for receipt in await asyncio.gather(*told)]

        ids = asyncio.run(accept())
        self.intake.ledger.backlog.take(ids, enqueued_before=0)
        return ids

    def publish(self, app: Celery, name: str) -> None:
        publish(app, name, Stage.EXTRACT)

    def ends(self, names: Sequence[str]) -> dict[str, int]:
        """When those of `names` that have ended did so, in milliseconds; looked up at once, when all have."""
        if self.intake.ledger.backlog.waiting()[0]:
            return {}
        return rows.ends(self.file, names)


Side = Bare | Postroom


class Rig:
    """A side with its workers running."""

    def __init__(self, side: Side, broker: str, pids: Sequence[int]) -> None:
        self.side = side
        self._pids = pids
        aside = database_of(broker, 9)
        self._aside = redis.Redis.from_url(aside)
        self._app, self._app_aside = side.app(broker), side.app(aside)

    def burst(self, number: int) -> Run:
        """All at once."""
        names = self.side.prepare(number)
        for name in names:
            self.side.publish(self._app_aside, name)
        before, begun = self._cpu(), now_ms()
        self._aside.move("extract", self.side.database)
        last = max(self._wait(names).values())
        return Run(number * 1000 / (last - begun), (self._cpu() - before) * 1000 / number)

    def steady(self, number: int, rate: float) -> list[int]:
        """One by one; the sorted latencies in milliseconds."""
        names, start = self.side.prepare(number), time.monotonic()
        begun: dict[str, int] = {}
        for index, name in enumerate(names):
            time.sleep(max(0.0, start + index / rate - time.monotonic()))
            begun[name] = now_ms()
            self.side.publish(self._app, name)
        return sorted(at - begun[name] for name, at in self._wait(names).items())

    def _cpu(self) -> float:
        return sum(map(servers.cpu_seconds, self._pids))

    def _wait(self, names: Sequence[str]) -> Mapping[str, int]:
        deadline = time.monotonic() + PATIENCE
        while len(found := self.side.ends(names)) < len(names):
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.side.module}: only {len(found)} of {len(names)} jobs ended in {PATIENCE} s")
            time.sleep(0.05)
        return found


def database_of(broker: str, number: int) -> str:
    """The same Redis, another of its databases."""
    return f"{broker.rpartition('/')[0]}/{number}"


@contextlib.contextmanager
def running(side: Side, broker: str, workers: Sequence[tuple[str, int]], folder: Path) -> Iterator[Rig]:
    """Start the workers of `side`; they end with the block."""
    with contextlib.ExitStack() as opened:
        pids = []
        for queues, threads in workers:
            command = [sys.executable, "-m", f"benchmarks.stacks.{side.module}", "--queues", queues]
            command += ["--concurrency", str(threads), *side.options]
            out = opened.enter_context((folder / f"{side.module}.log").open("ab"))
            process: Any = subprocess.Popen(
                command, env={**os.environ, **side.environment}, stdout=subprocess.PIPE, stderr=out, cwd=servers.ROOT
            )
            opened.callback(_end, process)
            if process.stdout.readline() != b"ready\n":
                raise SystemExit(f"a worker did not start:\n{(folder / f'{side.module}.log').read_text()[-2000:]}")
            pids.append(process.pid)
        yield Rig(side, broker, pids)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)


def main() -> None:
    """Measure in rounds, each side in each, so that what else the machine does meets both; print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2000, help="jobs of one round")
    parser.add_argument(
        "--rows", default="1000,10000,100000,1000000", help="ended jobs in the ledger, one table row each"
    )
    parser.add_argument("--split", action="store_true", help="workers as `postroom up` starts them; else one for all")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the ledger lies while it is measured")
    options = parser.parse_args()
    with contextlib.ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(dir=options.folder)))
        broker = opened.enter_context(EmbeddedBroker(folder / "broker", append_only=True))
        workers = SPLIT if options.split else TOGETHER
        bare, ours = (
            opened.enter_context(
                running(kind(folder, url := database_of(broker.url, kind.database)), url, workers, folder)
            )
            for kind in (Bare, Postroom)
        )
        ledger = folder / "ledger.db"
        print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, fsync {fsync_ms(folder):.1f} ms")
        for rig in (bare, ours):
            rig.burst(options.jobs // 4)
        print(f"{'':>12}{'jobs/s':>18}{'':>7}{'CPU ms a job':>18}{'bare ms':>14}{'Postroom ms':>14}")
        print("  ended jobs     bare Postroom  ratio     bare Postroom    p50    p99    p50    p99")
        sizes, cost = [int(size) for size in options.rows.split(",")], []
        for size in sizes:
            rows.fill(ledger, size)
            cost.append(measure(size, bare, ours, options))
        print(
            f"a job's CPU time with {sizes[-1]} ended jobs in the ledger: {cost[-1] / cost[0]:.2f} of that with {sizes[0]}"
        )
        before = rows.size(ledger)
        ours.burst(options.jobs)
        each = (rows.size(ledger) - before) / options.jobs
        print(f"the ledger grows by {each:.0f} bytes a job, {len(RAW)} of them the message")


def measure(size: int, bare: Rig, ours: Rig, options: argparse.Namespace) -> float:
    """A line of the table; our CPU milliseconds a job."""
    runs = [(bare.burst(options.jobs), ours.burst(options.jobs)) for _ in range(options.rounds)]
    rate = [statistics.median(one[side].rate for one in runs) for side in (0, 1)]
    cpu = [statistics.median(one[side].cpu_ms for one in runs) for side in (0, 1)]
    ratio = statistics.median(mine.rate / theirs.rate for theirs, mine in runs)
    print(f"{size:>12}{rate[0]:>9.0f}{rate[1]:>9.0f}{ratio:>7.2f}{cpu[0]:>9.2f}{cpu[1]:>9.2f}", end="")
    for rig in (bare, ours):
        found = rig.steady(options.jobs // 4, rate[0] / 5)
        print(f"{found[len(found) // 2]:>7}{found[len(found) * 99 // 100]:>7}", end="")
    print(flush=True)
    return cpu[1]


def fsync_ms(folder: Path) -> float:
    """What a write with fsync takes here."""
    times = []
    with (folder / "probe").open("wb") as probe:
        for _ in range(50):
            begun = time.perf_counter()
            probe.write(bytes(4096))
            probe.flush()
            os.fdatasync(probe.fileno())
            times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


if __name__ == "__main__":
    main()
