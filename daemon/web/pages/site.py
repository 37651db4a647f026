"""What all pages share: who may see one, its form, its headers, and a page for whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import quote

import structlog
from starlette.applications import Starlette
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Message

from daemon.listeners.webhook_limits import Gone, read_body
from daemon.listeners.webhook_problems import Refused
from daemon.web.pages.access import Access, new_cookie
from daemon.web.pages.ask import PREFIX, Ask, NeedsLogin, Role, Stop, Visitor
from daemon.web.pages.frame import Frame
from tasks.errors import Permanent, PostroomError, Unavailable

MAX_FORM = 1_048_576
"""Bytes of a form without files."""
FORM_SECONDS = 60.0
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer, unless it brings its own."""
_log = structlog.get_logger("postroom.pages")

Handler = Callable[[Ask], Response]


class Site:
    """Collects the pages, then makes the application of them."""

    def __init__(self, access: Access, frame: Frame) -> None:
        self.access = access
        self.frame = frame
        self._routes: list[Route] = []

    def get(self, path: str, handler: Handler, role: Role = "viewer") -> None:
        """A page for those with this role. The handler may block; it runs in a thread."""
        self._routes.append(Route(path, self._endpoint(handler, role, 0), methods=["GET"]))

    def post(self, path: str, handler: Handler, role: Role, most: int = MAX_FORM) -> None:
        """What a form of at most `most` bytes does; its token was looked at before."""
        self._routes.append(Route(path, self._endpoint(handler, role, most), methods=["POST"]))

    def open(self, path: str, handler: Handler, method: str = "GET") -> None:
        """A page for those who are not known yet."""
        most = MAX_FORM if method == "POST" else 0
        self._routes.append(Route(path, self._endpoint(handler, None, most), methods=[method]))

    def application(self) -> Starlette:
        """The pages as one ASGI application, to be mounted at PREFIX."""
        app = Starlette(routes=self._routes, exception_handlers={HTTPException: self._no_page, Exception: self._bug})
        app.router.redirect_slashes = False
        return app

    def _endpoint(self, handler: Handler, role: Role | None, most: int) -> Callable[[Request], object]:
        async def endpoint(request: Request) -> Response:
            cookie = self.access.cookie_of(request) or new_cookie()
            ask = Ask(request, Visitor("", "viewer"), self.access.csrf(cookie), self.access.address(request))
            try:
                ask = await self._known(ask, role, most)
                response = await asyncio.to_thread(handler, ask)
            except NeedsLogin:
                response = self._to_login(request)
            except Stop as stop:
                response = self._stopped(ask, stop)
            except Gone:
                return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody is there to read it
            except (Refused, PostroomError) as error:
                response = self._stopped(ask, _as_stop(error))
            if not self.access.cookie_of(request) and "set-cookie" not in response.headers:
                self.access.set_cookie(response, cookie)
            return _guarded(response)

        return endpoint

    async def _known(self, ask: Ask, role: Role | None, most: int) -> Ask:
        if role:
            visitor = await asyncio.to_thread(self.access.visitor, ask.request)
            ask = Ask(ask.request, visitor, ask.csrf, ask.address)
            if not visitor.may(role):
                said = f"This needs the role {role}; {visitor.who} is a {visitor.role}."
                raise Stop(HTTPStatus.FORBIDDEN, "Not allowed", said)
        if not most:
            return ask
        form = await _form(ask.request, most)
        token = form.get("csrf")
        self.access.check_form(ask.request, token if isinstance(token, str) else "")
        return Ask(ask.request, ask.visitor, ask.csrf, ask.address, form)

    def _to_login(self, request: Request) -> Response:
        if request.method != "GET":
            said = "Your session has ended; nothing was done. Log in, then try again."
            return self._stopped(self._nobody(request), Stop(HTTPStatus.UNAUTHORIZED, "Please log in again", said))
        where = PREFIX + request.scope["path"].removeprefix(PREFIX)
        asked = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{PREFIX}/login?next={quote(where + asked, safe='')}", HTTPStatus.SEE_OTHER)

    def _stopped(self, ask: Ask, stop: Stop) -> Response:
        page = self.frame.page(ask, "stopped", title=stop.title, text=stop.text)
        page.status_code = stop.status.value
        page.headers.update(stop.headers)
        return page

    def _nobody(self, request: Request) -> Ask:
        return Ask(request, Visitor("", "viewer"), "", "")

    async def _no_page(self, request: Request, error: Exception) -> Response:
        status = HTTPStatus(error.status_code if isinstance(error, HTTPException) else 404)
        told = {404: ("No such page", "There is nothing at this address.")}
        title, text = told.get(status, (status.phrase, "This address does not take that."))
        return _guarded(self._stopped(self._nobody(request), Stop(status, title, text)))

    async def _bug(self, request: Request, error: Exception) -> Response:
        _log.error("page failed", path=request.scope["path"][:200], exc_info=error)
        said = "Something went wrong here; the log tells what."
        return _guarded(self._stopped(self._nobody(request), Stop(HTTPStatus.INTERNAL_SERVER_ERROR, "Sorry", said)))


def to(path: str) -> Response:
    """After something was done: look at the page at `path`, below PREFIX."""
    return RedirectResponse(PREFIX + path, HTTPStatus.SEE_OTHER)


async def _form(request: Request, most: int) -> FormData:
    body = await read_body(request.receive, request.headers, most, FORM_SECONDS)

    async def again() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        return await Request(request.scope, again).form(max_files=1, max_fields=500, max_part_size=most)
    except (HTTPException, MultiPartException):
        raise Stop(HTTPStatus.BAD_REQUEST, "Not understood", "The form cannot be read.") from None


def _guarded(response: Response) -> Response:
    for name, value in HEADERS.items():
        if name not in response.headers:
            response.headers[name] = value
    return response


def _as_stop(error: Refused | PostroomError) -> Stop:
    if isinstance(error, Refused):
        return Stop(error.status, error.status.phrase, error.detail)
    if isinstance(error, Unavailable):
        said = "Postroom cannot reach its ledger right now. Nothing is lost; try again in a moment."
        return Stop(HTTPStatus.SERVICE_UNAVAILABLE, "One moment", said, {"Retry-After": "5"})
    title = "Not possible" if isinstance(error, Permanent) else "Not now"
    return Stop(HTTPStatus.CONFLICT, title, error.reason)
