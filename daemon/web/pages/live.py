"""What is under way now, as it goes on: one look at the ledger a second for all who watch, sent as server-sent events.

Each event tells everything that is shown, so that a client that was away has missed nothing; one that is there gets each.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

from starlette.responses import Response, StreamingResponse

from daemon.web.pages.ask import PREFIX, Ask, Stop
from daemon.web.pages.frame import in_words
from daemon.web.pages.site import Site
from daemon.web.stream import HEADERS, HEARTBEAT, MEDIA_TYPE, progress_of
from tasks.errors import Unavailable
from tasks.ledger import Ledger
from tasks.models import Job

SHOWN = 40
MAX_WATCHING = 300
"""Streams at once, per process."""
EVERY = 1.0
LONGEST = 900.0
"""Seconds after which a stream ends; the browser comes again, and whether it may look is asked again."""
KEPT = 30
"""Events that are kept for clients that are slower than the ledger."""
_RECONNECT_MS = 2000


def install(site: Site, ledger: Ledger, stop: threading.Event) -> None:
    """The routes."""
    hub = Hub(ledger, stop)

    def shown(ask: Ask) -> Response:
        return site.frame.page(ask, "live", jobs=[row_of(job) for job in ledger.backlog.running(SHOWN)])

    def events(_ask: Ask) -> Response:
        if hub.watching >= MAX_WATCHING:
            said = f"{MAX_WATCHING} browsers are watching already."
            raise Stop(HTTPStatus.SERVICE_UNAVAILABLE, "Too many are watching", said, {"Retry-After": "5"})
        return StreamingResponse(hub.frames(), media_type=MEDIA_TYPE, headers=HEADERS)

    site.get("/live", shown)
    site.get("/live/events", events)


def row_of(job: Job) -> dict[str, Any]:
    """What is shown of a job."""
    told = progress_of(job)
    return {
        "id": job.id,
        "href": f"{PREFIX}/jobs/{job.id}",
        "title": job.subject or job.name or f"{job.kind.value} from {job.source}",
        "state": job.state.value,
        "words": in_words(job.state.value),
        "phase": told["phase"],
        "tokens": told["tokens"],
        "percent": told["percent"],
        "tail": str(job.progress.get("tail", "")),
        "reason": job.reason,
    }


class Hub:
    """Looks while anybody watches, and wakes all who do."""

    def __init__(self, ledger: Ledger, stop: threading.Event) -> None:
        self._ledger = ledger
        self._stop = stop
        self._frames: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._version = 0
        self._woken: asyncio.Event | None = None
        self._looking: asyncio.Task[None] | None = None
        self.watching = 0

    async def frames(self) -> AsyncIterator[bytes]:
        """The stream for one client."""
        self.watching += 1
        try:
            if self._looking is None or self._looking.done():
                self._woken = asyncio.Event()
                self._looking = asyncio.create_task(self._look())
            yield b"retry: %d\n\n" % _RECONNECT_MS
            async for frame in self._follow():
                yield frame
        finally:
            self.watching -= 1

    async def _follow(self) -> AsyncIterator[bytes]:
        seen, until = 0, time.monotonic() + LONGEST
        while not self._stop.is_set() and time.monotonic() < until:
            if self._version != seen:
                # all that came since; one who begins, or was behind for long, gets the newest, which tells everything
                due = [one for one in self._frames if one[0] > seen] if seen else [self._frames[-1]]
                seen = due[-1][0]
                for _, frame in due:
                    yield frame
                continue
            assert self._woken
            try:
                await asyncio.wait_for(self._woken.wait(), HEARTBEAT)
            except TimeoutError:
                yield b": still here\n\n"

    async def _look(self) -> None:
        told = b""
        while self.watching and not self._stop.is_set():
            try:
                found = await asyncio.to_thread(self._ledger.backlog.running, SHOWN)
                data = json.dumps({"jobs": [row_of(job) for job in found]}, ensure_ascii=False).encode()
            except Unavailable:
                data = told  # what was known last stays on the page
            if data != told:
                told = data
                self._version += 1
                self._frames.append((self._version, b"id: %d\nevent: jobs\ndata: %s\n\n" % (self._version, data)))
            self._wake()
            await asyncio.sleep(EVERY)
        self._wake()

    def _wake(self) -> None:
        """Whoever waits looks at the version, and for the end."""
        assert self._woken
        self._woken.set()
        self._woken = asyncio.Event()
