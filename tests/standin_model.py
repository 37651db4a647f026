"""A stand-in for Ollama that answers at once: for faults that a real server cannot show, and for runs of thousands of jobs.

    python -m tests.standin_model --port N

It speaks as much of the API as Postroom asks for: version, tags, /api/show, and /api/chat with label, form and free text. What it
judges says nothing about a model; how it fails (`mode`) is what it is for. In the mode `reads` it cuts what is too long for
its context as silently as Ollama does, and fills forms from what it was left to see.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple

Mode = Literal["well", "reads", "writes slowly", "hangs", "dies", "out of memory", "busy"]
SURE = -0.01
"""Log-probability of the first label: e to this power is 0.99."""


class Call(NamedTuple):
    """One call in the mode `reads`."""

    sent: int
    """Tokens of the prompt."""
    kept: int
    """Tokens of it that were left when what is too long was cut."""
    num_ctx: int
    form: bool
    """Whether a form was asked for, and not a label or free text."""


class StandIn(ThreadingHTTPServer):
    """Listens on loopback; `label` is what it takes everything for."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0, label: str = "other") -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.label = label
        self.mode: Mode = "well"
        self.asked = 0
        self.heard: list[dict[str, Any]] = []
        """The last requests of /api/chat."""
        self.has = ("small:1b", "large:32b")
        """The models that it lists."""
        self.lacks: set[str] = set()
        """Models that are not there."""
        self.embedded: list[str] = []
        """The texts of /api/embed."""
        self.most_embedded = 2000
        """Characters that it makes a vector of."""
        self.says = "Thank you for your message. We are looking into it."
        """Its free text."""
        self.rambles: set[str] = set()
        """Models that follow no form and tell no probabilities."""
        self.calls: list[Call] = []
        """In the mode `reads`: what was asked of it, in tokens."""
        self.woken = threading.Event()
        """Set to end those calls that hang, and to let those go on that write slowly."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        self._send([{"version": "0.0.0-standin", "models": [{"name": name} for name in self.server.has]}])

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["model"] in self.server.lacks:
            self._send([{"error": f"model '{asked['model']}' not found"}], 404)
            return
        if self.path == "/api/show":
            self._send([{"details": {}, "model_info": {"standin.context_length": 32_768}}])
            return
        if self.path == "/api/embed" and self.server.mode == "well":
            self._send([_meaning(asked, self.server)], 400 if len(asked["input"]) > self.server.most_embedded else 200)
            return
        self.server.asked += 1
        self.server.heard = [*self.server.heard[-99:], asked]
        mode = self.server.mode
        if mode == "hangs":
            self.server.woken.wait()
        elif mode == "out of memory":
            self._send([{"error": "model requires more system memory (5.6 GiB) than is available (2.1 GiB)"}], 500)
        elif mode == "busy":
            self._send([{"error": "server busy, please try again.  maximum pending requests exceeded"}], 503)
        elif mode == "reads":
            self._send(list(_read(asked, self.server)))
        elif mode == "dies":
            self._send([_piece(asked, {"message": {"role": "assistant", "content": "Thank"}})], close=True)
        else:
            self._send(list(_answer(asked, self.server, rambles=asked["model"] in self.server.rambles)))

    def _send(self, lines: list[dict[str, Any]], status: int = 200, *, close: bool = False) -> None:
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        with contextlib.suppress(ConnectionError):  # whoever asked was killed
            self._write(status, len(lines) > 1, body, close=close)
        self.close_connection = close

    def _write(self, status: int, is_stream: bool, body: bytes, *, close: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-ndjson" if is_stream else "application/json")
        self.send_header("Content-Length", str(len(body) + 1000 * close))  # more is promised than comes
        self.end_headers()
        if self.server.mode == "writes slowly" and body.count(b"\n") > 2:
            *_, last, end = body.splitlines(keepends=True)
            self.wfile.write(body[: -len(last + end)])
            self.server.woken.wait()
            body = last + end
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: there are thousands of calls."""


