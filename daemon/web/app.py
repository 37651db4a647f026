"""The HTTP application and the process that serves it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from config.settings import Settings
from daemon.listeners import webhook
from daemon.listeners.webhook_limits import Gone
from daemon.listeners.webhook_problems import Refused, bad_parameters
from daemon.web import api, metrics, openapi, sending, submit
from daemon.web.auth import Guard
from daemon.web.pages.install import install as install_pages
from daemon.web.results import finished_by
from tasks.errors import Unavailable
from tasks.intake import Intake


def make_app(
    settings: Settings,
    intake: Intake,
    started: Callable[[], None] | None = None,
    stop: threading.Event | None = None,
) -> ASGIApp:
    """All HTTP routes over one intake. `started` is called when requests are taken; `stop` ends what streams."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if started:
            started()
        yield

    app = FastAPI(
        title="Postroom",
        description="Webhooks and files in, jobs and health out.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would carry the Host that the client claims
    )
    ledger = intake.ledger
    guard = Guard(settings.web, ledger.tokens)
    finished = finished_by(ledger, settings.web.public_url)
    whole = webhook.install(app, settings, intake, finished)
    app.include_router(api.health(settings, ledger))
    app.include_router(metrics.router(settings, ledger, guard))
    app.include_router(submit.router(settings, intake, guard, finished))
    app.include_router(sending.router(settings, ledger, guard))
    stop = stop or threading.Event()
    app.include_router(api.router(settings, ledger, guard, stop))
    install_pages(app, settings, ledger, guard, stop)
    _answer_with_problems(app)
    if not guard.asks_everybody:
        document = app.openapi
        app.openapi = lambda: openapi.without_token(document())  # type: ignore[method-assign]  # FastAPI's documented way
    return whole


def _answer_with_problems(app: FastAPI) -> None:
    """Every error is a problem (RFC 9457), whoever found it."""

    @app.exception_handler(Refused)
    async def refused(_request: Request, error: Refused) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def problem(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        code = status.phrase.lower().replace(" ", "-")
        allowed = _allowed(app, request) if status is HTTPStatus.METHOD_NOT_ALLOWED else {}
        return Refused(status, code, str(error.detail), {**(error.headers or {}), **allowed}).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        return bad_parameters(error.errors()).response()

    @app.exception_handler(Gone)
    async def gone(_request: Request, _error: Exception) -> Response:
        return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody is there to read it

    @app.exception_handler(Exception)
    async def bug(_request: Request, _error: Exception) -> Response:
        said = "something went wrong here; the log tells what"
        return Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", said).response()

    @app.exception_handler(Unavailable)
    async def unavailable(_request: Request, error: Unavailable) -> Response:
        wait = {"Retry-After": "5"}
        return Refused(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", error.reason, wait).response()


def _allowed(app: FastAPI, request: Request) -> dict[str, str]:
    """What the path takes by all of its routes: the framework names the first one's (RFC 9110 section 10.2.1)."""
    path = getattr(request.scope.get("route"), "path", "")
    methods = app.openapi()["paths"].get(path)
    return {"Allow": ", ".join(sorted(method.upper() for method in methods))} if methods else {}
