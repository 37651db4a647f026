"""One job's calls: which model with which options, what they cost, and how much text fits into each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from config.engine import ModelSettings
from config.routes import Route
from tasks.judging.budget import TEMPLATE_TOKENS, estimate, split
from tasks.judging.calls import Answer, Ask, Engine, OnProgress, Progress, TooLong
from tasks.prompts import Material, Messages, Part

SMALLEST_ROOM = 64
"""Tokens for text below which splitting further is no use."""
ATTEMPTS = 4
"""How often a prompt is made smaller when the server counted more tokens than were expected."""
FRAME = 40
"""Tokens of the lines around a part: its name, its marks, its number."""

OVERHEAD = 1200
"""Tokens of instructions, form and repair beside the text, when the context is chosen."""
HALFWAY = 60
"""Tokens after which a call counts as half written: the usual answer has about twice as many."""

Result = TypeVar("Result")


class Session:
    """Asks the model on behalf of one job and keeps the bill."""

    def __init__(self, engine: Engine, settings: ModelSettings, route: Route, progress: OnProgress | None) -> None:
        self._engine = engine
        self._progress = progress
        self.model = route.model.name or settings.name
        self._options: dict[str, Any] = dict(route.model.options)
        wanted = int(self._options.pop("num_ctx", settings.num_ctx))
        limit = engine.context_limit(self.model)
        self.num_ctx = min(wanted, limit)
        self._most_ctx = min(settings.max_ctx, limit)
        self.predict = min(int(self._options.pop("num_predict", settings.max_output)), self.num_ctx // 2)
        self.prompt_tokens = 0
        self.output_tokens = 0
        own = route.model.document_time
        self.document_time = (settings.document_time if own is None else own) or math.inf
        """Seconds after which no further part of a long text is begun."""
        self.notes: list[str] = []
        self._done = self._goal = 0.0

    def fits(self, tokens: int) -> bool:
        """Whether a form about `tokens` of text fits into one call."""
        return tokens + self.predict + OVERHEAD <= self.num_ctx

    def fit(self, tokens: int) -> None:
        """Choose the context for a job with `tokens` of text: the usual one, doubled until it is enough or may not grow.

        Doubled, so that there are few sizes: the server loads the model anew for each.
        """
        while not self.fits(tokens) and self.num_ctx < self._most_ctx:
            self.num_ctx = min(2 * self.num_ctx, self._most_ctx)

    def toward(self, share: float) -> None:
        """The calls from here on bring the work to `share` (0 to 1) of the whole. What is begun counts as done."""
        self._done, self._goal = max(self._done, self._goal), max(self._goal, share)

    def ask(
        self,
        messages: Messages,
        phase: str,
        *,
        predict: int | None = None,
        schema: dict[str, Any] | None = None,
        logprobs: bool = False,
    ) -> Answer:
        """Make one call. Raises as tasks.model.Ollama.ask does."""
        tokens = min(predict or self.predict, self.predict)
        wish = Ask(self.model, messages, phase, tokens, self.num_ctx, self._options, schema, logprobs)
        self._tell(Progress(phase=phase, tokens=0))
        answer = self._engine.ask(wish, self._tell)
        self._done = (self._done + self._goal) / 2  # how many calls there will be is not known: each takes half the way
        self.prompt_tokens += answer.prompt_tokens
        self.output_tokens += answer.output_tokens
        return answer

    def _tell(self, told: Progress) -> None:
        """Pass on how far the call is, as a percentage of the whole: a call's own half of the way fills as it writes."""
        if self._progress:
            within = told.tokens / (told.tokens + HALFWAY) / 2
            percent = int(100 * (self._done + (self._goal - self._done) * within))
            self._progress(told.model_copy(update={"percent": percent}))

    def end(self, phase: str) -> None:
        """Tell that all is done."""
        self.toward(1.0)
        self.toward(1.0)
        self._tell(Progress(phase=phase, tokens=0))

    def room(self, frame: Messages, spare: int) -> int:
        """Tokens left for documents beside the messages of `frame` and `spare` tokens for answers and repairs."""
        return self.num_ctx - spare - sum(estimate(message["content"]) + TEMPLATE_TOKENS for message in frame)

    def note(self, sentence: str) -> None:
        """Keep a remark for the admin, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)


def shrinking(room: int, attempt: Callable[[int], Result]) -> Result:
    """Run `attempt` with `room` tokens for text, and with less whenever the prompt turns out too long.

    Raises TooLong when even little room is too much.
    """
    last: TooLong | None = None
    for _ in range(ATTEMPTS):
        if room < SMALLEST_ROOM:
            break
        try:
            return attempt(room)
        except TooLong as error:
            last, room = error, int(room / max(1.25, error.factor * 1.1))
    raise last or TooLong("the prompt leaves no room for the document; raise [model] num_ctx or shorten the route")


def batches(parts: Sequence[Part], room: int) -> list[tuple[Part, ...]]:
    """All text of `parts` in as few prompts as hold it, each within `room` tokens; nothing is left out."""
    pieces = [piece for part in parts for piece in _pieces(part, room)]
    packed: list[list[Part]] = [[]]
    left = room
    for piece in pieces:
        cost = estimate(piece.text) + estimate(piece.name) + FRAME
        if packed[-1] and cost > left:
            packed.append([])
            left = room
        packed[-1].append(piece)
        left -= cost
    return [tuple(batch) for batch in packed if batch]


def _pieces(part: Part, room: int) -> list[Part]:
    texts = split(part.text, max(SMALLEST_ROOM // 2, room - FRAME - estimate(part.name) - 12))
    if len(texts) == 1:
        return [part]
    return [Part(f"{part.name}, part {number} of {len(texts)}", text) for number, text in enumerate(texts, 1)]


def shown(material: Material, parts: Sequence[Part]) -> Material:
    """`material` with other parts."""
    return Material(material.subject, material.sender, tuple(parts))
