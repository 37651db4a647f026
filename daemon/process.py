"""What the processes have in common: readiness, status, reload on SIGHUP, and an orderly end on SIGTERM or SIGINT."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from config.settings import Settings
from daemon.notify import notify, tell_part, tell_ready
from daemon.reload import Reloads
from daemon.status import Status
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
        notify("STOPPING=1", "STATUS=stopping")

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


class Process:
    """What one process tells systemd, and what it is told: its settings as they change, and when to stop."""

    def __init__(self, settings: Settings, read: Callable[[], Settings], queues: Sequence[str] = ()) -> None:
        """`read` gives the settings anew for a reload; `queues` are a worker's. Call it in the main thread."""
        self.reloads = Reloads(settings, read)
        self.status = Status(lambda: self.reloads.settings, queues)
        self._lines: dict[str, None] = {}
        self.status.doing = lambda: ", ".join(self._lines)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.reloads.settings

    def begin(self) -> None:
        """Take SIGHUP, and tell how it is from now on."""
        self.reloads.listen()
        self.status.start()

    def ready(self, line: str) -> None:
        """The process is truly at work: `smtp on 127.0.0.1:8025`."""
        self._lines[line] = None
        ready(line)

    def part(self, line: str) -> None:
        """One of its parts is; READY follows when all of them are."""
        log.ready(line)
        tell_part(line)

    def alive(self) -> None:
        """Feed the watchdog of the unit: something was truly done."""
        notify("WATCHDOG=1")

    def turns(self, stop: threading.Event, run: Callable[[Settings, threading.Event], None]) -> None:
        """Run until `stop`, and once more with the new settings after each reload: for what holds no clients."""
        turn, current = threading.Event(), self.settings

        def again(settings: Settings) -> None:
            nonlocal current
            current = settings
            turn.set()

        def end() -> None:
            stop.wait()
            turn.set()

        threading.Thread(target=end, name="stop", daemon=True).start()
        self.reloads.on(again)
        while not stop.is_set():
            run(current, turn)
            turn.clear()


def run_listener(process: Process, name: str, listener: Callable[[Intake, threading.Event], None]) -> None:
    """Run a listener until it is told to stop."""
    stop = stop_on_signals()
    process.begin()
    with open_intake(process.settings) as intake:
        listener(intake, stop)
        process.status.stop()
    log.stopped(name)
