"""What one call to the model is made of: the wish, the answer, the progress, and the prompt that did not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tasks.errors import Permanent
from tasks.models import Noun
from tasks.prompts import Messages


class Progress(Noun):
    """How far a stage's work with the model is: told before each call, and for each piece that streams in."""

    phase: str
    """`label`, `fields`, `summary` or `reply`."""
    tokens: int
    """Tokens written so far in this call."""
    percent: int = 0
    """Of the stage's work, 0 to 100; never less than before."""
    tail: str = ""
    """The end of what is written so far in this call, as tasks.judging.tail tells it."""


OnProgress = Callable[[Progress], None]


class TooLong(Permanent):
    """A prompt was longer than the context: nothing of its answer counts. `factor` is how far the estimate was off."""

    def __init__(self, reason: str, factor: float = 2.0) -> None:
        super().__init__(reason)
        self.factor = factor


@dataclass(frozen=True)
class Ask:
    """One call's wishes."""

    model: str
    messages: Messages
    phase: str
    predict: int
    """Tokens that the answer may have."""
    num_ctx: int
    options: Mapping[str, Any] = field(default_factory=dict)
    schema: dict[str, Any] | None = None
    logprobs: bool = False
    keep_alive: str = ""
    """How long the server shall hold the model; empty: as [model] says."""
    secret: str = ""
    """What stands in the messages and must not be shown of the answer."""


@dataclass
class Answer:
    """What one call came to."""

    text: str = ""
    next_token: dict[str, float] | None = None
    """Log-probabilities of the first token, when asked for and told."""
    done_reason: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    tells_tokens: bool = True
    """Whether the server counted the tokens."""


class Engine(Protocol):
    """Whatever answers: tasks/model.py's Models."""

    def context_limit(self, model: str) -> int:
        """The longest context of a model, in tokens."""

    def ask(self, wish: Ask, progress: OnProgress | None = None) -> Answer:
        """Make one call."""
