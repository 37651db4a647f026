"""Webhooks in: POST /hooks/<source>. Verified, bounded, and on disk before the sender is told 202.

The order is fixed: known source, allowed address, size, signature over the raw bytes, key, then the one door in
(`intake`). What the body means is the extract stage's work; here it stays the bytes that came.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

import structlog
from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from config.inbound import WebhookSource
from config.settings import Settings
from daemon.listeners.webhook_keys import KeyFinder, NoKey
from daemon.listeners.webhook_limits import Bucket, Gone, is_in, peer_of, read_body, sender_of
from daemon.listeners.webhook_openapi import OPERATION, RESPONSES
from daemon.listeners.webhook_problems import Refused
from tasks.errors import Unavailable
from tasks.models import Envelope, Kind, Receipt
from tasks.signatures import BadSignature, Presented, Verifier

_log = structlog.get_logger("postroom.webhook")
_WAIT = re.compile(r'(?:^|[,;\s])wait\s*=\s*"?([0-9]{1,6})', re.IGNORECASE)
_KEPT = ("user-agent", "x-request-id")
_MAX_KEPT = 200
_AUTHENTICATE = {"basic": 'Basic realm="hooks"', "bearer": "Bearer"}
_POLL_FIRST, _POLL_LAST = 0.05, 0.5

Finished = Callable[[str], "dict[str, Any] | None"]
"""Tells the documented payload of a job that has come to rest, None while it is on its trip. May block."""


class Door(Protocol):
    """The part of `tasks.intake.Intake` that is needed here."""

    async def accept_async(self, envelope: Envelope, raw: bytes) -> Receipt:
        """Returns when message and job are on disk; raises Unavailable otherwise."""


class Source:
    """One configured sender with everything that is made once."""

    def __init__(self, name: str, config: WebhookSource, default_limit: int) -> None:
        self.name = name
        self.config = config
        self.limit = config.max_body or default_limit
        self.verifier = Verifier(config)
        scheme = self.verifier.scheme
        self.keys = KeyFinder((config.key,) if config.key else scheme.keys)
        self.kept = (*_KEPT, *scheme.kept)
        self.challenge = scheme.challenge
        self.bucket = Bucket(config.rate, config.rate_window) if config.rate else None
        self.authenticate = _AUTHENTICATE.get(config.scheme, f'Webhook scheme="{config.scheme}"')

    def admit(self, client: object, headers: Mapping[str, str]) -> bool:
        """Refuse what needs no look at the body; tells whether the connection comes from a trusted proxy."""
        if self.bucket:
            self.bucket.check()
        if not (self.config.allow or self.config.proxies):
            return False
        peer = peer_of(client)  # type: ignore[arg-type]  # ASGI: a pair or None
        if self.config.allow:
            sender = sender_of(peer, headers.get("x-forwarded-for", ""), self.config.proxies)
            if not is_in(sender, self.config.allow):
                raise Refused(HTTPStatus.FORBIDDEN, "not-allowed", "this address may not post here")
        return is_in(peer, self.config.proxies)

    def envelope(self, headers: Mapping[str, str], key: str) -> Envelope:
        """What is known about the request beside its body."""
        return Envelope(
            source=f"webhook:{self.name}",
            kind=Kind.EVENT,
            key=key,
            content_type=_text(headers, "content-type") or "application/octet-stream",
            headers={name: text for name in self.kept if (text := _text(headers, name))},
        )


class Hooks:
    """The ASGI application behind /hooks/<source>."""

    def __init__(self, settings: Settings, intake: Door, finished: Finished | None = None) -> None:
        self._intake = intake
        self._finished = finished
        self._sources = {name: Source(name, one, settings.web.max_body) for name, one in settings.webhook.items()}
        self._public_url = settings.web.public_url.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whose path ends with the source's name."""
        response = await self.answer(scope["path"].rpartition("/")[2], scope, receive)
        await response(scope, receive, send)

    async def answer(self, name: str, scope: Scope, receive: Receive) -> Response:
        """The answer to one request: 2xx after the commit, else a problem. Raises nothing that a request can cause."""
        try:
            return await self._take(name, scope, receive)
        except Refused as refused:
            _log.warning("webhook refused", source=name[:80], status=refused.status.value, problem=refused.code)
            return refused.response()
        except Gone:
            return Response(status_code=HTTPStatus.BAD_REQUEST)

    async def _take(self, name: str, scope: Scope, receive: Receive) -> Response:
        if scope["method"] != "POST":
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "not-post", "webhooks are posted", {"Allow": "POST"})
        source = self._sources.get(name)
        if source is None:
            raise Refused(HTTPStatus.NOT_FOUND, "unknown-source", "no webhook source of this name is configured")
        headers = _headers(scope)
        from_proxy = source.admit(scope.get("client"), headers)
        body = await read_body(receive, headers, source.limit, source.config.body_timeout)
        _verify(source, Presented(headers, body, time.time(), from_proxy))
        if source.challenge and (challenge := _challenge(body)):
            return PlainTextResponse(challenge)
        told = source.bucket.take() if source.bucket else {}
        receipt = await self._accept(source.envelope(headers, _key(source, headers, body)), body)
        if receipt.conflict:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "key-reused",
                "this idempotency key came before with another body",
                told,
                job=receipt.job_id,
            )
        status_url = f"{self._public_url or _own_url(scope)}/jobs/{receipt.job_id}"
        return await self._answer_accepted(source, headers, receipt, {"Location": status_url, **told})

    async def _accept(self, envelope: Envelope, body: bytes) -> Receipt:
        try:
            return await self._intake.accept_async(envelope, body)
        except Unavailable as error:
            wait = str(max(1, round(error.retry_after or 10)))
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "not-stored",
                "the request could not be stored; send it again",
                {"Retry-After": wait},
            ) from error

    async def _answer_accepted(
        self, source: Source, headers: Mapping[str, str], receipt: Receipt, answer: dict[str, str]
    ) -> Response:
        asked = _WAIT.search(headers.get("prefer", ""))
        if asked and self._finished:
            seconds = min(float(asked[1]), source.config.max_wait)
            answer["Preference-Applied"] = f"wait={seconds:g}"
            result = await _result_within(self._finished, receipt.job_id, seconds)
            if result is not None:
                return JSONResponse(result, HTTPStatus.OK, answer)
        content: dict[str, Any] = {"job": receipt.job_id, "status": answer["Location"]}
        if receipt.duplicate:
            content["duplicate"] = True
        return Response(json.dumps(content), HTTPStatus.ACCEPTED, answer, "application/json")


