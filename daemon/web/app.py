"""The HTTP application and the process that serves it."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from config.settings import Settings
from daemon.listeners import webhook
from daemon.web import api
from tasks.errors import Unavailable
from tasks.intake import Intake

PROBLEM = "application/problem+json"


def make_app(settings: Settings, intake: Intake, started: Callable[[], None] | None = None) -> FastAPI:
    """All HTTP routes over one intake."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if started:
            started()
        yield

    app = FastAPI(
        title="Postroom",
        description="Webhooks in, jobs and health out.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(webhook.router(settings, intake))
    app.include_router(api.router(settings, intake.ledger))

    @app.exception_handler(HTTPException)
    async def problem(_request: Request, error: HTTPException) -> JSONResponse:
        """RFC 9457."""
        body = {"type": "about:blank", "title": str(error.detail), "status": error.status_code}
        return JSONResponse(body, error.status_code, media_type=PROBLEM, headers=error.headers)

    @app.exception_handler(Unavailable)
    async def unavailable(_request: Request, error: Unavailable) -> JSONResponse:
        """The ledger is down: the caller tries again."""
        body = {"type": "about:blank", "title": error.reason, "status": 503}
        return JSONResponse(body, 503, media_type=PROBLEM, headers={"Retry-After": "5"})

    return app


def serve(settings: Settings, intake: Intake, stop: threading.Event, ready: Callable[[str], None]) -> None:
    """Serve until `stop` is set. Raises OSError when the address cannot be bound."""
    sock = _bind(settings.web.host, settings.web.port)
    host, port = sock.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    app = make_app(settings, intake, lambda: ready(f"web on http://{shown}:{port}"))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=10, server_header=False)
    )
    threading.Thread(target=_end_with, args=(server, stop), daemon=True).start()
    server.run(sockets=[sock])


def _end_with(server: uvicorn.Server, stop: threading.Event) -> None:
    stop.wait()
    server.should_exit = True


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(2048)
    return sock