_TOKEN = re.compile(r"\s*(?:\w{1,4}|[^\w\s])|\s+")
"""Four letters or one sign with the space before it: about what real tokenizers make of plain text."""


def _read(asked: dict[str, Any], server: StandIn) -> Iterator[dict[str, Any]]:
    """An answer from what is left of the prompt when it was cut to num_ctx, without a word, as Ollama does: the middle goes.

    It fills in what stands as `caption: value` in what it sees, and knows nothing else.
    """
    tokens = _TOKEN.findall("\n".join(message["content"] for message in asked["messages"]))
    num_ctx = int(asked["options"]["num_ctx"])
    kept = tokens if len(tokens) < num_ctx else tokens[:4] + tokens[-(num_ctx // 2) :]
    server.calls.append(Call(len(tokens), len(kept), num_ctx, bool(asked.get("format"))))
    seen = "".join(kept)
    for piece in _answer(asked, server, seen):
        yield piece | ({"prompt_eval_count": len(kept)} if piece.get("done") else {})


def _answer(
    asked: dict[str, Any], server: StandIn, seen: str = "", *, rambles: bool = False
) -> Iterator[dict[str, Any]]:
    text = "Well, that depends." if rambles else _text(asked, server, seen)
    first: dict[str, Any] = {"message": {"role": "assistant", "content": ""}}
    if asked.get("logprobs") and not rambles:
        top = {"token": server.label, "logprob": SURE}
        text = server.label
        first["logprobs"] = [{**top, "top_logprobs": [top]}]
    words = re.findall(r"\s*\S+", text) if server.mode == "writes slowly" else [text]
    first["message"]["content"] = words[0]
    yield _piece(asked, first)
    for word in words[1:]:
        yield _piece(asked, {"message": {"role": "assistant", "content": word}})
    read = sum(len(message["content"]) // 4 + 8 for message in asked["messages"])
    counts = {"done": True, "done_reason": "stop", "prompt_eval_count": read, "eval_count": 12}
    yield _piece(asked, {"message": {"role": "assistant", "content": ""}, **counts})


def _meaning(asked: dict[str, Any], server: StandIn) -> dict[str, Any]:
    """A vector that counts words: texts with the same words are near."""
    text = asked["input"]
    if len(text) > server.most_embedded:
        return {"error": "the input length exceeds the context length"}
    server.embedded.append(text)
    counts = [0.01] * 64
    for word in text.casefold().split():
        counts[zlib.crc32(word.encode()) % 64] += 1.0
    return {"model": asked["model"], "embeddings": [counts], "prompt_eval_count": len(text) // 4}


def _text(asked: dict[str, Any], server: StandIn, seen: str) -> str:
    if not asked.get("format"):
        return server.says
    names = asked["format"]["properties"]
    values = dict.fromkeys(names) | {"label": server.label}
    for name in names:
        caption = re.escape(name.replace("_", " "))
        if found := re.search(rf"^{caption}: (.{{1,60}})$", seen, re.MULTILINE | re.IGNORECASE):
            values[name] = found[1].strip()
    values |= {name: "The sender wants an answer." for name in names if name.startswith("summary")}
    return json.dumps({name: values[name] for name in names})


def _piece(asked: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    return {"model": asked["model"], "created_at": "2026-01-01T00:00:00Z", "done": False, **part}


@contextlib.contextmanager
def standing_in(label: str = "other") -> Iterator[StandIn]:
    """A stand-in on a free port for the block, in a thread."""
    server = StandIn(label=label)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.woken.set()
        server.shutdown()
        server.server_close()


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.standin_model", description=main.__doc__)
    parser.add_argument("--port", type=int, required=True, help="port on loopback")
    StandIn(parser.parse_args().port).serve_forever()


if __name__ == "__main__":
    main()
