"""Where the demo's answers end: a mail server that keeps all, and a webhook receiver that checks signatures."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import threading
import time
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from aiosmtpd.smtp import SMTP, Envelope, Session

MAX_MAIL = 32 * 1024 * 1024
MAX_BODY = 8 * 1024 * 1024
TOLERANCE = 300


@dataclass(frozen=True)
class Sent:
    """A mail that reached the outbox."""

    path: Path
    recipients: tuple[str, ...]
    message: EmailMessage

    @property
    def in_reply_to(self) -> str:
        """Message-ID of the mail it answers, or empty."""
        return str(self.message["In-Reply-To"] or "").strip()


@dataclass(frozen=True)
class Posted:
    """A webhook that reached the sink."""

    path: Path
    id: str
    verified: bool
    body: Any


@dataclass
class MailSink:
    """An SMTP server on a free loopback port; each message becomes a numbered .eml file in `folder`."""

    folder: Path
    port: int = 0
    mails: list[Sent] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def start(self) -> None:
        """Listen, from a thread of its own. `port` is known afterwards."""
        self.folder.mkdir(parents=True, exist_ok=True)
        server = self._loop.run_until_complete(
            self._loop.create_server(
                lambda: SMTP(self, data_size_limit=MAX_MAIL, loop=self._loop), host="127.0.0.1", port=0
            )
        )
        self.port = server.sockets[0].getsockname()[1]
        threading.Thread(target=self._loop.run_forever, daemon=True, name="outbox").start()

    def stop(self) -> None:
        """Stop listening."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Keep the message (called by aiosmtpd)."""
        raw = cast(bytes, envelope.content)
        message = message_from_bytes(raw, policy=policy.default)
        stem = re.sub(r"[^a-z0-9]+", "-", str(message["Subject"]).lower()).strip("-")[:50]
        path = self.folder / f"{len(self.mails) + 1:02}-{stem or 'mail'}.eml"
        path.write_bytes(raw)
        self.mails.append(Sent(path, tuple(envelope.rcpt_tos), message))
        return f"250 2.0.0 kept as {path.name}"


@dataclass
class HookSink:
    """An HTTP server on a free loopback port that verifies Standard Webhooks signatures and keeps the bodies."""

    folder: Path
    secret: str
    """`whsec_` and the key in base64."""
    hooks: list[Posted] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Listen, from a thread of its own. `url` is known afterwards."""
        self.folder.mkdir(parents=True, exist_ok=True)
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = min(int(self.headers.get("content-length") or 0), MAX_BODY)
                status = sink.keep({k.lower(): v for k, v in self.headers.items()}, self.rfile.read(length))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: the demo prints what matters."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True, name="webhook sink").start()

    def stop(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    @property
    def url(self) -> str:
        """Address to post to."""
        if self._server is None:
            raise RuntimeError("the sink has not been started")
        return f"http://127.0.0.1:{self._server.server_address[1]}/results"

    def keep(self, headers: dict[str, str], body: bytes) -> int:
        """Verify and store one request; the HTTP status to answer it with."""
        verified = verify(self.secret, headers, body, time.time())
        ident = headers.get("webhook-id", "")
        try:
            content = json.loads(body)
        except ValueError:
            content = body.decode("utf-8", "replace")
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", ident)[:60] or "no-id"
        record = {"verified": verified, "headers": headers, "body": content}
        with self._lock:
            path = self.folder / f"{len(self.hooks) + 1:02}-{stem}.json"
            path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
            self.hooks.append(Posted(path, ident, verified, content))
        return 204 if verified else 401


def verify(secret: str, headers: dict[str, str], body: bytes, now: float) -> bool:
    """Whether one of the signatures is right and fresh (Standard Webhooks, `v1`). Never raises."""
    stamp = headers.get("webhook-timestamp", "")
    if not stamp.isascii() or not stamp.isdigit() or abs(now - int(stamp)) > TOLERANCE:
        return False
    wanted = sign(secret, headers.get("webhook-id", ""), stamp, body)
    given = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(wanted.encode(), one.encode()) for one in given)


def sign(secret: str, ident: str, stamp: str, body: bytes) -> str:
    """The Standard Webhooks signature of a request: `v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{ident}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
