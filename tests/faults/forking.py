"""A worker that is there again at once, its modules already loaded: hundreds of kills take minutes instead of hours.

    python -m tests.faults.forking [FAULT] --config postroom.toml worker

Each child is a whole `postroom worker`, with the fault of tests/faults/tampered.py when one is named.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from daemon.cli import main
from tests.faults.tampered import FAULTS


def run() -> None:
    """Start children one after the other until SIGTERM, which each child gets as well."""
    child, ended = 0, False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    fault = sys.argv.pop(1) if sys.argv[1] in FAULTS else ""
    while not ended:
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if fault:
                FAULTS[fault]("")
            main()
        os.waitpid(child, 0)


if __name__ == "__main__":
    run()
