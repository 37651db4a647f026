"""Puts the pages into the web application."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from fastapi import FastAPI
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from config.settings import Settings
from daemon.web.auth import Guard
from daemon.web.pages.ask import PREFIX
from tasks.ledger import Ledger


def install(app: FastAPI, settings: Settings, ledger: Ledger, guard: Guard, stop: threading.Event) -> None:
    """Serve the pages below PREFIX, and lead `/` there. What streams ends when `stop` is set."""
    if not settings.pages.enabled:
        return

    def make() -> ASGIApp:
        from daemon.web.pages.every import application  # noqa: PLC0415  # see AtFirstUse

        return application(settings, ledger, guard, stop)

    async def first() -> RedirectResponse:
        return RedirectResponse(f"{PREFIX}/", 303)

    for path in ("/", PREFIX):
        app.add_api_route(path, first, include_in_schema=False)
    app.mount(PREFIX, AtFirstUse(make))


class AtFirstUse:
    """An application that is made when somebody asks for it: where only programs post, the pages take no memory."""

    def __init__(self, make: Callable[[], ASGIApp]) -> None:
        self._make = make
        self._made: ASGIApp | None = None
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        made = self._made or await self._once()
        await made(scope, receive, send)

    async def _once(self) -> ASGIApp:
        async with self._making:
            if self._made is None:
                self._made = await asyncio.to_thread(self._make)
            return self._made
