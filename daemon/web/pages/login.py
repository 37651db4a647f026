"""Logging in and out."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import RedirectResponse, Response

from daemon.web.pages.ask import PREFIX, Ask, Stop
from daemon.web.pages.site import Site, to


def install(site: Site) -> None:
    """The routes."""

    def form(ask: Ask) -> Response:
        return _form(site, ask, "", ask.query("next", 2000))

    def log_in(ask: Ask) -> Response:
        following = ask.sent("next", 2000)
        try:
            cookie = site.access.log_in(ask.request, ask.sent("name", 80), ask.sent("password", 1000))
        except Stop as stop:
            page = _form(site, ask, stop.text, following)
            page.status_code = stop.status.value
            page.headers.update(stop.headers)
            return page
        response = RedirectResponse(_own(following), HTTPStatus.SEE_OTHER)
        site.access.set_cookie(response, cookie)
        return response

    def log_out(ask: Ask) -> Response:
        site.access.log_out(ask.request, ask.visitor)
        return to("/login")

    site.open("/login", form)
    site.open("/login", log_in, "POST")
    site.post("/logout", log_out, "viewer")


def _form(site: Site, ask: Ask, problem: str, following: str) -> Response:
    return site.frame.page(ask, "login", problem=problem, following=_own(following))


def _own(address: str) -> str:
    """The address to go on to, when it is one of our pages; else the first page."""
    own = address.startswith(f"{PREFIX}/") and address.isprintable() and "\\" not in address and "//" not in address
    return address if own else f"{PREFIX}/"
