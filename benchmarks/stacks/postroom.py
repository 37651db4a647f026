"""Postroom's web application: verified, deduplicated and committed with synchronous=FULL before the 202."""

from __future__ import annotations

import os

from config.settings import Settings
from daemon.web.app import make_app
from tasks import log
from tasks.intake import Intake

settings = Settings.model_validate(
    {"state_dir": os.environ["BENCH_STATE"], "webhook": {"shop": {"secrets": [os.environ["BENCH_SECRET"]]}}}
)
log.configure(settings, "benchmark")
app = make_app(settings, Intake.open(settings))
