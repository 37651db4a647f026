"""A stand-in for a server with OpenAI's API, for what real ones cannot be made to do on demand.

What it judges says nothing about a model. How llama.cpp's own server does: tests/integration/model_server.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], bytes]
EVENTS = {"Content-Type": "text/event-stream"}


class OpenAIStandIn(ThreadingHTTPServer):
    """Answers with what is in `replies`, in that order; then, and from the start, as a well server does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[Reply] = []
        self.heard: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.models: list[dict[str, Any]] = [{"id": "org/big", "max_model_len": 16_384}]
        self.declines: set[str] = set()
        """Parameters that it refuses."""

    @property
    def url(self) -> str:
        """The base of its API."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: OpenAIStandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self.server.models:
            self._say(404, {}, b"not here")
            return
        self._say(200, {}, json.dumps({"object": "list", "data": self.server.models}).encode())

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.heard.append(asked)
        self.server.keys.add(self.headers.get("Authorization", ""))
        if declined := self.server.declines & asked.keys():
            said = f"Unsupported parameter: '{min(declined)}' is not supported with this model."
            self._say(400, {}, json.dumps({"error": {"message": said, "type": "invalid_request_error"}}).encode())
            return
        self._say(*(self.server.replies.pop(0) if self.server.replies else well(asked)))

    def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            for name, value in (
                {"Content-Type": "application/json", "Content-Length": str(len(body))} | headers
            ).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        self.close_connection = int((headers or {}).get("Content-Length", len(body))) != len(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def well(asked: dict[str, Any]) -> Reply:
    """As vLLM answers: in events, one for each token."""
    if "input" in asked:
        vectors = [{"index": index, "embedding": [float(len(text)), 1.0]} for index, text in enumerate(asked["input"])]
        return 200, {}, json.dumps({"data": vectors, "usage": {"prompt_tokens": 9}}).encode()
    tokens = ['{"', "label", '":', ' "', "order", '"}'] if not asked.get("response_format") else [_form(asked)]
    return events(asked, tokens)


def events(asked: dict[str, Any], tokens: list[str], *, end: str = "stop", read: int | None = None) -> Reply:
    """A stream of `tokens` that ends because of `end` (empty: it breaks off); `read`: prompt tokens that it tells."""
    told = [_event(_token(token, asked.get("logprobs", False))) for token in tokens]
    if end:
        told.append(_event({"delta": {}, "finish_reason": end}))
    if "stream_options" in asked:
        counted = sum(len(message["content"]) // 4 + 8 for message in asked["messages"]) if read is None else read
        usage = {"prompt_tokens": counted, "completion_tokens": len(tokens)}
        told.append(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
    if end:
        told.append(b"data: [DONE]\n\n")
    return 200, EVENTS, b": ping\n\n" + b"".join(told)


def _token(token: str, logprobs: bool) -> dict[str, Any]:
    top = [{"token": token, "logprob": -0.1}, {"token": "other", "logprob": -3.0}]
    return {
        "delta": {"content": token},
        "logprobs": {"content": [{"token": token, "logprob": -0.1, "top_logprobs": top}]} if logprobs else None,
    }


def _event(choice: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


def _form(asked: dict[str, Any]) -> str:
    names = asked["response_format"]["json_schema"]["schema"]["properties"]
    values = dict.fromkeys(names) | {"label": "order"}
    values |= {name: "The sender orders." for name in names if name.startswith("summary")}
    return json.dumps(values)


@contextlib.contextmanager
def standing_in_for_openai() -> Iterator[OpenAIStandIn]:
    """A stand-in on a free port for the block, in a thread."""
    server = OpenAIStandIn()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
