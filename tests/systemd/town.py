"""Runs inside the container: a mail server that keeps what it is sent, a receiver of webhooks, and a stand-in for Ollama.

The model's API is real, its judgement is not: it answers with the least that fits the schema, and takes as long as
/srv/town/slow says (seconds). `python3 town.py` with Postroom's own Python.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from daemon.notify import tell_ready
from tasks.judging.budget import fewest

FOLDER = Path("/srv/town")
SMTP_PORT, HOOKS_PORT, MODEL_PORT = 2525, 8900, 11434


class Sink:
    """Keeps each mail as a file."""

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Keep it, then answer."""
        (FOLDER / "mails" / f"{time.time_ns()}.eml").write_bytes(bytes(envelope.content or b""))
        return "250 2.0.0 kept"


class Web(BaseHTTPRequestHandler):
    """Webhooks go to files; everything else is the model's API."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Which models there are."""
        self._json({"models": [{"name": "stand-in:latest", "model": "stand-in:latest"}], "version": "0.12.0"})

    def do_POST(self) -> None:
        """Take a webhook, or answer as Ollama does."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/hook":
            told = {"key": self.headers.get("webhook-id", ""), "body": json.loads(body)}
            (FOLDER / "hooks" / f"{time.time_ns()}.json").write_text(json.dumps(told))
            self._json({})
        elif self.path == "/api/show":
            self._json({"model_info": {"stand.context_length": 8192}, "details": {}})
        else:
            slow = FOLDER / "slow"
            time.sleep(float(slow.read_text()) if slow.exists() else 0)
            asked = json.loads(body)
            answer = _filled(asked.get("format") or {})
            content = json.dumps(answer) if asked.get("format") else "Thank you for your message."
            self._json(
                {
                    "model": asked["model"],
                    "created_at": "2026-01-01T00:00:00Z",
                    "message": {"role": "assistant", "content": content},
                    "done": True,
                    "done_reason": "stop",
                    "prompt_eval_count": sum(fewest(one["content"]) for one in asked["messages"]) + 20,
                    "eval_count": 5,
                }
            )

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""

    def _json(self, value: Any) -> None:
        data = json.dumps(value).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _filled(schema: dict[str, Any]) -> Any:
    """The least that fits the schema."""
    if "const" in schema:
        return schema["const"]
    if names := schema.get("enum"):
        return "note" if "note" in names else names[0]
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        return {key: _filled(one) for key, one in schema.get("properties", {}).items()}
    if options := schema.get("anyOf"):
        return None if any(one.get("type") == "null" for one in options) else _filled(options[0])
    if isinstance(kind, list) and "null" in kind:
        return None
    return {"array": [], "number": 0, "integer": 0, "boolean": False}.get(str(kind), "A note.")


def main() -> None:
    """Serve until the end."""
    for name in ("mails", "hooks"):
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
    Controller(Sink(), hostname="127.0.0.1", port=SMTP_PORT, ready_timeout=30).start()
    for port in (HOOKS_PORT, MODEL_PORT):
        threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", port), Web).serve_forever, daemon=True).start()
    tell_ready("town")
    asyncio.run(asyncio.Event().wait())  # type: ignore[arg-type]  # for ever


main()
