"""All pages, as one application."""

from __future__ import annotations

import threading

from starlette.applications import Starlette

from config.settings import Settings
from daemon.web.auth import Guard
from daemon.web.pages import audit, contents, job, jobs, live, login, review, routes, today
from daemon.web.pages.access import Access
from daemon.web.pages.frame import Frame
from daemon.web.pages.routing import Routing
from daemon.web.pages.site import Site
from tasks.ledger import Ledger
from tasks.stores import open_store


def application(settings: Settings, ledger: Ledger, guard: Guard, stop: threading.Event) -> Starlette:
    """Everything below PREFIX. What streams ends when `stop` is set. Raises ConfigError for wrong routes."""
    site = Site(Access(settings, ledger, guard), Frame())
    routing, store = Routing(settings), open_store(settings)
    site.open("/static/{name}", site.frame.static)
    login.install(site)
    today.install(site, settings, ledger)
    jobs.install(site, settings, ledger)
    job.install(site, ledger, store)
    contents.install(site, ledger, store)
    review.install(site, settings, ledger, routing, store)
    live.install(site, ledger, stop)
    routes.install(site, settings, ledger, routing)
    audit.install(site, ledger)
    return site.application()
