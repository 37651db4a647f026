"""Puts the pages into the web application."""

from __future__ import annotations

import threading

from fastapi import FastAPI
from starlette.responses import RedirectResponse

from config.settings import Settings
from daemon.web.auth import Guard
from daemon.web.pages import audit, contents, job, jobs, live, login, review, routes, today
from daemon.web.pages.access import Access
from daemon.web.pages.ask import PREFIX
from daemon.web.pages.frame import Frame
from daemon.web.pages.routing import Routing
from daemon.web.pages.site import Site
from tasks.ledger import Ledger


def install(app: FastAPI, settings: Settings, ledger: Ledger, guard: Guard, stop: threading.Event) -> None:
    """Serve the pages below PREFIX, and lead `/` there. What streams ends when `stop` is set."""
    if not settings.pages.enabled:
        return
    site = Site(Access(settings, ledger, guard), Frame())
    routing = Routing(settings)
    site.open("/static/{name}", site.frame.static)
    login.install(site)
    today.install(site, settings, ledger)
    jobs.install(site, settings, ledger)
    job.install(site, settings, ledger)
    contents.install(site, settings, ledger)
    review.install(site, settings, ledger, routing)
    live.install(site, ledger, stop)
    routes.install(site, settings, ledger, routing)
    audit.install(site, ledger)

    async def first() -> RedirectResponse:
        return RedirectResponse(f"{PREFIX}/", 303)

    for path in ("/", PREFIX):
        app.add_api_route(path, first, include_in_schema=False)
    app.mount(PREFIX, site.application())
