"""Postroom as `postroom web` runs it: verified, deduplicated, committed with synchronous=FULL before the 202, nudged."""

from __future__ import annotations

import os

from config.settings import Settings
from daemon.web.app import make_app
from tasks import log
from tasks.app import make_app as make_celery
from tasks.intake import Intake
from tasks.nudger import Nudger

settings = Settings.model_validate(
    {
        "state_dir": os.environ["BENCH_STATE"],
        "broker_url": os.environ["BENCH_REDIS"],
        "webhook": {"shop": {"secrets": [os.environ["BENCH_SECRET"]]}},
    }
)
log.configure(settings, "benchmark")
intake = Intake.open(settings)
intake.nudge = Nudger(make_celery(settings), intake.ledger)
app = make_app(settings, intake)
