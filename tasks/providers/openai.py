"""OpenAI's API: vLLM, llama-server, hosted services. Chat completions as a stream of events, and embeddings.

None of them is taken at its word: what a server declines (log-probabilities, schemas, counted tokens) is not asked of it
again, and the rest goes on without. An answer cannot be begun for a model here, as it can with Ollama; so the label's
first token is looked for in what the model writes by itself.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Container, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpcore
import structlog

from config.engine import ModelSettings
from config.models import ModelServer
from tasks import egress
from tasks.errors import Busy, Transient, Unavailable
from tasks.exchange import BUSY_WAIT, retry_after
from tasks.judging.calls import Ask, TooLong
from tasks.prompts import PREFIX
from tasks.providers.http import Http, Response
from tasks.providers.server import TOP, Failed, Server, Streamed, means_too_long

LABEL_TOKENS = 32
"""What a label may take with the JSON around it."""
OLLAMAS_OWN = frozenset(
    {
        "num_gpu",
        "num_thread",
        "num_batch",
        "num_keep",
        "main_gpu",
        "use_mmap",
        "numa",
        "top_k",
        "min_p",
        "repeat_penalty",
    }
)
"""Options that stay behind where a fallback or a route changes to such a server: hosted ones refuse what they don't know."""
OPTIONAL = {
    "logprobs": ("logprobs", "top_logprobs"),
    "response_format": ("response_format",),
    "json_schema": ("response_format",),
    "stream_options": ("stream_options",),
    "temperature": ("temperature",),
    "max_tokens": ("max_tokens",),
}
"""What may be declined, by a word that the refusal has in it. `max_tokens` has another name with some models."""
_log = structlog.get_logger("postroom.model")
_OPENED = re.compile(r'\s*\{\s*"label"\s*:\s*"')


class OpenAI(Server):
    """One base URL of an API."""

    kind = "openai"

    def __init__(self, name: str, url: str, config: ModelServer, settings: ModelSettings) -> None:
        """`name` is that in [model.server]."""
        super().__init__(url, 80, settings.call_timeout)
        self.where = f"[model.server.{name}] urls"
        self._config = config
        self._settings = settings
        self._http = Http(url, config, settings)
        self._declined: dict[str, set[str]] = {}
        self._limits: dict[str, int] = {}
        self._left_alone_until = 0.0
        """Monotonic seconds: its own wish."""

    def context_limit(self, model: str) -> int:
        """Tokens as configured, else as vLLM (`max_model_len`) or llama-server (`n_ctx`) tell, else [model] num_ctx."""
        if self._config.context:
            return self._config.context
        if model not in self._limits:
            with self.asking(model):
                listed = self._listed(self._settings.read_timeout)
            self._limits[model] = _context(listed.get(model, {})) or self._settings.num_ctx
        return self._limits[model]

    def stream(self, wish: Ask, into: Streamed) -> None:
        """Ask /chat/completions, anew without what is declined."""
        declined = self._declined.setdefault(wish.model, set())
        while True:
            body = _without(declined, _body(wish))
            with self._http.post("/chat/completions", body, self._settings.call_timeout) as response:
                if response.status == 200:
                    self._read(wish, response, into)
                    return
                said = response.words()
                refused = {name for word, names in OPTIONAL.items() if word in said for name in names} & body.keys()
                if response.status not in {400, 422} or not refused or means_too_long(said):
                    raise self._said(response, said, wish.model)
                declined |= refused
                _log.warning("declined by model server", host=self.address, model=wish.model, what=sorted(refused))

    def _read(self, wish: Ask, response: Response, into: Streamed) -> None:
        label, reason = Label(wish), ""
        into.tells_tokens = False
        for event in response.events():
            if event.get("error"):
                raise Failed(f"{self.address} failed in mid-answer: {_words(event['error'])}")
            for choice in event.get("choices") or ():
                part = choice.get("delta") or choice.get("message") or {}
                into.piece(part.get("content") or "")
                label.take((choice.get("logprobs") or {}).get("content") or ())
                reason = choice.get("finish_reason") or reason
            if usage := event.get("usage"):
                into.prompt_tokens, into.output_tokens = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
                into.tells_tokens = True
        into.done_reason, into.next_token = reason, label.next_token()
        into.ends()

    def embed(self, model: str, text: str) -> list[float]:
        """Ask /embeddings."""
        body = {"model": model, "input": [text]}
        with self.asking(model), self._http.post("/embeddings", body, self._settings.call_timeout) as response:
            if response.status != 200:
                raise self._said(response, response.words(), model)
            return [float(value) for value in response.whole()["data"][0]["embedding"]]

    def probe(self) -> None:
        """Ask for its list of models. Whatever it answers is a sign of life, but for a failure of its own."""
        with self._plainly(), self._http.get("/models", self._settings.connect_timeout) as response:
            if response.status >= 500:
                raise self._said(response, response.words(), "")

    def names(self) -> frozenset[str]:
        """Ask for its list."""
        with self._plainly():
            listed = self._listed(self._settings.connect_timeout)
        if not listed:
            raise Unavailable(self.name, f"{self.address} tells no list of its models at /models")
        return frozenset(listed)

    def to_get(self, model: str) -> str:
        """Only whoever runs it can."""
        return f"let it serve {model}"

    def _listed(self, seconds: float) -> dict[str, Any]:
        """Its models by name; none where it has no such list."""
        with self._http.get("/models", seconds) as response:
            if response.status in {404, 405}:
                return {}
            if response.status != 200:
                raise self._said(response, response.words(), "")
            return {one["id"]: one for one in response.whole()["data"]}

    @contextmanager
    def asking(self, model: str) -> Iterator[None]:
        """As for every server; one that asked to be left alone for a while is."""
        left = self._left_alone_until - time.monotonic()
        if left > 0:
            said = f"{self.address} wants to be left alone for {left:.0f} s more"
            raise Busy(self.name, said, retry_after=left, asked=False)
        with super().asking(model):
            yield

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """A question whose every failure means that it does not answer as it should."""
        try:
            with self.translated(""):
                yield
        except Unavailable:
            raise
        except Transient as error:
            raise Unavailable(self.name, error.reason) from None

    def translated(self, model: str) -> AbstractContextManager[None]:
        """The network's errors as Postroom's."""
        return self._translated()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpcore.TimeoutException as error:
            raise Unavailable(self.name, f"{self.address} does not answer: {type(error).__name__}") from None
        except egress.Deadline:
            raise Transient(f"{self.address} took too long; see [model] call_timeout") from None
        except egress.AddressRefused as error:
            said = f"{self.address}: {error.reason}; set allow_private in {self.where.split()[0]}"
            raise Unavailable(self.name, said) from None
        except (httpcore.ConnectError, OSError) as error:
            raise Unavailable(self.name, f"cannot connect to {self.address}: {error}") from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise Failed(f"{self.address} broke the connection: {type(error).__name__}") from None
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise Failed(f"{self.address} does not answer as OpenAI's API does: {type(error).__name__}") from None

    def _said(self, response: Response, said: str, model: str) -> Exception:
        """What an answer other than 200 means."""
        status = response.status
        if status in {400, 413, 422} and means_too_long(said):
            return TooLong(f"the server refuses the prompt: {said}")
        if status == 404 and model:
            return Unavailable(self.model_name(model), f"{self.address} has no model {model}: {said}")
        if status in {401, 403, 404}:
            return Unavailable(self.name, f"{self.address} refuses us (HTTP {status}): {said}")
        if status in {429, 503}:
            wish = retry_after(response.headers.get("retry-after", ""), time.time())
            wait = BUSY_WAIT if wish is None and status == 429 else wish
            self._left_alone_until = time.monotonic() + (wait or 0)
            return Busy(self.name, f"{self.address} is busy: {said}", retry_after=wait)
        return Failed(f"{self.address} answered {status}: {said}")


