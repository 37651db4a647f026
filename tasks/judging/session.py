"""One job's calls: which model with which options, what they cost, and how much text fits into each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from config.engine import ModelSettings
from config.models import Task, chosen
from config.routes import Route
from tasks.errors import Busy, Unavailable
from tasks.judging.budget import TEMPLATE_TOKENS, estimate, split
from tasks.judging.calls import Answer, Ask, Engine, OnProgress, Progress, TooLong
from tasks.prompts import Material, Messages, Part, canary

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


@dataclass
class Bill:
    """What one job's calls came to, of all its sessions."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    models: list[str] = field(default_factory=list)
    """Those that answered, in order of their first answer."""
    notes: list[str] = field(default_factory=list)
    fallen: dict[str, str] = field(default_factory=dict)
    """Models that another one was asked instead of, and why."""
    text: int = 0
    """Tokens of the job's text, for which contexts are chosen."""
    done: float = 0.0
    goal: float = 0.0
    """Shares of the whole work: what is done, and what the calls under way bring it to."""


class Session:
    """Asks the model of one task on behalf of one job, and keeps the bill."""

    def __init__(
        self,
        engine: Engine,
        settings: ModelSettings,
        route: Route,
        progress: OnProgress | None,
        task: Task = "classify",
        bill: Bill | None = None,
    ) -> None:
        """Raises Unavailable when neither the model nor its fallback is there."""
        self._engine, self._settings, self._route, self._progress = engine, settings, route, progress
        self._chosen = chosen(task, settings, route.model)
        self._spare = self._chosen.fallback
        own = route.model.document_time
        self.document_time = (settings.document_time if own is None else own) or math.inf
        """Seconds after which no further part of a long text is begun."""
        self.bill = bill or Bill()
        known = self.bill.fallen.get(self._chosen.name)
        if known and self.fall_back(known):
            return
        try:
            self._take(self._chosen.name)
        except Unavailable as error:
            self._or_fall_back(error)

    def of(self, task: Task) -> Session:
        """A session of the same job for another task, on the same bill."""
        return Session(self._engine, self._settings, self._route, self._progress, task, self.bill)

    def _take(self, model: str) -> None:
        options: dict[str, Any] = dict(self._chosen.options)
        wanted = int(options.pop("num_ctx", self._settings.num_ctx))
        limit = self._engine.context_limit(model)
        self.num_ctx = min(wanted, limit)
        self._most_ctx = min(self._settings.max_ctx, limit)
        self.predict = min(int(options.pop("num_predict", self._settings.max_output)), self.num_ctx // 2)
        self.model, self._options = model, options
        self.fit(self.bill.text)

    def fits(self, tokens: int) -> bool:
        """Whether a form about `tokens` of text fits into one call."""
        return tokens + self.predict + OVERHEAD <= self.num_ctx

    def fit(self, tokens: int) -> None:
        """Choose the context for a job with `tokens` of text: the usual one, doubled until it is enough or may not grow.

        Doubled, so that there are few sizes: the server loads the model anew for each.
        """
        self.bill.text = tokens
        while not self.fits(tokens) and self.num_ctx < self._most_ctx:
            self.num_ctx = min(2 * self.num_ctx, self._most_ctx)

    def toward(self, share: float) -> None:
        """The calls from here on bring the work to `share` (0 to 1) of the whole. What is begun counts as done."""
        bill = self.bill
        bill.done, bill.goal = max(bill.done, bill.goal), max(bill.goal, share)

    def fall_back(self, why: str) -> bool:
        """From now on ask the other model, because of `why`; False when there is none, none any more, or it is not there."""
        if not self._spare:
            return False
        model, self._spare = self._spare, ""
        try:
            self._take(model)
        except Unavailable:
            return False
        self.bill.fallen[self._chosen.name] = why
        self.note(f"{model} was asked instead of {self._chosen.name}: {why}")
        return True

    def _or_fall_back(self, error: Unavailable) -> None:
        """Raises `error` where no other model can answer. One that is only busy is waited for."""
        if isinstance(error, Busy) or not self.fall_back(error.reason):
            raise error

    def ask(
        self,
        messages: Messages,
        phase: str,
        *,
        predict: int | None = None,
        schema: dict[str, Any] | None = None,
        logprobs: bool = False,
    ) -> Answer:
        """Make one call. Raises as tasks.hosts.Hosts.ask does, for the model and its fallback."""
        self._tell(Progress(phase=phase, tokens=0))
        try:
            answer = self._ask(messages, phase, predict, schema, logprobs=logprobs)
        except Unavailable as error:
            self._or_fall_back(error)
            answer = self._ask(messages, phase, predict, schema, logprobs=logprobs)
        bill = self.bill
        bill.done = (bill.done + bill.goal) / 2  # how many calls there will be is not known: each takes half the way
        bill.prompt_tokens += answer.prompt_tokens
        bill.output_tokens += answer.output_tokens
        if self.model not in bill.models:
            bill.models.append(self.model)
        return answer

    def _ask(
        self, messages: Messages, phase: str, predict: int | None, schema: dict[str, Any] | None, *, logprobs: bool
    ) -> Answer:
        tokens = min(predict or self.predict, self.predict)
        keep_alive = self._chosen.keep_alive
        secret = canary(self._route)
        wish = Ask(
            self.model, messages, phase, tokens, self.num_ctx, self._options, schema, logprobs, keep_alive, secret
        )
        return self._engine.ask(wish, self._tell)

    def _tell(self, told: Progress) -> None:
        """Pass on how far the call is, as a percentage of the whole: a call's own half of the way fills as it writes."""
        if self._progress:
            bill, within = self.bill, told.tokens / (told.tokens + HALFWAY) / 2
            percent = int(100 * (bill.done + (bill.goal - bill.done) * within))
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
        if sentence not in self.bill.notes:
            self.bill.notes.append(sentence)


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
