"""A model server for the tests of its API, and how they ask it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
ELSEWHERE = os.environ.get("POSTROOM_TEST_OLLAMA", "")
MODEL = os.environ.get("POSTROOM_TEST_MODEL", "qwen2.5-coder:1.5b")
embedded_only = pytest.mark.skipif(bool(ELSEWHERE), reason="only of the embedded server")
COLD = {"temperature": 0, "seed": 1}
HELLO = [{"role": "user", "content": "Say hello in one word."}]


@dataclass
class Server:
    """A running server and, where it is ours, its process."""

    url: str
    process: subprocess.Popen[str] | None = None

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=200)

    def client(self) -> ollama.Client:
        return ollama.Client(host=self.url, timeout=200)

    def engines(self) -> list[int]:
        """Process ids of the engines below the server."""
        assert self.process is not None
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def started(*options: str, **environment: str) -> Server:
    """An embedded server on a free port; its first line tells the address."""
    command = [sys.executable, "-m", "daemon.embedded.model_server", "--port", "0", "--model", MODEL, *options]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OLLAMA_")}
    process = subprocess.Popen(command, cwd=REPOSITORY, env=clean | environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    words = process.stdout.readline().split()
    assert words[:3] == ["postroom", "model", "server:"], words
    threading.Thread(target=process.stdout.read, daemon=True).start()  # so that its log never blocks it
    return Server(words[3], process)


def ended(server: Server) -> None:
    assert server.process is not None
    server.process.terminate()
    try:
        server.process.wait(10)
    finally:
        server.process.kill()


def chat(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    """One answer of /api/chat without streaming."""
    response = http.post("/api/chat", json={"model": MODEL, "stream": False, "options": COLD} | fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def stream(http: httpx.Client, path: str, **fields: Any) -> list[dict[str, Any]]:
    """All lines of a streamed answer."""
    with http.stream("POST", path, json={"model": MODEL, "options": COLD} | fields) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in response.iter_lines()]