def _body(wish: Ask) -> dict[str, Any]:
    """The request. A begun answer at its end is left out: most servers would answer it instead of going on with it."""
    begun = wish.logprobs and wish.messages[-1]["role"] == "assistant"
    own = {name: value for name, value in wish.options.items() if name not in OLLAMAS_OWN}
    body: dict[str, Any] = {
        "temperature": 0,
        **own,
        "model": wish.model,
        "messages": wish.messages[:-1] if begun else wish.messages,
        "max_tokens": max(wish.predict, LABEL_TOKENS) if begun else wish.predict,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if wish.schema:
        form = {"name": "answer", "strict": True, "schema": wish.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    if wish.logprobs:
        body |= {"logprobs": True, "top_logprobs": TOP}
    return body


def _without(declined: Container[str], body: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in body.items() if name not in declined}
    return kept if "max_tokens" in kept else {**kept, "max_completion_tokens": body["max_tokens"]}


class Label:
    """The log-probabilities of what comes after a begun answer, found in an answer that was written from its start."""

    def __init__(self, wish: Ask) -> None:
        last = wish.messages[-1]
        self._start = last["content"].removeprefix(PREFIX) if wish.logprobs and last["role"] == "assistant" else None
        self._written = ""
        self._found: dict[str, float] | None = None

    def take(self, tokens: Any) -> None:
        """More of the answer's tokens, as the API tells them."""
        for one in tokens if self._start is not None and self._found is None else ():
            opened = _OPENED.match(self._written)
            rest = self._written[opened.end() :] if opened else self._written.lstrip()
            is_word = opened or self._start or one["token"].strip()[:1].isalpha()  # a label alone, without the JSON
            if rest == self._start and is_word:
                self._found = {top["token"]: float(top["logprob"]) for top in one.get("top_logprobs") or ()}
                return
            self._written += one["token"]

    def next_token(self) -> dict[str, float] | None:
        """None when the server told none, or the model did not write what was to be begun with."""
        return self._found or None


def _context(listed: Mapping[str, Any]) -> int:
    """Tokens that a server says of a model; 0 when it says none."""
    told = (listed.get("max_model_len"), (listed.get("meta") or {}).get("n_ctx"), listed.get("context_length"))
    return next((value for value in told if isinstance(value, int) and value > 0), 0)


def _words(error: Any) -> str:
    said = error.get("message") if isinstance(error, dict) else error
    return " ".join(str(said or json.dumps(error)).split())[:300]
