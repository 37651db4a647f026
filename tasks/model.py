"""The only caller of Ollama: every call streams, has limits of time and tokens, and is checked for lost text.

`Judge` is what the stages use. What is asked, and what becomes of the answers, is in tasks/judging.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import ollama
import structlog
from pydantic import ValidationError

from config.engine import ModelSettings
from config.routes import Route
from tasks import meters, tracing
from tasks.errors import NeedsReview, Transient, Unavailable
from tasks.guard import guard
from tasks.judging.budget import TEMPLATE_TOKENS, estimate, fewest
from tasks.judging.calibrations import Calibrations
from tasks.judging.calls import Answer, Ask, OnProgress, Progress, TooLong
from tasks.judging.classify import FreeText, Trip
from tasks.models import Classification, Document, MailFacts
from tasks.prompts import Prompts

__all__ = ["FreeText", "Judge", "Ollama", "Progress"]

DEFAULT_HOST = "http://127.0.0.1:11434"
TOP = 20
"""Alternatives asked for at the label's token: the most that Ollama gives."""
_log = structlog.get_logger("postroom.model")


class Judge:
    """Says what a job is, reads its fields, and writes the reply's own sentences. Threads may share one."""

    def __init__(
        self, settings: ModelSettings, templates: Path | None = None, calibrations: Path | None = None
    ) -> None:
        """`templates` is the folder with `prompts/`; None takes the shipped one. `calibrations` is a file or None."""
        self._settings = settings
        self._prompts = Prompts(templates / "prompts" if templates else None)
        self._engine = Ollama(settings)
        self._calibrations = Calibrations(calibrations)

    def classify(
        self,
        documents: Sequence[Document],
        mail: MailFacts | None,
        route: Route,
        progress: OnProgress | None = None,
    ) -> Classification:
        """Label, fields and summary of one job; `Classification.review` says why a person has to look, if one has to.

        Raises NeedsReview when there is nothing to read or nothing fits, Unavailable (`ollama:HOST`) when the server
        or the model is not there, Transient when an answer broke off.
        """
        trip = Trip(self._engine, self._prompts, self._settings, route, progress, self._calibrations)
        try:
            return trip.classify(documents, mail)
        except TooLong as error:
            raise NeedsReview(f"the model cannot read it: {error}") from None

    def free_text(
        self,
        documents: Sequence[Document],
        mail: MailFacts | None,
        classification: Classification,
        route: Route,
        progress: OnProgress | None = None,
    ) -> FreeText:
        """A few safe sentences for the reply in the documents' language; empty when none survived cleaning.

        Raises as `classify` does.
        """
        trip = Trip(self._engine, self._prompts, self._settings, route, progress)
        try:
            return trip.free_text(documents, mail, classification)
        except TooLong as error:
            raise NeedsReview(f"the reply's text cannot be written: {error}") from None


