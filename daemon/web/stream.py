"""A job's progress as server-sent events (WHATWG HTML section 9.2): no thread waits, the ledger is asked now and then."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from tasks.errors import Unavailable
from tasks.ledger import Ledger
from tasks.models import RESTING, Job, Stage

MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
MAX_STREAMS = 200
"""Streams at once, per process."""
HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that no proxy takes the connection for dead."""
PERCENT = {Stage.FETCH: 0, Stage.EXTRACT: 0, Stage.CLASSIFY: 25, Stage.REPLY: 50, Stage.DELIVER: 75}
"""How far a job has come when it stands before a stage."""
SPAN = 25
"""What a stage adds."""

_POLL_FIRST, _POLL_LAST, _POLL_GROWS = 0.2, 1.0, 1.2
_LAST_ID = re.compile(r"([0-9]{1,9})(\.end)?")
_RECONNECT_MS = 2000


def position_of(last_event_id: str) -> tuple[int, bool]:
    """How many steps a client has seen, and whether it has seen the end; (0, False) for what is no id of ours."""
    found = _LAST_ID.fullmatch(last_event_id.strip())
    return (int(found[1]), bool(found[2])) if found else (0, False)


def percent_of(job: Job) -> int:
    """How far the whole job has come: what its running stage tells of itself is a share of the stage's quarter."""
    if job.stage is None:
        return 100
    within = min(max(int(job.progress.get("percent", 0)), 0), 100)
    return PERCENT[job.stage] + (0 if job.stage is Stage.FETCH else within * SPAN // 100)


def progress_of(job: Job) -> dict[str, Any]:
    """What the `progress` event tells."""
    return {
        "state": job.state.value,
        "stage": job.stage.value if job.stage else None,
        "phase": str(job.progress.get("phase", "")),
        "tokens": int(job.progress.get("tokens", 0)),
        "percent": percent_of(job),
        "reason": job.reason,
        "due_at": job.due_at,
    }


class Stream:
    """One client that follows one job: events `step` (numbered), `progress` and, when the job rests, `end`."""

    def __init__(self, ledger: Ledger, job_id: str, seen: int, stop: threading.Event) -> None:
        self._ledger = ledger
        self._job_id = job_id
        self._seen = seen
        self._stop = stop
        self._mark: tuple[Any, ...] = ()
        self._told: dict[str, Any] = {}

    async def frames(self) -> AsyncIterator[bytes]:
        """The stream's bytes, until the job rests, the process stops or the ledger does not answer.

        In the last two cases the client connects again and goes on after the last step it saw.
        """
        yield b"retry: %d\n\n" % _RECONNECT_MS
        pause, spoke_at = _POLL_FIRST, time.monotonic()
        while not self._stop.is_set():
            try:
                found, ended = await asyncio.to_thread(self._look)
            except Unavailable:
                yield b": the ledger does not answer\n\n"
                return
            if found:
                yield found
                pause, spoke_at = _POLL_FIRST, time.monotonic()
            if ended:
                return
            silence = time.monotonic() - spoke_at
            if silence >= HEARTBEAT:
                yield b": still here\n\n"
                silence, spoke_at = 0.0, time.monotonic()
            await asyncio.sleep(min(pause, HEARTBEAT - silence))
            pause = min(pause * _POLL_GROWS, _POLL_LAST)

    def _look(self) -> tuple[bytes, bool]:
        """What is new, and whether that is all."""
        job = self._ledger.jobs.get(self._job_id)
        if job is None:
            return b"", True
        frames = b""
        mark = (job.updated_at, job.state, job.stage, job.lease_token)
        if mark != self._mark:
            self._mark = mark
            frames += self._steps()
        progress = progress_of(job)
        if progress != self._told:
            self._told = progress
            frames += _frame("progress", progress)
        if job.state in RESTING:
            end = {"job": job.id, "state": job.state.value, "label": job.label, "reason": job.reason}
            return frames + _frame("end", end, f"{self._seen}.end"), True
        return frames, False

    def _steps(self) -> bytes:
        events = self._ledger.jobs.events(self._job_id)
        new = [
            _frame("step", event.model_dump(), str(number))
            for number, event in enumerate(events, start=1)
            if number > self._seen
        ]
        self._seen = len(events)
        return b"".join(new)


def _frame(event: str, data: dict[str, Any], identity: str = "") -> bytes:
    """One event; JSON holds no line break, so one data line is enough."""
    lines = [f"id: {identity}"] if identity else []
    lines += [f"event: {event}", f"data: {json.dumps(data)}", "", ""]
    return "\n".join(lines).encode()
