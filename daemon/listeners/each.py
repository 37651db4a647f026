"""One thread for each mailbox or folder that is watched."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping


def run_each(loops: Mapping[str, Callable[[], None]], stop: threading.Event) -> None:
    """Run each loop in a thread called by its name until `stop` is set. Without any, wait for `stop` all the same."""
    threads = [threading.Thread(target=loop, name=name, daemon=True) for name, loop in loops.items()]
    for thread in threads:
        thread.start()
    stop.wait()
    for thread in threads:
        thread.join()
