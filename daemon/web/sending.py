"""GET /endpoints and POST /deliveries/redeliver: how the ways out do, and sending many again."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, Response

from config.settings import Settings
from daemon.endpoints import states
from daemon.listeners.webhook_limits import read_body
from daemon.listeners.webhook_problems import Refused, bad_parameters
from daemon.redelivery import Which, report, wanted
from daemon.web import openapi
from daemon.web.auth import Guard
from tasks.errors import Permanent
from tasks.ledger import Ledger, Scope

MAX_BODY = 16_384
"""Bytes of a request; the longest that makes sense has some hundred."""
BODY_SECONDS = 30.0
WHY = "a program asked for a redelivery"

_PLAIN = r"^[^\x00]*$"  # no database takes a NUL in a text


class Redeliver(BaseModel):
    """What shall be sent again."""

    model_config = ConfigDict(extra="forbid")
    endpoint: str = Field("", max_length=200, pattern=_PLAIN, description="All that went to this [endpoint.NAME]; or")
    to: str = Field("", max_length=320, pattern=_PLAIN, description="all that went to this mail address.")
    since: str = Field("", max_length=40, description="Failed or sent since: ISO 8601, or `3d`, `12h` ago.")
    until: str = Field("", max_length=40, description="Failed or sent until then.")
    state: Which | None = Field(None, description="Default: failed; all with `resend`.")
    resend: bool = Field(False, description="Send again what was sent already.")
    limit: int | None = Field(None, ge=1, le=1_000_000, description="Deliveries at most, oldest first.")
    dry_run: bool = Field(False, description="Tell what would be sent, and change nothing.")


def router(settings: Settings, ledger: Ledger, guard: Guard) -> APIRouter:
    """The routes. Looking needs the scope read, sending again admin."""
    routes = APIRouter(tags=["sending"])

    @routes.get("/endpoints", responses=openapi.READS, dependencies=[Depends(guard.needs(Scope.READ))])
    def endpoints() -> dict[str, Any]:
        """Each webhook endpoint: since when it fails, its last success, what waits for it and what failed."""
        return {"endpoints": states(ledger, settings)}

    @routes.post(
        "/deliveries/redeliver",
        responses=openapi.REDELIVERED,
        openapi_extra=openapi.body_of(Redeliver.model_json_schema()),
        dependencies=[Depends(guard.needs(Scope.ADMIN))],
    )
    async def redeliver(request: Request) -> Response:
        """Send many again, the same bytes under the same keys; jobs that cannot be now are told and left."""
        body = await read_body(request.receive, request.headers, MAX_BODY, BODY_SECONDS)
        return JSONResponse(await asyncio.to_thread(_redelivered, settings, ledger, body))

    return routes


def _redelivered(settings: Settings, ledger: Ledger, body: bytes) -> dict[str, Any]:
    try:
        asked = Redeliver.model_validate_json(body)
        meant = wanted(ledger, settings, **asked.model_dump(exclude={"dry_run"}))
    except ValidationError as error:
        raise bad_parameters(error.errors()) from None
    except ValueError as error:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-parameter", str(error)) from None
    except Permanent as error:
        raise Refused(HTTPStatus.CONFLICT, "no-open-endpoint", error.reason) from None
    found = ledger.redeliveries.find(meant)
    told = found if asked.dry_run else ledger.redeliveries.again(found, WHY)
    return report(told, dry_run=asked.dry_run)
