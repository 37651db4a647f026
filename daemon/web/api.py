"""Health and jobs as JSON, a job's progress as a stream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response
from starlette.responses import StreamingResponse

from config.settings import Settings
from daemon.listeners.webhook_problems import Refused
from daemon.web import openapi, stream
from daemon.web.auth import BEARER, Guard
from daemon.web.mailboxes import stale_folders
from daemon.web.results import result_of
from tasks.app import BROKER_ERRORS, make_app, ping
from tasks.clock import now_ms
from tasks.errors import Permanent, Unavailable
from tasks.ids import is_job_id
from tasks.intake import raw_of
from tasks.ledger import Ledger, Scope
from tasks.models import RESTING, TERMINAL, Job, State
from tasks.payload import Payload
from tasks.stores import open_store
from tasks.story import story, summary

_PLAIN = r"^[^\x00]*$"  # no database takes a NUL in a text


def health(settings: Settings, ledger: Ledger) -> APIRouter:
    """Whether the process answers, and whether messages can be accepted. Open to everybody."""
    routes = APIRouter(tags=["health"])
    app = make_app(settings)
    began = now_ms()

    @routes.get("/healthz")
    def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @routes.get("/readyz", responses={503: {"description": "The ledger takes nothing, or a mailbox is not read."}})
    def readyz(response: Response) -> dict[str, Any]:
        """Messages can be accepted: the ledger takes what is written and every mailbox is read. The broker is only told of."""
        parts = {"ledger": "ok", "broker": "ok"}
        try:
            ledger.database.check_writable()
            number, oldest = ledger.backlog.waiting()
            watched = ledger.imap_folders.all() if settings.imap else {}
        except Unavailable as error:
            response.status_code = 503
            return {"status": "unavailable", "parts": parts | {"ledger": error.reason}}
        try:
            ping(app)
        except BROKER_ERRORS as error:
            parts["broker"] = f"unavailable, jobs wait in the ledger: {error}"
        stale = stale_folders(settings.imap, watched, since=began, now=now_ms())
        if stale:
            response.status_code = 503
        status = "stale" if stale else "ok"
        return {"status": status, "parts": parts | stale, "open_jobs": number, "oldest_received_at": oldest}

    return routes


def router(settings: Settings, ledger: Ledger, guard: Guard, stop: threading.Event) -> APIRouter:
    """The routes that read jobs. Streams end when `stop` is set."""
    routes = APIRouter(tags=["jobs"], dependencies=[Depends(BEARER), Depends(guard.needs(Scope.READ))])
    blobs = open_store(settings)
    streams = _Streams(ledger, stop)

    @routes.get("/jobs", responses=openapi.READS)
    def jobs(
        state: Annotated[list[State] | None, Query(description="Only these states.")] = None,
        source: Annotated[str, Query(description="Only this way in.", max_length=200, pattern=_PLAIN)] = "",
        label: Annotated[str, Query(description="Only this label.", max_length=40, pattern=_PLAIN)] = "",
        search: Annotated[
            str, Query(description="In subject, sender or Message-ID.", max_length=200, pattern=_PLAIN)
        ] = "",
        before: Annotated[
            str, Query(description="Id of the last job seen, for the next page.", max_length=26, pattern=_PLAIN)
        ] = "",
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> dict[str, Any]:
        """Jobs, newest first."""
        found = ledger.jobs.page(
            states=state or [], source=source, label=label, search=search, before=before, limit=limit
        )
        return {"jobs": [summary(job) for job in found], "counts": ledger.jobs.counts()}

    @routes.get("/jobs/{job_id}", responses=openapi.READS_ONE)
    def job(job_id: str) -> dict[str, Any]:
        """One job's whole story."""
        return story(ledger, _found(ledger, job_id))

    @routes.get(
        "/jobs/{job_id}/raw",
        response_class=Response,
        responses={**openapi.READS_ONE, **openapi.problems(410), 200: {"content": {"application/octet-stream": {}}}},
    )
    def raw(job_id: str) -> Response:
        """The raw message, byte for byte, as a download."""
        found = _found(ledger, job_id)
        try:
            data = raw_of(ledger, blobs, found.id, found.raw_sha256)
        except Permanent as error:
            raise Refused(HTTPStatus.GONE, "raw-gone", error.reason) from None
        headers = {"Content-Disposition": f'attachment; filename="{found.id}"', "X-Content-Type-Options": "nosniff"}
        return Response(data, media_type="application/octet-stream", headers=headers)

    @routes.get("/jobs/{job_id}/result", responses=openapi.RESULT)
    def result(job_id: str) -> Payload:
        """What a job came to, as webhooks tell it. 409 until it has ended; 404 when it ended without a result."""
        found = _found(ledger, job_id)
        if payload := result_of(ledger, found, settings.web.public_url):
            return payload
        told: dict[str, Any] = {"job": found.id, "state": found.state.value, "reason": found.reason}
        if found.state in TERMINAL:
            said = f"the job is {found.state.value} and has no result"
            raise Refused(HTTPStatus.NOT_FOUND, "no-result", said, **told)
        said = f"the job has not ended, it is {found.state.value}"
        raise Refused(HTTPStatus.CONFLICT, "not-ended", said, **told)

    @routes.get("/jobs/{job_id}/events", response_class=Response, responses=openapi.STREAMED)
    async def events(job_id: str, last_event_id: Annotated[str, Header(max_length=40)] = "") -> Response:
        """Follow a job: stage, state, tokens and percent as they change, until it rests."""
        return await streams.follow(job_id, last_event_id)

    return routes


class _Streams:
    """The streams that are open in this process."""

    def __init__(self, ledger: Ledger, stop: threading.Event) -> None:
        self._ledger = ledger
        self._stop = stop
        self._open = 0

    async def follow(self, job_id: str, last_event_id: str) -> Response:
        job = await asyncio.to_thread(_found, self._ledger, job_id)
        seen, ended = stream.position_of(last_event_id)
        if ended and await asyncio.to_thread(self._nothing_more, job, seen):
            return Response(status_code=HTTPStatus.NO_CONTENT)  # tells an EventSource not to come again
        if self._open >= stream.MAX_STREAMS:
            said = f"{stream.MAX_STREAMS} streams are open already"
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too-many-streams", said, {"Retry-After": "5"})
        frames = self._counted(stream.Stream(self._ledger, job.id, seen, self._stop))
        return StreamingResponse(frames, media_type=stream.MEDIA_TYPE, headers=stream.HEADERS)

    def _nothing_more(self, job: Job, seen: int) -> bool:
        return job.state in RESTING and len(self._ledger.jobs.events(job.id)) == seen

    async def _counted(self, following: stream.Stream) -> AsyncIterator[bytes]:
        self._open += 1
        try:
            async for frame in following.frames():
                yield frame
        finally:
            self._open -= 1


def _found(ledger: Ledger, job_id: str) -> Job:
    found = ledger.jobs.get(job_id) if is_job_id(job_id) else None
    if found is None:
        raise Refused(HTTPStatus.NOT_FOUND, "no-job", "there is no job with this id")
    return found
