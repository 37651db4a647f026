"""An OAuth provider on loopback: a token endpoint that rotates refresh tokens, and introspection for Dovecot."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Provider:
    """What the provider knows. `now` is its clock; `refuse` is answered instead of a token when set."""

    def __init__(self, user: str, now: Callable[[], float] = time.time) -> None:
        self.user = user
        self.now = now
        self.life = 3600.0
        self.rotates = True
        self.refuse: tuple[int, dict[str, Any]] | None = None
        self.refresh_token = "refresh-0"
        self.asked: list[dict[str, str]] = []
        self.tokens: dict[str, float] = {}
        self.url = ""

    def revoke_all(self) -> None:
        """Every access token that is out is worth nothing from now on."""
        self.tokens.clear()

    def token(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Answer a POST to the token endpoint (RFC 6749 section 5)."""
        self.asked.append(form)
        if self.refuse:
            return self.refuse
        if form.get("client_id") != "client" or form.get("client_secret") != "secret":
            return 401, {"error": "invalid_client"}
        if form.get("grant_type") == "refresh_token" and form.get("refresh_token") != self.refresh_token:
            return 400, {"error": "invalid_grant", "error_description": "the refresh token was used before"}
        access = f"access-{len(self.asked)}"
        self.tokens[access] = self.now() + self.life
        answer: dict[str, Any] = {"access_token": access, "token_type": "Bearer", "expires_in": self.life}
        if form.get("grant_type") == "refresh_token" and self.rotates:
            self.refresh_token = answer["refresh_token"] = f"refresh-{len(self.asked)}"
        return 200, answer

    def introspect(self, token: str) -> dict[str, Any]:
        """Whether an access token is good, and whose it is (RFC 7662)."""
        active = self.now() < self.tokens.get(token, 0)
        return {"active": active, "username": self.user} if active else {"active": False}


@contextmanager
def providing(provider: Provider) -> Iterator[Provider]:
    """Serve the provider on a free port; its `url` is set."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            form = {key: values[0] for key, values in parse_qs(body).items()}
            if self.path.startswith("/token"):
                self.answer(*provider.token(form))
            elif self.path.startswith("/elsewhere"):
                self.send_response(307)
                self.send_header("Location", f"{provider.url}/token")
                self.end_headers()
            else:
                self.answer(200, provider.introspect(form.get("token", "")))

        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
            self.answer(200, provider.introspect(asked.get("token", [bearer])[0]))

        def answer(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
