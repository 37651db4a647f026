"""A receiver of webhooks: /ok/... answers 200, /fail/... answers 500."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """One request."""
    while (await receive()).get("more_body"):
        pass
    status = 200 if scope["path"].startswith("/ok/") else 500
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
