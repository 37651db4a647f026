"""A bare Celery worker: a chain of four no-op tasks, on the queues that Postroom's four stages have.

Celery's own defaults (acknowledged at once, four messages ahead), without results. The last task of a chain tells when.

    python -m benchmarks.stacks.chain --queues extract,model,deliver --concurrency 11 --tell FILE
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from celery import Celery
from celery import chain as canvas
from celery.signals import worker_ready

from tasks.app import QUEUE_OF
from tasks.models import Stage

STAGES = [stage for stage in Stage if stage is not Stage.FETCH]


def make_app(broker: str) -> Celery:
    """The app, without tasks: a publisher needs none."""
    app = Celery("chain", broker=broker)
    app.conf.update(
        task_ignore_result=True,
        task_routes={name_of(stage): {"queue": QUEUE_OF[stage]} for stage in STAGES},
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
    )
    return app


def name_of(stage: Stage) -> str:
    """The no-op in a stage's place."""
    return f"chain.{stage.value}"


def publish(app: Celery, number: int) -> None:
    """Hand the chain of all four to the broker."""
    canvas(*(app.signature(name_of(stage), args=(number,), immutable=True) for stage in STAGES)).apply_async()


def main() -> None:
    """Consume until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queues", required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument(
        "--tell", required=True, help="file to which `NUMBER MILLISECONDS` is appended at a chain's end"
    )
    options = parser.parse_args()
    app = make_app(os.environ["BENCH_REDIS"])
    out = os.open(options.tell, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def nothing(_number: int) -> None:
        pass

    def last(number: int) -> None:
        os.write(out, b"%d %d\n" % (number, time.time_ns() // 1_000_000))

    for stage in STAGES:
        app.task(name=name_of(stage), typing=False)(last if stage is STAGES[-1] else nothing)

    def ready(**_: Any) -> None:
        print("ready", flush=True)

    worker_ready.connect(ready, weak=False)
    worker: Any = app.Worker(
        pool="threads",
        concurrency=options.concurrency,
        queues=options.queues.split(","),
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="WARNING",
        quiet=True,
    )
    worker.start()


if __name__ == "__main__":
    main()
