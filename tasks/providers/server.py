"""One server of models: what a call to any kind of them goes through, before and after it.

A call that cannot fit is not made; one to a server that keeps failing is not either; what comes back is checked for lost
text, since servers cut in silence.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import structlog

from config.models import address_of
from tasks import meters, tracing
from tasks.errors import Transient
from tasks.guard import guard
from tasks.judging.budget import TEMPLATE_TOKENS, estimate, fewest
from tasks.judging.calls import Answer, Ask, OnProgress, Progress, TooLong
from tasks.judging.tail import Tail

TOP = 20
"""Alternatives asked for at the label's token: the most that servers give."""
_log = structlog.get_logger("postroom.model")


class Failed(Transient):
    """This server could not answer: it broke off or failed within. Another one may."""


class Server(ABC):
    """One address. Threads may share it."""

    kind: str
    """Of its API; also the first word of its name among the dependencies."""
    where: str
    """The setting that names it."""

    def __init__(self, host: str, port: int, call_timeout: float) -> None:
        """`port` is taken where `host` names none. `call_timeout`: seconds."""
        self.host = host
        self.address = address_of(host, port)
        self.name = f"{self.kind}:{self.address}"
        self._call_timeout = call_timeout

    @abstractmethod
    def context_limit(self, model: str) -> int:
        """The longest context (tokens) of a model. Raises Unavailable when the server or the model is not there."""

    def ask(self, wish: Ask, progress: OnProgress | None = None) -> Answer:
        """Make one call and give its checked answer.

        Raises TooLong when the prompt did not fit, Unavailable when the server or the model is not there, Failed when
        the answer broke off, Transient when it took too long. An answer that ran out of tokens is no error here:
        `done_reason` is `length`.
        """
        expected = sum(estimate(message["content"]) + TEMPLATE_TOKENS for message in wish.messages)
        if expected + wish.predict > wish.num_ctx:
            factor = (expected + wish.predict) / wish.num_ctx
            raise TooLong(f"about {expected} tokens do not fit into {wish.num_ctx}", factor)
        started = time.monotonic()
        with tracing.model_call(wish.model, self.host, wish.predict, wish.phase, self.kind) as told:
            with self.asking(wish.model):
                answer = Streamed(wish, started, self._call_timeout, progress)
                self.stream(wish, answer)
            told.set(
                gen_ai__usage__input_tokens=answer.prompt_tokens,
                gen_ai__usage__output_tokens=answer.output_tokens,
                gen_ai__response__finish_reasons=(answer.done_reason,),
            )
        _log.debug(
            "model_call",
            phase=wish.phase,
            model=wish.model,
            host=self.address,
            prompt_tokens=answer.prompt_tokens,
            expected_tokens=expected,
            output_tokens=answer.output_tokens,
            done_reason=answer.done_reason,
            seconds=round(time.monotonic() - started, 3),
        )
        if answer.tells_tokens:
            _check_nothing_was_cut(wish, answer, expected)
        return answer

    @abstractmethod
    def stream(self, wish: Ask, into: Streamed) -> None:
        """Ask, and put what comes into `into`. Errors of the network are translated by `translated`."""

    @abstractmethod
    def embed(self, model: str, text: str) -> list[float]:
        """What `text` means to `model`. Raises TooLong where it does not fit, else as `ask` does."""

    @abstractmethod
    def probe(self) -> None:
        """A question that costs the server nothing. Raises Unavailable when it isn't answered in the time to connect."""

    @abstractmethod
    def names(self) -> frozenset[str]:
        """The models that it has. Raises Unavailable when it isn't told in the time to connect."""

    @abstractmethod
    def to_get(self, model: str) -> str:
        """What a person does so that it has `model`."""

    @abstractmethod
    def translated(self, model: str) -> AbstractContextManager[None]:
        """The errors of its client, as Postroom's."""

    @contextmanager
    def asking(self, model: str) -> Iterator[None]:
        """A server that is away, and one that lacks this model, are two outages: other models go on in the second."""
        with guard(self.name).call(self.probe), guard(self.model_name(model)).call(), self.translated(model):
            yield

    def model_name(self, model: str) -> str:
        """The model here, as a dependency."""
        return f"model:{model} at {self.address}"

    def is_left_alone(self, model: str) -> bool:
        """Whether its breaker, or this model's, keeps calls back now."""
        return "open" in {guard(name).breaker.state()[0] for name in (self.name, self.model_name(model))}


class Streamed(Answer):
    """An answer while it comes in."""

    def __init__(self, wish: Ask, started: float, seconds: float, progress: OnProgress | None) -> None:
        super().__init__()
        self._wish = wish
        self._started = started
        self._seconds = seconds
        self._progress = progress
        self._pieces: list[str] = []
        self._tail = Tail(wish.secret)
        self._heard: float | None = None

    def piece(self, text: str) -> None:
        """More of the text. Raises Transient when it goes on for longer than a call may."""
        if time.monotonic() > self._started + self._seconds:
            raise Transient(f"the model wrote longer than {self._seconds:g} s; see [model] call_timeout")
        if not text:
            return
        if self._heard is None:
            self._heard = time.monotonic() - self._started
        self._pieces.append(text)
        if self._progress:
            self._tail.add(text)
            self._progress(Progress(phase=self._wish.phase, tokens=len(self._pieces), tail=self._tail.shown()))

    def ends(self) -> None:
        """All has come. Raises Failed when the server did not say so."""
        if not self.done_reason:
            raise Failed("the model's answer broke off before its end")
        self.text = "".join(self._pieces)
        self.output_tokens = self.output_tokens or len(self._pieces)
        whole = time.monotonic() - self._started
        meters.model_called(self._wish.model, self._heard, whole, self.prompt_tokens, self.output_tokens)


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


def means_too_long(said: str) -> bool:
    """Whether a server's words say that a prompt does not fit its context."""
    lowered = said.casefold()
    return "context" in lowered and any(
        word in lowered for word in ("exceed", "longer", "too long", "too large", "overflow", "maximum")
    )
