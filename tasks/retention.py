"""What may be forgotten: ended jobs by state and age, and texts and blobs that no job refers to any more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from config.engine import RetentionSettings
from tasks.clock import DAY_MS, HOUR_MS, now_ms
from tasks.ledger import Ledger, Rule
from tasks.models import State
from tasks.stores import Store

KEY_DAYS = 30
"""Jobs of the API stay at least this long, those of webhooks for their `keep_days`: until then a key may come again."""
GRACE_SECONDS = 86_400
"""A blob this young is never removed: its accept may not have written its row yet."""
READ_MS = HOUR_MS
"""A text this young is never removed: the job that it was read for may not have written its documents yet."""
BATCH = 500
FOLDERS = 256


@dataclass(frozen=True)
class Removed:
    """One step: so many jobs of a state, texts of documents, or blobs."""

    state: str = ""
    jobs: int = 0
    readings: int = 0
    blobs: int = 0
    bytes: int = 0


def rules(settings: RetentionSettings) -> list[Rule]:
    """What the settings mean at this moment."""
    now = now_ms()
    return [
        Rule(
            state=State(state),
            before=now - int(days * DAY_MS),
            api_before=now - int(max(days, KEY_DAYS) * DAY_MS),
            now=now,
        )
        for state, days in settings.days().items()
    ]


def preview(ledger: Ledger, blobs: Store, settings: RetentionSettings) -> list[Removed]:
    """What `sweep` would remove now. Texts and blobs of the jobs that would go are not counted: they go afterwards."""
    gone = [Removed(state=rule.state.value, jobs=ledger.archive.count(rule)) for rule in rules(settings)]
    unread = Removed(readings=ledger.readings.unneeded(now_ms() - READ_MS))
    before = time.time() - GRACE_SECONDS
    unused = [one for folder in range(FOLDERS) for one in _unused(ledger, blobs, folder, before)]
    return [*gone, unread, Removed(blobs=len(unused), bytes=sum(size for _, size in unused))]


def sweep(ledger: Ledger, blobs: Store, settings: RetentionSettings) -> Iterator[Removed]:
    """Remove it, in small steps: each is one transaction or one folder. Safe in several places at once."""
    for rule in rules(settings):
        while number := ledger.archive.remove(rule, BATCH):
            yield Removed(state=rule.state.value, jobs=number)
    while number := ledger.readings.forget(now_ms() - READ_MS, BATCH):
        yield Removed(readings=number)
    before = time.time() - GRACE_SECONDS
    for folder in range(FOLDERS):
        with blobs.sweeping() as may:
            if not may:
                return  # a backup is being made; the next sweep comes
            blobs.remove_parts(folder, before)
            gone = [size for digest, size in _unused(ledger, blobs, folder, before) if blobs.remove(digest, before)]
        yield Removed(blobs=len(gone), bytes=sum(gone))


def _unused(ledger: Ledger, blobs: Store, folder: int, before: float) -> list[tuple[str, int]]:
    old = blobs.old(folder, before)
    used: set[str] = set()
    for start in range(0, len(old), BATCH):
        used |= ledger.archive.referred_to([digest for digest, _ in old[start : start + BATCH]])
    return [(digest, size) for digest, size in old if digest not in used]
