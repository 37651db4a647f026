"""Health and jobs as JSON."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response

from config.settings import Settings
from tasks.app import BROKER_ERRORS, make_app, ping
from tasks.blobs import Blobs
from tasks.errors import Permanent, Unavailable
from tasks.intake import raw_of
from tasks.ledger import Ledger
from tasks.models import State
from tasks.story import story, summary


def router(settings: Settings, ledger: Ledger) -> APIRouter:
    """The routes, over `ledger`."""
    api = APIRouter()
    app = make_app(settings)
    blobs = Blobs(settings.blobs_dir)

    @api.get("/healthz", tags=["health"])
    def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @api.get("/readyz", tags=["health"])
    def readyz(response: Response) -> dict[str, Any]:
        """Messages can be accepted: the ledger answers. The broker is told, but being without it refuses nothing."""
        parts = {"ledger": "ok", "broker": "ok"}
        try:
            number, oldest = ledger.backlog.waiting()
        except Unavailable as error:
            response.status_code = 503
            return {"status": "unavailable", "parts": parts | {"ledger": error.reason}}
        try:
            ping(app)
        except BROKER_ERRORS as error:
            parts["broker"] = f"unavailable, jobs wait in the ledger: {error}"
        return {"status": "ok", "parts": parts, "open_jobs": number, "oldest_received_at": oldest}

    @api.get("/jobs", tags=["jobs"])
    def jobs(
        state: Annotated[list[State] | None, Query(description="Only these states.")] = None,
        source: Annotated[str, Query(description="Only this way in.", max_length=200)] = "",
        label: Annotated[str, Query(description="Only this label.", max_length=40)] = "",
        search: Annotated[str, Query(description="In subject, sender or Message-ID.", max_length=200)] = "",
        before: Annotated[str, Query(description="Id of the last job seen, for the next page.", max_length=26)] = "",
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> dict[str, Any]:
        """Jobs, newest first."""
        found = ledger.jobs.page(
            states=state or [], source=source, label=label, search=search, before=before, limit=limit
        )
        return {"jobs": [summary(job) for job in found], "counts": ledger.jobs.counts()}

    @api.get("/jobs/{job_id}", tags=["jobs"])
    def job(job_id: str) -> dict[str, Any]:
        """One job's whole story."""
        found = ledger.jobs.get(job_id)
        if found is None:
            raise HTTPException(404, f"no job {job_id}")
        return story(ledger, found)

    @api.get("/jobs/{job_id}/raw", tags=["jobs"], response_class=Response)
    def raw(job_id: str) -> Response:
        """The raw message, byte for byte, as a download."""
        found = ledger.jobs.get(job_id)
        if found is None:
            raise HTTPException(404, f"no job {job_id}")
        try:
            data = raw_of(ledger, blobs, found.id, found.raw_sha256)
        except Permanent as error:
            raise HTTPException(410, error.reason) from None
        headers = {"Content-Disposition": f'attachment; filename="{found.id}"', "X-Content-Type-Options": "nosniff"}
        return Response(data, media_type="application/octet-stream", headers=headers)

    return api
