"""`postroom imap` as a process: begun anew after a reload, and its status in the words of `postroom check`."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from config.settings import Settings
from daemon import checks
from daemon.listeners import imap
from daemon.listeners.imap_watchdog import Pulse, summary
from daemon.process import Process
from tasks.intake import Intake


def serve(process: Process, intake: Intake, stop: threading.Event) -> None:
    """Watch until `stop` is set. Each turn is READY when every folder was tried once."""

    def turn(settings: Settings, end: threading.Event) -> None:
        def watching(pulses: Sequence[Pulse]) -> None:
            process.status.doing = lambda: summary(pulses)
            process.status.worries = lambda: _worries(settings, pulses)

        imap.run(settings, intake, end, ready=process.part, watching=watching)

    process.turns(stop, turn)


def _worries(settings: Settings, pulses: Sequence[Pulse]) -> Iterator[checks.Finding]:
    """A look at each account that is down; one that is well again by now is no worry."""
    for name in dict.fromkeys(pulse.name for pulse in pulses if pulse.down_since):
        yield checks.mailbox(settings, name)
