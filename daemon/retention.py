"""`postroom retention`: remove what [retention] says is old enough. `postroom rescue` does the same, a step at a time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Annotated

import structlog
import typer

from config.settings import Settings
from daemon.console import ledger_of, settings_of
from tasks.ledger import Ledger
from tasks.retention import KEY_DAYS, Removed, preview, sweep
from tasks.stores import open_store

commands = typer.Typer(rich_markup_mode=None)
_log = structlog.get_logger("postroom.retention")


@commands.command(rich_help_panel="Actions")
def retention(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove ended jobs that are older than [retention] says, and what no job needs any more."""
    settings = settings_of(context)
    with ledger_of(context) as ledger:
        blobs = open_store(settings)
        run = preview if dry_run else sweep
        _tell(settings, run(ledger, blobs, settings.retention), "would be removed" if dry_run else "removed")


def _tell(settings: Settings, steps: Iterable[Removed], what: str) -> None:
    jobs: Counter[str] = Counter()
    texts = blobs = size = 0
    for step in steps:
        if step.state:
            jobs[step.state] += step.jobs
        texts, blobs, size = texts + step.readings, blobs + step.blobs, size + step.bytes
    for state, days in settings.retention.days().items():
        print(f"{jobs[state]} {state} jobs that ended {days:g} days ago or earlier {what}")
    if not settings.retention.days():
        print("[retention] keeps every job for ever")
    elif min(settings.retention.days().values()) < KEY_DAYS:
        print(f"jobs of webhooks and of the API are kept {KEY_DAYS} days at least, for their idempotency keys")
    print(f"{texts} texts of documents that no job has {what}")
    print(f"{blobs} stored messages that no job needs {what} ({size} bytes)")


class SlowTick:
    """One small step of the sweep at each look of the rescue, so that it never keeps the rescue from its work."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._steps: Iterator[Removed] = iter(())
        self._next = time.monotonic() + settings.retention.every

    def step(self) -> Removed | None:
        """Take a step when one is due; what it removed. Raises Unavailable; then the sweep begins anew when due."""
        removed = next(self._steps, None)
        if removed and (removed.jobs or removed.readings or removed.blobs):
            _log.info("removed", **asdict(removed))
        if removed is None and self._settings.retention.days() and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._settings.retention.every
            self._steps = sweep(self._ledger, open_store(self._settings), self._settings.retention)
        return removed
