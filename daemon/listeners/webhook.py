"""Webhooks in: POST /hooks/<source>. Verified, bounded, and on disk before the sender is told 202.

The order is fixed: known source, allowed address, rate, size, signature over the raw bytes, key, then the one door in
(`intake`). What the body means is the extract stage's work; here it stays the bytes that came.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from config.settings import Settings
from daemon.listeners.webhook_limits import Gone, read_body
from daemon.listeners.webhook_openapi import OPERATION, RESPONSES
from daemon.listeners.webhook_problems import Refused, not_stored
from daemon.listeners.webhook_protocol import BODY_IS_HERE
from daemon.listeners.webhook_source import Source
from daemon.web.results import Finished, Waiting, own_url
from tasks.errors import Unavailable
from tasks.models import Envelope, Receipt
from tasks.signatures import Presented

PREFIX = "/hooks/"
_log = structlog.get_logger("postroom.webhook")


class Door(Protocol):
    """The part of `tasks.intake.Intake` that is needed here."""

    async def accept_async(self, envelope: Envelope, raw: bytes) -> Receipt:
        """Returns when message and job are on disk; raises Unavailable otherwise."""


class Hooks:
    """The ASGI application behind /hooks/<source>."""

    def __init__(self, settings: Settings, intake: Door, finished: Finished | None = None) -> None:
        self._intake = intake
        self._waiting = Waiting(finished) if finished else None
        self._sources = {name: Source(name, one, settings.web.max_body) for name, one in settings.webhook.items()}
        self._public_url = settings.web.public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: 2xx after the commit, else a problem. Raises nothing that a request can cause."""
        name = scope["path"].removeprefix(PREFIX)
        try:
            response = await self._take(name, scope, receive)
        except Refused as refused:
            _log.warning("webhook refused", source=name[:80], status=refused.status.value, problem=refused.code)
            response = refused.response()
        except Gone:
            return
        except Exception:  # a bug of ours: the sender tries again, and the traceback tells why
            _log.exception("webhook failed", source=name[:80])
            said = "something went wrong here; send it again"
            response = Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", said).response()
        await response(scope, receive, send)

    async def _take(self, name: str, scope: Scope, receive: Receive) -> Response:
        if scope["method"] != "POST":
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "not-post", "webhooks are posted", {"Allow": "POST"})
        source = self._sources.get(name)
        if source is None:
            raise Refused(HTTPStatus.NOT_FOUND, "unknown-source", "no webhook source of this name is configured")
        headers = _headers(scope)
        from_proxy = source.admit(scope.get("client"), headers)
        body = await read_body(
            receive, headers, source.limit, source.config.body_timeout, is_here=BODY_IS_HERE in scope
        )
        source.verify(Presented(headers, body, time.time(), from_proxy))
        if challenge := source.challenge(body):
            return PlainTextResponse(challenge)
        answer = source.count()
        try:
            receipt = await self._intake.accept_async(source.envelope(headers, body), body)
        except Unavailable as error:
            raise not_stored(error.retry_after) from error
        if receipt.conflict:
            said = "this idempotency key came before with another body"
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "key-reused", said, answer, job=receipt.job_id)
        answer["Location"] = f"{own_url(self._public_url, scope)}/jobs/{receipt.job_id}"
        prefer = headers.get("prefer")
        if prefer and self._waiting:
            longest = source.config.max_wait
            if result := await self._waiting.result(receipt.job_id, prefer, answer, longest):
                return JSONResponse(result, HTTPStatus.OK, answer)
        return _Taken(receipt, answer)


class _Taken(Response):
    """202 with the receipt as JSON; made without what is needed for answers of every kind."""

    def __init__(self, receipt: Receipt, headers: Mapping[str, str]) -> None:
        more = ', "duplicate": true' if receipt.duplicate else ""
        where = json.encoder.encode_basestring_ascii(headers["Location"])
        self.body = f'{{"job": "{receipt.job_id}", "status": {where}{more}}}'.encode()
        self.status_code = HTTPStatus.ACCEPTED.value
        self.background = None
        self.raw_headers = [
            (b"content-length", b"%d" % len(self.body)),
            (b"content-type", b"application/json"),
            *((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()),
        ]


class Shortcut:
    """Hands /hooks/ to `hooks` before the web application's layers, which would cost as much as the rest of it all."""

    def __init__(self, app: FastAPI, hooks: Hooks) -> None:
        self._app = app
        self._hooks = hooks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        mine = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        await (self._hooks if mine else self._app)(scope, receive, send)


def router(settings: Settings, intake: Door, finished: Finished | None = None) -> APIRouter:
    """POST /hooks/{source} for a web application. `finished` serves `Prefer: wait=N`; without it 202 comes first."""
    return _routes(Hooks(settings, intake, finished))


def install(app: FastAPI, settings: Settings, intake: Door, finished: Finished | None = None) -> ASGIApp:
    """`app` with POST /hooks/{source} in front of it; its own routes are only there for the OpenAPI document."""
    hooks = Hooks(settings, intake, finished)
    app.include_router(_routes(hooks))
    return Shortcut(app, hooks)


def _routes(hooks: Hooks) -> APIRouter:
    async def receive_webhook(request: Request) -> Response:
        return _Handover(hooks, request.receive)

    routes = APIRouter(route_class=_Direct, tags=["webhooks"])
    routes.add_api_route(
        PREFIX + "{source}",
        receive_webhook,
        methods=["POST"],
        status_code=HTTPStatus.ACCEPTED,
        summary="Take a webhook over",
        description="Verifies the sender by the source's scheme, stores the raw body and answers when it is on disk.",
        openapi_extra=OPERATION,
        responses=RESPONSES,
    )
    others = ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"]
    routes.add_api_route(PREFIX + "{source}", receive_webhook, methods=others, include_in_schema=False)
    return routes


class _Direct(APIRoute):
    """Hands the request to the endpoint as it is, body unread."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        return self.endpoint


class _Handover(Response):
    """A response that `hooks` gives."""

    def __init__(self, hooks: Hooks, receive: Receive) -> None:
        super().__init__()
        self._hooks = hooks
        self._receive = receive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._hooks(scope, self._receive, send)


def _headers(scope: Scope) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
