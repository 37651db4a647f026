"""Who may look: users with a password, those whom a trusted proxy names, or browsers on this machine where neither is set.

A visitor is known by a random cookie. For those who logged in, the ledger holds its SHA-256, so that logging out and a
changed password end it in every process. The token against forged requests (CSRF) is an HMAC of the same cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import threading
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from config.passwords import hashed, matches
from config.settings import Settings
from daemon.web.auth import Guard, on_this_machine
from daemon.web.pages.ask import NeedsLogin, Stop, Visitor
from tasks.clock import now_ms
from tasks.configured import message_id_secret
from tasks.ledger import Ledger
from tasks.ledger.visitors import FAILED_LOGIN

HERE = "this machine"
WINDOW_MS = 900_000
"""Failed log-ins are counted over 15 minutes."""
MOST_BY_NAME, MOST_BY_ADDRESS = 10, 30
MOST_PASSWORD = 1000
"""Characters of a password; hashing a longer one would only cost time."""
_OWN = frozenset({"same-origin", "none"})


class Access:
    """Decides for each request; shared by all of them."""

    def __init__(self, settings: Settings, ledger: Ledger, guard: Guard) -> None:
        self._pages = settings.pages
        self._ledger = ledger
        self._guard = guard
        self._public = settings.web.public_url.rstrip("/")
        self._key = hmac.new(message_id_secret(settings), b"pages", hashlib.sha256).digest()
        self.secure = self._pages.secure_cookies or self._public.startswith("https://")
        self.cookie = "__Host-postroom" if self.secure else "postroom"
        self._nobody = hashed(secrets.token_hex(16)) if self._pages.users else ""
        self._hashing = threading.BoundedSemaphore(2)  # each comparison takes 20 MB and a core

    def visitor(self, request: Request) -> Visitor:
        """Who asks. Raises NeedsLogin, or Stop where logging in would not help."""
        if (named := self._named_by_proxy(request)) is not None:
            return named
        if self._pages.users:
            return self._logged_in(request)
        if self._pages.user_header:
            said = "These pages are reached through the proxy that logs people in."
            raise Stop(HTTPStatus.FORBIDDEN, "Not from here", said)
        if self._guard.asks_everybody or not on_this_machine(request):
            said = (
                "No users are configured, so these pages are shown to browsers on the machine itself only. "
                "An admin can add some: [pages.users] in postroom.toml."
            )
            raise Stop(HTTPStatus.FORBIDDEN, "Not from here", said)
        return Visitor(HERE, self._pages.local_role)

    def log_in(self, request: Request, name: str, password: str) -> str:
        """A new cookie for one who knows the password. Raises Stop 401, or 429 after too many failures."""
        address = self.address(request)
        by_name, by_address = self._ledger.visitors.failed_logins(now_ms() - WINDOW_MS, name, address)
        if by_name >= MOST_BY_NAME or by_address >= MOST_BY_ADDRESS:
            said = "There were too many wrong passwords. Try again in a quarter of an hour."
            raise Stop(HTTPStatus.TOO_MANY_REQUESTS, "Too many attempts", said, {"Retry-After": "900"})
        stored = self._pages.users.get(name)
        with self._hashing:
            right = matches(stored.get_secret_value() if stored else self._nobody, password[:MOST_PASSWORD].encode())
        if stored is None or not right:
            self._ledger.visitors.note(name, address, FAILED_LOGIN)
            raise Stop(HTTPStatus.UNAUTHORIZED, "Not logged in", "Name or password is wrong.")
        cookie = new_cookie()
        until = now_ms() + int(self._pages.session_hours * 3_600_000)
        self._ledger.visitors.open_session(_digest(cookie), name, self._stamp(name), until)
        self._ledger.visitors.note(name, address, "logged in")
        return cookie

    def log_out(self, request: Request, visitor: Visitor) -> None:
        """End the session, everywhere."""
        self._ledger.visitors.close_session(_digest(self.cookie_of(request)))
        self._ledger.visitors.note(visitor.who, self.address(request), "logged out")

    def cookie_of(self, request: Request) -> str:
        """The browser's cookie; empty when it has none of ours."""
        given = request.cookies.get(self.cookie, "")
        return given if len(given) == len(new_cookie()) and given.isascii() else ""

    def csrf(self, cookie: str) -> str:
        """What a form has to send along with this cookie."""
        return hmac.new(self._key, b"csrf:" + cookie.encode(), hashlib.sha256).hexdigest()

    def check_form(self, request: Request, token: str) -> None:
        """Raises Stop 403 for a form that is not from one of our own pages in this browser."""
        cookie = self.cookie_of(request)
        mine = bool(cookie) and hmac.compare_digest(token.encode(), self.csrf(cookie).encode())
        if not mine or not self._from_own_page(request):
            said = "Nothing was done: the form was too old or came from elsewhere. Go back, load the page again, and retry."
            raise Stop(HTTPStatus.FORBIDDEN, "Please try again", said)

    def set_cookie(self, response: Response, cookie: str) -> None:
        """Hand the browser its cookie; it ends with the browser, or with the session."""
        response.set_cookie(self.cookie, cookie, path="/", secure=self.secure, httponly=True, samesite="lax")

    def address(self, request: Request) -> str:
        """Where the browser is; behind a trusted proxy, what that says."""
        peer = request.client.host if request.client else ""
        told = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        return told[:45] if told and self._is_proxy(request) else peer

    def _named_by_proxy(self, request: Request) -> Visitor | None:
        if not self._pages.user_header or not self._is_proxy(request):
            return None
        name = request.headers.get(self._pages.user_header, "").strip()
        if not name or len(name) > 80 or not name.isprintable():
            return None
        return Visitor(name, self._pages.role_of(name))

    def _logged_in(self, request: Request) -> Visitor:
        cookie = self.cookie_of(request)
        session = self._ledger.visitors.session(_digest(cookie)) if cookie else None
        if session is None or session.stamp != self._stamp(session.who):
            raise NeedsLogin
        return Visitor(session.who, self._pages.role_of(session.who), by_session=True)

    def _stamp(self, name: str) -> str:
        """Another one for each password; nobody's for a user who was taken out."""
        stored = self._pages.users.get(name)
        return hmac.new(self._key, stored.get_secret_value().encode(), hashlib.sha256).hexdigest() if stored else "none"

    def _is_proxy(self, request: Request) -> bool:
        try:
            peer = ipaddress.ip_address(request.client.host if request.client else "")
        except ValueError:
            return False
        return any(peer in network for network in self._pages.proxies)

    def _from_own_page(self, request: Request) -> bool:
        if request.headers.get("sec-fetch-site", "none") not in _OWN:
            return False
        origin = request.headers.get("origin")
        if origin is None:
            return True
        return urlsplit(origin).netloc == request.headers.get("host", "") or origin == self._public


def new_cookie() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
