"""`postroom worker` with four stages that do nothing; claims, leases, values, events and the queue are all real.

python -m benchmarks.stacks.stages --queues extract,model,deliver --concurrency 11
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from config.settings import load
from tasks import log
from tasks.heart import Held
from tasks.models import Job, Stage
from tasks.pipeline import STAGES, Done
from tasks.worker import run_worker
from tasks.workshop import Workshop


def nothing(_shop: Workshop, _job: Job, held: Held) -> Done:
    """The work of a stage, without the work; the last one ends the job, as it always does."""
    return Done(value={}, job={"state": "done"} if held.lease.stage is Stage.DELIVER else {})


def main() -> None:
    """Consume until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queues", required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    options = parser.parse_args()
    settings = load()
    log.configure(settings, "worker")
    steps = [replace(step, work=nothing) for step in STAGES]
    queues = options.queues.split(",")
    run_worker(settings, queues, options.concurrency, lambda: print("ready", flush=True), steps=steps)


if __name__ == "__main__":
    main()
