"""Who may ask for jobs: bearer tokens with scopes (RFC 6750), and programs on this machine where they need none."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.security import HTTPBearer

from config.inbound import WebListener, is_loopback
from daemon.listeners.webhook_problems import Refused
from tasks.ledger import Scope, Tokens

_BY_PROXY = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"})
_OWN_PAGE = frozenset({"same-origin", "none"})
_REALM = 'Bearer realm="postroom"'

BEARER = HTTPBearer(auto_error=False, scheme_name="token", description="`postroom token create` makes one.")
"""Tells the OpenAPI document that a route takes tokens; `Guard` decides."""


class Guard:
    """Makes the dependency that each route of the API names, with the scope that it needs."""

    def __init__(self, web: WebListener, tokens: Tokens) -> None:
        self._web = web
        self._tokens = tokens

    def needs(self, scope: Scope) -> Callable[[Request], None]:
        """A FastAPI dependency: raises Refused 401 or 403, Unavailable when the ledger does not answer."""

        def check(request: Request) -> None:
            self._check(request, scope)

        return check

    @property
    def asks_everybody(self) -> bool:
        """Whether there is nobody who may do without a token."""
        return self._web.require_token is True or bool(self._web.require_token and self._web.public_url)

    def _check(self, request: Request, scope: Scope) -> None:
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            if self._needs_none(request):
                return
            said = "this needs a token: send `Authorization: Bearer pr_...` (`postroom token create NAME`)"
            raise Refused(HTTPStatus.UNAUTHORIZED, "no-token", said, {"WWW-Authenticate": _REALM})
        token = self._tokens.check(text.strip())
        if token is None:
            told = f'{_REALM}, error="invalid_token"'
            said = "the token is unknown or was revoked"
            raise Refused(HTTPStatus.UNAUTHORIZED, "bad-token", said, {"WWW-Authenticate": told})
        if not token.may(scope):
            told = f'{_REALM}, error="insufficient_scope", scope="{scope.value}"'
            said = f"this needs a token with the scope {scope.value}"
            raise Refused(HTTPStatus.FORBIDDEN, "scope", said, {"WWW-Authenticate": told})

    def _needs_none(self, request: Request) -> bool:
        return not self.asks_everybody and (self._web.require_token is False or from_this_machine(request))


def from_this_machine(request: Request) -> bool:
    """Whether a program on this machine asks for itself, and not the browser in which somebody else's page runs."""
    if not on_this_machine(request):
        return False
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host", ""):
        return False
    return request.headers.get("sec-fetch-site", "none") in _OWN_PAGE


def on_this_machine(request: Request) -> bool:
    """Whether a program on this machine asks, be it a browser that was led here by somebody else's page.

    A loopback peer alone does not tell: a proxy is one too. The Host has to be a loopback name as well, because a
    stranger's host name can be made to resolve to loopback.
    """
    if request.client is None or not _loopback(request.client.host) or _BY_PROXY & set(request.headers):
        return False
    try:
        name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return False
    return _loopback(name)


def _loopback(host: str) -> bool:
    if is_loopback(host):
        return True
    try:
        mapped = ipaddress.IPv6Address(host).ipv4_mapped
    except ValueError:
        return False
    return mapped is not None and mapped.is_loopback