class Ollama:
    """A server that speaks Ollama's API: Ollama itself or daemon/embedded/model_server.py."""

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self.host = settings.host or os.environ.get("OLLAMA_HOST") or DEFAULT_HOST
        self._client = ollama.Client(
            host=self.host,
            timeout=httpx.Timeout(settings.read_timeout, connect=settings.connect_timeout),
            trust_env=not _is_loopback(self.host),
        )
        self._limits: dict[str, int] = {}
        self._name = f"ollama:{settings.address()}"

    def context_limit(self, model: str) -> int:
        """The longest context (tokens) that `model` was trained for: Ollama cuts at it, whatever num_ctx says."""
        if model not in self._limits:
            with self._asking(model):
                told = self._client.show(model).modelinfo or {}
            lengths = [int(value) for key, value in told.items() if key.endswith(".context_length")]
            self._limits[model] = min(lengths, default=self._settings.num_ctx)
        return self._limits[model]

    def ask(self, wish: Ask, progress: OnProgress | None = None) -> Answer:
        """Make one call and give its checked answer.

        Raises TooLong when the prompt did not fit, Unavailable when the server or the model is not there, Transient
        when the answer broke off. An answer that ran out of tokens is no error here: `done_reason` is `length`.
        """
        expected = sum(estimate(message["content"]) + TEMPLATE_TOKENS for message in wish.messages)
        if expected + wish.predict > wish.num_ctx:
            factor = (expected + wish.predict) / wish.num_ctx
            raise TooLong(f"about {expected} tokens do not fit into {wish.num_ctx}", factor)
        started = time.monotonic()
        with (
            tracing.model_call(wish.model, self.host, wish.predict, wish.phase) as told,
            self._asking(wish.model),
        ):
            answer = self._stream(wish, started, progress)
            told.set(
                gen_ai__usage__input_tokens=answer.prompt_tokens,
                gen_ai__usage__output_tokens=answer.output_tokens,
                gen_ai__response__finish_reasons=(answer.done_reason,),
            )
        _log.debug(
            "model_call",
            phase=wish.phase,
            model=wish.model,
            prompt_tokens=answer.prompt_tokens,
            expected_tokens=expected,
            output_tokens=answer.output_tokens,
            done_reason=answer.done_reason,
            seconds=round(time.monotonic() - started, 3),
        )
        _check_nothing_was_cut(wish, answer, expected)
        return answer

    def _stream(self, wish: Ask, started: float, progress: OnProgress | None) -> Answer:
        answer, deadline = Answer(), started + self._settings.call_timeout
        pieces: list[str] = []
        heard: float | None = None
        stream = self._client.chat(
            model=wish.model,
            messages=wish.messages,
            stream=True,
            format=wish.schema,
            options={"temperature": 0, **wish.options, "num_ctx": wish.num_ctx, "num_predict": wish.predict},
            keep_alive=self._settings.keep_alive,
            logprobs=wish.logprobs or None,
            top_logprobs=TOP if wish.logprobs else None,
        )
        for part in stream:
            if time.monotonic() > deadline:
                raise Transient(
                    f"the model wrote longer than {self._settings.call_timeout:g} s; see [model] call_timeout"
                )
            if part.message.content:
                heard = time.monotonic() - started if heard is None else heard
                pieces.append(part.message.content)
                if progress:
                    progress(Progress(phase=wish.phase, tokens=len(pieces)))
            if answer.next_token is None and part.logprobs:
                first = part.logprobs[0]
                answer.next_token = {top.token: top.logprob for top in first.top_logprobs or ()} or None
            if part.done:
                answer.done_reason = part.done_reason or "stop"
                answer.prompt_tokens = part.prompt_eval_count or 0
                answer.output_tokens = part.eval_count or len(pieces)
        if not answer.done_reason:
            raise Transient("the model's answer broke off before its end")
        answer.text = "".join(pieces)
        whole = time.monotonic() - started
        meters.model_called(wish.model, heard, whole, answer.prompt_tokens, answer.output_tokens)
        return answer

    @contextmanager
    def _asking(self, model: str) -> Iterator[None]:
        """A server that is away, and one that lacks this model, are two outages: other models go on in the second."""
        with guard(self._name).call(self._probe), guard(self._model_name(model)).call(), self._translated(model):
            yield

    def _model_name(self, model: str) -> str:
        return f"model:{model} at {self._settings.address()}"

    def _probe(self) -> None:
        """A question that costs a server nothing. Raises Unavailable when it does not answer within the time to connect."""
        try:
            httpx.get(
                f"{self._settings.address()}/api/version",
                timeout=self._settings.connect_timeout,
                trust_env=not _is_loopback(self.host),
            )
        except httpx.HTTPError as error:
            raise Unavailable(self._name, f"{self.host} does not answer: {type(error).__name__}") from None

    @contextmanager
    def _translated(self, model: str) -> Iterator[None]:
        """The client's errors as Postroom's."""
        try:
            yield
        except ollama.ResponseError as error:
            raise self._said(error, model) from None
        except (httpx.ConnectError, httpx.TimeoutException, ConnectionError) as error:
            raise Unavailable(self._name, f"{self.host} does not answer: {type(error).__name__}") from None
        except httpx.TransportError as error:
            raise Transient(f"{self.host} broke the connection: {type(error).__name__}") from None
        except (ValidationError, ValueError) as error:
            raise Transient(f"{self.host} does not answer as Ollama does: {type(error).__name__}") from None

    def _said(self, error: ollama.ResponseError, model: str) -> Exception:
        said = " ".join(str(error.error).split())[:300]
        if _means_too_long(said):
            return TooLong(f"the server refuses the prompt: {said}")
        if error.status_code == 404:
            what_to_do = f"run `ollama pull {model}` there or change [model] name"
            return Unavailable(self._model_name(model), f"{self.host} has no model {model}; {what_to_do}")
        if error.status_code in {401, 403}:
            return Unavailable(self._name, f"{self.host} refuses us (HTTP {error.status_code}): {said}")
        if error.status_code in {429, 503}:
            return Unavailable(self._name, f"{self.host} is busy: {said}")
        when = f"answered {error.status_code}" if error.status_code > 0 else "failed in mid-answer"
        return Transient(f"{self.host} {when}: {said}")


def _check_nothing_was_cut(wish: Ask, answer: Answer, expected: int) -> None:
    """A server cuts what doesn't fit without a word; the tokens that it counted tell.

    No room left beside the answer: it ran over. Fewer than the words that were sent need: something is gone.
    """
    if answer.prompt_tokens + wish.predict > wish.num_ctx:
        factor = max(1.25, answer.prompt_tokens / max(1, expected))
        raise TooLong(f"{answer.prompt_tokens} tokens and the answer do not fit into {wish.num_ctx}", factor)
    least = sum(fewest(message["content"]) for message in wish.messages)
    if answer.prompt_tokens < least:
        raise TooLong(f"the server read {answer.prompt_tokens} tokens of a prompt that has at least {least}")


def _means_too_long(said: str) -> bool:
    lowered = said.casefold()
    return "context" in lowered and any(
        word in lowered for word in ("exceed", "longer", "too long", "too large", "overflow")
    )


def _is_loopback(host: str) -> bool:
    name = urlsplit(host if "//" in host else f"//{host}").hostname or ""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
