"""What the processes have in common: settings, log, readiness, and an orderly end on SIGTERM or SIGINT."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from config.settings import Settings
from daemon.notify import notify, tell_ready
from tasks import log
from tasks.app import make_app
from tasks.intake import Intake
from tasks.nudger import Nudger
from tasks.outages import Reporter


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set. Call it in the main thread."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


def ready(line: str) -> None:
    """Tell systemd (or `postroom up`) and the log that a part is truly at work: `smtp on 127.0.0.1:8025`."""
    log.ready(line)
    tell_ready(line)


@contextlib.contextmanager
def open_intake(settings: Settings) -> Iterator[Intake]:
    """The door in, with a nudger and a reporter of outages behind it; all are closed at the end."""
    intake = Intake.open(settings)
    nudger = Nudger(make_app(settings), intake.ledger)
    reporter = Reporter(settings, intake.ledger)  # a blob store that is away refuses large messages here
    reporter.start()
    intake.nudge = nudger
    try:
        yield intake
    finally:
        reporter.stop()
        nudger.close()
        intake.close()


def run_listener(settings: Settings, name: str, listener: Callable[[Settings, Intake, threading.Event], None]) -> None:
    """Run a listener until it is told to stop."""
    stop = stop_on_signals()
    with open_intake(settings) as intake:
        listener(settings, intake, stop)
    notify("STOPPING=1")
    log.stopped(name)
