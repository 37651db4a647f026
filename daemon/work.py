"""`postroom worker` as a process: readiness, watchdog, reload, and an end that hands back what takes too long."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.notify import notify, watchdog_every
from daemon.process import Process
from tasks.worker import run_worker


def run(process: Process, queues: Sequence[str], concurrency: int) -> int:
    """Consume `queues` with `concurrency` threads (0: as [worker] says) until told to stop; the exit status."""
    settings = process.settings
    number = concurrency or sum(getattr(settings.worker, f"{name.partition('.')[0]}_concurrency") for name in queues)
    told = f"worker for {', '.join(queues)}, {number} at once"

    def ready() -> None:
        process.reloads.listen()  # here, since Celery has set its own handler of SIGHUP by now: it starts itself anew
        process.ready(told)

    process.status.start()
    return run_worker(
        settings,
        queues,
        number,
        ready,
        process.alive,
        stopping=lambda: notify("STOPPING=1", "STATUS=ending what is in hand"),
        on_reload=process.reloads.on,
        canary=watchdog_every(2 * settings.worker.canary) / 2,
    )
