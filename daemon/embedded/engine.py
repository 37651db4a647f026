"""The engine seen from the API: starts its child process, speaks to it, ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from daemon.embedded import memory
from daemon.embedded.catalogue import MIB, Weights
from daemon.embedded.ollama_errors import ApiError, stopped

_ROOT = Path(__file__).resolve().parents[2]
MAX_EVENT = 8 * MIB
"""Longest single line (bytes) taken from the engine."""


@dataclass(frozen=True)
class EngineSettings:
    """What the engine is started with."""

    path: str
    """The GGUF file."""
    context: int
    """Tokens of context of each request."""
    parallel: int = 1
    """Requests at once; each takes its own context memory."""
    threads: int = 0
    """Threads for computing; 0 means one for each processor this process may use."""
    batch: int = 256
    """Prompt tokens computed between two looks at whether the client is still there."""
    prompt_cache_mib: int = 512
    """Memory (MiB) for the states of earlier prompts, so that alternating prompts need not be read again."""

    def effective_threads(self) -> int:
        """The number of threads that is used."""
        return self.threads or len(os.sched_getaffinity(0))


def memory_needed(weights: Weights, settings: EngineSettings) -> int:
    """Bytes that the engine will take once loaded and fully used."""
    cache = weights.kv_bytes_per_token * settings.context * settings.parallel
    return weights.size + cache + settings.prompt_cache_mib * MIB + weights.overhead


def check_memory(weights: Weights, settings: EngineSettings, free: int | None) -> None:
    """Refuse to load a model that would not fit.

    Raises ApiError with what is needed, what is there, and what to do.
    """
    needed = memory_needed(weights, settings)
    if free is not None and free < needed:
        raise ApiError(
            500,
            f"model requires more system memory ({needed / 2**30:.1f} GiB) than is available ({free / 2**30:.1f} GiB): "
            f"free some, start the server with a smaller --context than {settings.context}, or use a smaller model",
        )


class Engine:
    """One loaded model in its own process."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, settings: EngineSettings) -> None:
        self.settings = settings
        self._process = process
        self._folder = folder
        self.grammar_failures = 0
        """How often the engine said that it could not read a grammar."""
        self._last_words: deque[str] = deque(maxlen=8)
        self._listener = asyncio.create_task(self._listen())
        transport = httpx.AsyncHTTPTransport(uds=str(folder / "engine.sock"), limits=httpx.Limits(max_connections=None))
        patience = httpx.Timeout(None, connect=10.0)  # a long prompt takes minutes; a dead engine closes at once
        self._client = httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=patience)

    @classmethod
    async def start(cls, settings: EngineSettings) -> Engine:
        """Start the process and wait until the model is loaded.

        Raises ApiError(500) with the engine's own reason when it cannot load.
        """
        folder = Path(tempfile.mkdtemp(prefix="postroom-engine-"))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "daemon.embedded.engine_process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the server, which ends the engine in order
            cwd=_ROOT,
            env={name: value for name, value in os.environ.items() if name != "OMP_THREAD_LIMIT"},  # ours is `threads`
        )
        engine = cls(process, folder, settings)
        try:
            await engine._wait_until_loaded()
        except BaseException:
            await engine.stop()
            raise
        return engine

    async def _wait_until_loaded(self) -> None:
        if self._process.stdin is None or self._process.stdout is None:
            raise stopped("its pipes are missing")
        wanted = asdict(self.settings) | {
            "threads": self.settings.effective_threads(),
            "socket": str(self._folder / "engine.sock"),
        }
        try:
            self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
            await self._process.stdin.drain()
            answer = json.loads(await self._process.stdout.readline() or b'{"error": ""}')
        except (OSError, ValueError) as error:
            raise stopped(str(error)) from error
        if "error" in answer:
            raise ApiError(500, f"error loading model: {answer['error'] or self.last_words() or 'the engine ended'}")

    async def _listen(self) -> None:
        """Keep the engine's last words, and never let its pipe fill up."""
        if self._process.stderr is None:
            return
        while True:
            try:
                line = await self._process.stderr.readline()
            except ValueError:  # one line longer than the buffer: skip it
                continue
            if not line:
                return
            self._last_words.append(line.decode(errors="replace").rstrip())
            self.grammar_failures += b"llg error" in line

    def last_words(self) -> str:
        """The last line that the engine wrote to its log."""
        return self._last_words[-1] if self._last_words else ""

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.returncode is None

    @property
    def resident(self) -> int:
        """Bytes of memory that the process holds."""
        return memory.resident(self._process.pid)

    async def call(self, path: str, body: dict[str, Any]) -> Any:
        """One question, one answer, as JSON.

        Raises ApiError with the engine's status and words.
        """
        try:
            response = await self._client.post(path, json=body)
        except httpx.TransportError as error:
            raise stopped(self.last_words()) from error
        if response.status_code >= 400:
            raise _refusal(response.status_code, response.content)
        return response.json()

    async def render(self, messages: list[dict[str, str]]) -> str:
        """The prompt that the model's own chat template makes of the messages."""
        return str((await self.call("/apply-template", {"messages": messages}))["prompt"])

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """Token numbers of a text."""
        answer = await self.call("/tokenize", {"content": text, "add_special": add_special})
        return [int(token) for token in answer["tokens"]]

    async def detokenize(self, tokens: list[int]) -> str:
        """The text of token numbers."""
        return str((await self.call("/detokenize", {"tokens": tokens}))["content"])

    async def embed(self, text: str) -> tuple[list[float], int]:
        """The vector of a text, and how many tokens it had."""
        answer = await self.call("/v1/embeddings", {"input": text})
        return answer["data"][0]["embedding"], int(answer["usage"]["prompt_tokens"])

    async def complete(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Stream the engine's events for a completion; closing the iterator ends the generation.

        Raises ApiError with the engine's status and words, also in mid-stream.
        """
        try:
            async with self._client.stream("POST", "/completion", json=body | {"stream": True}) as response:
                if response.status_code >= 400:
                    raise _refusal(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    if event := _event(line):
                        yield event
        except httpx.TransportError as error:
            raise stopped(self.last_words()) from error

    async def stop(self) -> None:
        """End the process at once (it has nothing to save) and remove its socket."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        self._listener.cancel()
        await self._client.aclose()
        shutil.rmtree(self._folder, ignore_errors=True)


def _event(line: str) -> dict[str, Any] | None:
    """One event of a stream; None for blank lines and heartbeats."""
    if len(line) > MAX_EVENT:
        raise ApiError(500, "the engine sent a line that is too long")
    if line.startswith("error: "):
        raise _refusal(500, line.removeprefix("error: ").encode())
    if not line.startswith("data: ") or line == "data: [DONE]":
        return None
    event: dict[str, Any] = json.loads(line.removeprefix("data: "))
    if "error" in event:
        raise _refusal(500, line.removeprefix("data: ").encode())
    return event


def _refusal(status: int, body: bytes) -> ApiError:
    """The engine's error as ours: its message where it gave one."""
    try:
        error = json.loads(body)
        error = error.get("error", error)
        return ApiError(int(error.get("code", status)), str(error["message"]))
    except (ValueError, KeyError, AttributeError, TypeError):
        return ApiError(status, body.decode(errors="replace").strip() or "the engine refused without a reason")
