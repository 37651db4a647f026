"""A small receiver of webhooks on loopback, for trying out: prints what comes, and whether its signature fits."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.inbound import WebhookSource
from config.outbound import WebhookEndpoint
from config.signing import PRIVATE, PUBLIC, decode_key
from daemon.console import printable
from tasks.signatures import BadSignature, Presented, Verifier

HOST = "127.0.0.1"
MAX_BODY = 26_214_400
SHOWN = 4_000
"""Characters of a body that are printed."""
SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
MASK = "********"


class Receiver(ThreadingHTTPServer):
    """Answers 204 to what it believes and 401 to what it does not; `tell` gets a text about each request."""

    daemon_threads = True

    def __init__(self, port: int, endpoint: WebhookEndpoint | None, tell: Callable[[str], None], count: int) -> None:
        super().__init__((HOST, port), _Handler)
        self.masked = SECRET_HEADERS | {name.lower() for name in (endpoint.headers if endpoint else ())}
        self._verifier = verifier_of(endpoint) if endpoint and endpoint.secrets else None
        self._tell = tell
        self._left = count
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def verdict(self, headers: dict[str, str], body: bytes) -> tuple[bool, str]:
        """Whether the request is believed, and the words for it."""
        if self._verifier is None:
            return True, "not verified: no endpoint with secrets was named"
        try:
            self._verifier.check(Presented(headers, body, time.time()))
        except BadSignature as error:
            return False, f"NOT verified: {error.reason}"
        return True, "verified"

    def tell(self, text: str) -> None:
        """Print about one request; stop after the last one that was asked for."""
        with self._lock:
            self._tell(text)
            self._left -= 1
            if self._left == 0:
                threading.Thread(target=self.shutdown, daemon=True).start()


def verifier_of(endpoint: WebhookEndpoint) -> Verifier:
    """What a receiver that shares the endpoint's secrets would check with; of a private key it has the public half."""
    secrets = [_shared(secret.get_secret_value()) for secret in endpoint.secrets]
    return Verifier(WebhookSource.model_validate({"scheme": "standard", "secrets": secrets}))


def _shared(secret: str) -> str:
    key = decode_key(secret)
    if key.kind != PRIVATE:
        return secret
    public = Ed25519PrivateKey.from_private_bytes(key.data).public_key().public_bytes_raw()
    return PUBLIC + base64.b64encode(public).decode()


def shown(body: bytes) -> str:
    """A body for a terminal: JSON indented, other text as it is, control characters replaced, cut and said so."""
    try:
        text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = body.decode("utf-8", "replace")
    cut = f"\n... ({len(text) - SHOWN} more characters)" if len(text) > SHOWN else ""
    return printable(text[:SHOWN]) + cut


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    server_version = "Postroom"

    def __init__(self, request: Any, client_address: Any, server: BaseServer) -> None:
        assert isinstance(server, Receiver)
        self._receiver = server
        super().__init__(request, client_address, server)

    def do_POST(self) -> None:
        """Take one webhook."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self._answer(HTTPStatus.LENGTH_REQUIRED, close=True)
            return
        if int(length) > MAX_BODY:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, close=True)
            return
        body = self.rfile.read(int(length))
        headers: dict[str, str] = {}
        for written, value in self.headers.items():
            name = written.lower()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        believed, verdict = self._receiver.verdict(headers, body)
        self._answer(HTTPStatus.NO_CONTENT if believed else HTTPStatus.UNAUTHORIZED)
        lines = [f"{self.command} {self.path}  {verdict}"]
        masked = self._receiver.masked
        lines += [f"  {name}: {MASK if name in masked else value}" for name, value in headers.items()]
        self._receiver.tell(printable("\n".join(lines)) + f"\n\n{shown(body)}\n")

    def _answer(self, status: HTTPStatus, *, close: bool = False) -> None:
        self.send_response(status)
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", "0")
        if close:
            self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Keep silent: each request is told by `tell`."""
