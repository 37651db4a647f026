"""Ollama's API: Ollama itself, or daemon/embedded/model_server.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property

import httpx
import ollama
from pydantic import ValidationError

from config.engine import ModelSettings
from config.models import OLLAMA_PORT, is_local
from tasks.errors import Busy, Unavailable
from tasks.judging.calls import Ask, TooLong
from tasks.providers.server import TOP, Failed, Server, Streamed, means_too_long


class Ollama(Server):
    """One Ollama."""

    kind = "ollama"

    def __init__(self, host: str, settings: ModelSettings) -> None:
        super().__init__(host, OLLAMA_PORT, settings.call_timeout)
        self.where = "[model] hosts" if settings.hosts else "[model] host"
        self._settings = settings
        self._limits: dict[str, int] = {}

    @cached_property
    def _client(self) -> ollama.Client:
        return ollama.Client(
            host=self.host,
            timeout=httpx.Timeout(self._settings.read_timeout, connect=self._settings.connect_timeout),
            trust_env=not is_local(self.host),
        )

    def context_limit(self, model: str) -> int:
        """The longest context (tokens) that `model` was trained for: Ollama cuts at it, whatever num_ctx says."""
        if model not in self._limits:
            with self.asking(model):
                told = self._client.show(model).modelinfo or {}
            lengths = [int(value) for key, value in told.items() if key.endswith(".context_length")]
            self._limits[model] = min(lengths, default=self._settings.num_ctx)
        return self._limits[model]

    def stream(self, wish: Ask, into: Streamed) -> None:
        """Ask /api/chat."""
        parts = self._client.chat(
            model=wish.model,
            messages=wish.messages,
            stream=True,
            format=wish.schema,
            options={"temperature": 0, **wish.options, "num_ctx": wish.num_ctx, "num_predict": wish.predict},
            keep_alive=wish.keep_alive or self._settings.keep_alive,
            logprobs=wish.logprobs or None,
            top_logprobs=TOP if wish.logprobs else None,
        )
        for part in parts:
            into.piece(part.message.content or "")
            if into.next_token is None and part.logprobs:
                first = part.logprobs[0]
                into.next_token = {top.token: top.logprob for top in first.top_logprobs or ()} or None
            if part.done:
                into.done_reason = part.done_reason or "stop"
                into.prompt_tokens = part.prompt_eval_count or 0
                into.output_tokens = part.eval_count or 0
        into.ends()

    def embed(self, model: str, text: str) -> list[float]:
        """Ask /api/embed, not to cut."""
        with self.asking(model):
            keep = self._settings.keep_alive
            return list(self._client.embed(model=model, input=text, truncate=False, keep_alive=keep).embeddings[0])

    def probe(self) -> None:
        """Ask for its version."""
        self._get("/api/version")

    def names(self) -> frozenset[str]:
        """Ask for its list."""
        try:
            return frozenset(item["name"] for item in self._get("/api/tags").json()["models"])
        except (ValueError, KeyError, TypeError):
            raise Unavailable(self.name, f"{self.address} does not answer as Ollama does") from None

    def to_get(self, model: str) -> str:
        """Pull it."""
        return f"run `ollama pull {model}` there"

    def _get(self, path: str) -> httpx.Response:
        seconds, local = self._settings.connect_timeout, is_local(self.host)
        try:
            return httpx.get(f"{self.address}{path}", timeout=seconds, trust_env=not local)
        except httpx.HTTPError as error:
            raise Unavailable(self.name, f"{self.host} does not answer: {type(error).__name__}") from None

    def translated(self, model: str) -> AbstractContextManager[None]:
        """The client's errors as Postroom's."""
        return self._translated(model)

    @contextmanager
    def _translated(self, model: str) -> Iterator[None]:
        try:
            yield
        except ollama.ResponseError as error:
            raise self._said(error, model) from None
        except (httpx.ConnectError, httpx.TimeoutException, ConnectionError) as error:
            raise Unavailable(self.name, f"{self.host} does not answer: {type(error).__name__}") from None
        except httpx.TransportError as error:
            raise Failed(f"{self.host} broke the connection: {type(error).__name__}") from None
        except (ValidationError, ValueError, IndexError) as error:
            raise Failed(f"{self.host} does not answer as Ollama does: {type(error).__name__}") from None

    def _said(self, error: ollama.ResponseError, model: str) -> Exception:
        said = " ".join(str(error.error).split())[:300]
        if means_too_long(said):
            return TooLong(f"the server refuses the prompt: {said}")
        if error.status_code == 404:
            what_to_do = f"{self.to_get(model)} or change [model] name"
            return Unavailable(self.model_name(model), f"{self.host} has no model {model}; {what_to_do}")
        if error.status_code in {401, 403}:
            return Unavailable(self.name, f"{self.host} refuses us (HTTP {error.status_code}): {said}")
        if error.status_code in {429, 503}:
            return Busy(self.name, f"{self.host} is busy: {said}")
        when = f"answered {error.status_code}" if error.status_code > 0 else "failed in mid-answer"
        return Failed(f"{self.host} {when}: {said}")