def router(settings: Settings, intake: Door, finished: Finished | None = None) -> APIRouter:
    """POST /hooks/{source} for the web application. `finished` serves `Prefer: wait=N`; without it 202 comes first."""
    hooks = Hooks(settings, intake, finished)

    async def receive_webhook(request: Request) -> Response:
        return await hooks.answer(request.path_params["source"], request.scope, request.receive)

    routes = APIRouter(route_class=_Direct, tags=["webhooks"])
    routes.add_api_route(
        "/hooks/{source}",
        receive_webhook,
        methods=["POST"],
        status_code=HTTPStatus.ACCEPTED,
        summary="Take a webhook over",
        description="Verifies the sender by the source's scheme, stores the raw body and answers when it is on disk.",
        openapi_extra=OPERATION,
        responses=RESPONSES,
    )
    routes.add_api_route(
        "/hooks/{source}",
        receive_webhook,
        methods=["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"],
        include_in_schema=False,
    )
    return routes


class _Direct(APIRoute):
    """Hands the request to the endpoint as it is: FastAPI's reading of parameters would cost a third of the rate."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        return self.endpoint


def _own_url(scope: Scope) -> str:
    """The address the request came to, when no public_url is set; nothing the client claims. Empty on a Unix socket."""
    host, port = scope.get("server") or ("", None)
    if port is None:
        return ""
    return f"{scope['scheme']}://{f'[{host}]' if ':' in host else host}:{port}"


def _text(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "")[:_MAX_KEPT]
    return value if value.isprintable() else ""


def _headers(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _verify(source: Source, request: Presented) -> None:
    try:
        source.verifier.check(request)
    except BadSignature as error:
        raise Refused(
            HTTPStatus.UNAUTHORIZED, "bad-signature", error.reason, {"WWW-Authenticate": source.authenticate}
        ) from None


def _key(source: Source, headers: Mapping[str, str], body: bytes) -> str:
    try:
        return source.keys.find(headers, body)
    except NoKey as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "no-key", str(error)) from None


def _challenge(body: bytes) -> str:
    """Slack proves an address once by a challenge that has to be sent back; empty when this is none."""
    if b"url_verification" not in body:
        return ""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(event, dict) or event.get("type") != "url_verification":
        return ""
    challenge = event.get("challenge")
    return challenge[:1000] if isinstance(challenge, str) else ""


async def _result_within(finished: Finished, job_id: str, seconds: float) -> dict[str, Any] | None:
    """Ask until the job rests or the time is over; less and less often."""
    end, pause = time.monotonic() + seconds, _POLL_FIRST
    while True:
        result = await asyncio.to_thread(finished, job_id)
        left = end - time.monotonic()
        if result is not None or left <= 0:
            return result
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, _POLL_LAST)
