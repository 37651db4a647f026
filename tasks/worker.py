"""The process that consumes the queues: Celery's threads pool around `pipeline.run`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from celery import Celery
from celery.exceptions import Ignore, SecurityWarning
from celery.signals import worker_ready

from config.settings import Settings
from tasks import log
from tasks.app import make_app, name_of
from tasks.errors import Unavailable
from tasks.pipeline import STAGES, Step, run
from tasks.workshop import Workshop


def run_worker(settings: Settings, queues: Sequence[str], concurrency: int, ready: Callable[[], None]) -> int:
    """Consume `queues` with `concurrency` threads until told to stop; the exit status."""
    # as root in a container is an admin's choice; Celery's page-long warning about it belongs in no journal
    warnings.filterwarnings("ignore", category=SecurityWarning)
    shop = Workshop.open(settings)
    app = make_app(settings)
    for step in STAGES:
        _register(app, shop, step)
    announce = worker_ready.connect(lambda **_: ready(), weak=False)
    try:
        worker = app.Worker(
            pool="threads",
            concurrency=concurrency,
            queues=list(queues),
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            loglevel="WARNING",
            quiet=True,
        )
        worker.start()
        return int(worker.exitcode or 0)
    finally:
        worker_ready.disconnect(announce)
        shop.close()


def _register(app: Celery, shop: Workshop, step: Step) -> None:
    def task(job_id: str) -> None:
        try:
            goes_on = run(shop, job_id, step)
        except Unavailable as error:  # the ledger: the rescue finds the job when it is back
            log.ledger_down(job_id, step.stage, error.reason)
            goes_on = False
        if not goes_on:
            raise Ignore  # ends the chain without a failure; what comes next stands in the ledger

    app.task(name=name_of(step.stage), typing=False)(task)
