"""What a job came to, for whoever asks for it or waits for it (`Prefer: wait=N`, RFC 7240 section 4.3)."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

from starlette.types import Scope as Connection

from tasks.errors import Unavailable
from tasks.ledger import Ledger
from tasks.models import Classification, Extracted, Job, Reply, Stage, State
from tasks.payload import Payload, payload_of

MAX_WAIT = 60.0
"""Seconds a program may ask to wait."""
MAX_WAITING = 100
"""Programs that may wait at once, per process; others get 202 as without `Prefer`."""

_WAIT = re.compile(r'(?:^|[,;\s])wait\s*=\s*"?([0-9]{1,6})', re.IGNORECASE)
_POLL_FIRST, _POLL_LAST = 0.05, 0.5

Finished = Callable[[str], "dict[str, Any] | None"]


def result_of(ledger: Ledger, job: Job, public_url: str) -> Payload | None:
    """The documented payload of a job that ended and has one; a job whose delivery failed has one too."""
    if job.state is not State.DONE and (job.state, job.stage) != (State.FAILED, Stage.DELIVER):
        return None
    answer = ledger.jobs.result(job.id, Stage.REPLY)
    if answer is None:
        return None
    mail = (ledger.jobs.result(job.id, Stage.EXTRACT) or {}).get("mail")
    seen = ledger.jobs.result(job.id, Stage.CLASSIFY)
    return payload_of(
        job,
        Extracted(mail=mail, documents=tuple(ledger.jobs.documents(job.id))),
        Classification(**seen) if seen else None,
        Reply(**answer),
        public_url,
    )


def finished_by(ledger: Ledger, public_url: str) -> Finished:
    """A function that tells a job's result as plain data, None while there is none. It blocks; it does not raise."""

    def finished(job_id: str) -> dict[str, Any] | None:
        try:
            job = ledger.jobs.get(job_id)
            payload = result_of(ledger, job, public_url) if job else None
        except Unavailable:  # the job is on disk and its caller is told so; a result can be asked for later
            return None
        return payload.model_dump(mode="json") if payload else None

    return finished


class Waiting:
    """The programs that wait for a result in this process."""

    def __init__(self, finished: Finished) -> None:
        self._finished = finished
        self._number = 0

    async def result(
        self, job_id: str, prefer: str, answer: dict[str, str], longest: float = MAX_WAIT
    ) -> dict[str, Any] | None:
        """The result when `prefer` asks to wait and it is there in time, in `longest` seconds at most.

        `answer` gets the header Preference-Applied.
        """
        asked = _WAIT.search(prefer) if prefer else None
        if not asked or self._number >= MAX_WAITING:
            return None
        seconds = min(float(asked[1]), longest)
        answer["Preference-Applied"] = f"wait={seconds:g}"
        self._number += 1
        try:
            return await self._within(job_id, seconds)
        finally:
            self._number -= 1

    async def _within(self, job_id: str, seconds: float) -> dict[str, Any] | None:
        end, pause = time.monotonic() + seconds, _POLL_FIRST
        while True:
            result = await asyncio.to_thread(self._finished, job_id)
            left = end - time.monotonic()
            if result is not None or left <= 0:
                return result
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, _POLL_LAST)


def own_url(public_url: str, connection: Connection) -> str:
    """`public_url`, else the address the request came to; never what the client claims. Empty on a Unix socket."""
    if public_url:
        return public_url.rstrip("/")
    host, port = connection.get("server") or ("", None)
    if port is None:
        return ""
    return f"{connection['scheme']}://{f'[{host}]' if ':' in host else host}:{port}"
