"""What the processes count and time, for /metrics: the catalogue, and one function per thing that happens.

Counts are kept in memory and carried to the ledger every few seconds (tasks/recorder.py), so that the figures are those of
all processes on all hosts and go on where they stood after a restart. A process that is killed takes with it what it
counted in those seconds, less than one that is scraped itself would lose.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tasks.ledger import Gauge, Tally
from tasks.models import Stage

END = "+Inf"
SUM = "sum"


@dataclass(frozen=True)
class Meter:
    """One family of figures. `buckets` are the upper bounds of a histogram, in its unit."""

    name: str
    kind: Literal["counter", "histogram", "gauge"]
    says: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


STAGE_SECONDS = Meter(
    "postroom_stage_seconds",
    "histogram",
    "How long stages took, by what became of them: done, review, failed, waits, unavailable, lost.",
    ("stage", "outcome"),
    (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900),
)
ATTEMPTS = Meter(
    "postroom_delivery_attempts",
    "counter",
    "Attempts to deliver by outcome; `target` is an endpoint's name, empty for mail.",
    ("transport", "target", "outcome"),
)
FIRST_TOKEN = Meter(
    "postroom_model_first_token_seconds",
    "histogram",
    "From the question to the first word of the model's answer, its loading and the prompt's reading included.",
    ("model",),
    (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320),
)
CALL_SECONDS = Meter(
    "postroom_model_call_seconds",
    "histogram",
    "From the question to the end of the model's answer.",
    ("model",),
    (0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640),
)
TOKENS = Meter("postroom_model_tokens", "counter", "Tokens read (prompt) and written (output).", ("model", "kind"))
WRITING = Meter(
    "postroom_model_writing_seconds",
    "counter",
    "Time between the first and the last token of answers; output tokens by this are tokens a second.",
    ("model",),
)
TICK_SECONDS = Meter(
    "postroom_rescue_tick_seconds",
    "histogram",
    "How long one look of the rescue took.",
    (),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
PUBLISHED = Meter("postroom_rescue_published", "counter", "Jobs that the rescue published to the broker.")
RECEIVED = Meter(
    "postroom_messages_received", "counter", "Messages accepted, by way in; half a minute late.", ("source",)
)
BREAKER = Meter("postroom_breaker_open", "gauge", "1: calls are held back, for it keeps failing.", ("dependency",))
TICKED = Meter("postroom_rescue_ticked", "gauge", "When the rescue last looked, in seconds since the epoch.")

CATALOGUE = (STAGE_SECONDS, ATTEMPTS, FIRST_TOKEN, CALL_SECONDS, TOKENS, WRITING, TICK_SECONDS, PUBLISHED, RECEIVED)
"""What is added up over all processes. The others are as each process last told."""


class Meters:
    """What this process has counted since it was last taken. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[tuple[str, str, str], float] = {}
        self._gauges: dict[tuple[str, str], float] = {}

    def add(self, meter: Meter, value: float, *labels: str) -> None:
        """Count `value` more."""
        with self._lock:
            self._more(meter.name, _key(meter, labels), "", value)

    def observe(self, meter: Meter, value: float, *labels: str) -> None:
        """Put one value into a histogram."""
        place = bisect_left(meter.buckets, value)
        bound = f"{meter.buckets[place]:g}" if place < len(meter.buckets) else END
        with self._lock:
            key = _key(meter, labels)
            self._more(meter.name, key, bound, 1)
            self._more(meter.name, key, SUM, value)

    def set(self, meter: Meter, value: float, *labels: str) -> None:
        """Tell how something stands in this process."""
        with self._lock:
            self._gauges[meter.name, _key(meter, labels)] = value

    def take(self) -> list[Tally]:
        """What was counted, which begins anew from nothing."""
        with self._lock:
            taken, self._sums = self._sums, {}
        return [Tally(*key, value) for key, value in sorted(taken.items())]

    def give_back(self, tallies: list[Tally]) -> None:
        """It could not be written down: it counts as new."""
        with self._lock:
            for one in tallies:
                self._more(one.name, one.labels, one.part, one.value)

    def gauges(self) -> list[Gauge]:
        """How everything stands."""
        with self._lock:
            return [Gauge(name, labels, value) for (name, labels), value in sorted(self._gauges.items())]

    def _more(self, name: str, labels: str, part: str, value: float) -> None:
        key = (name, labels, part)
        self._sums[key] = self._sums.get(key, 0.0) + value


def _key(meter: Meter, labels: tuple[str, ...]) -> str:
    return json.dumps(dict(zip(meter.labels, labels, strict=True)), ensure_ascii=False)


def labels_of(text: str) -> Mapping[str, str]:
    """The labels in a tally's key."""
    found: dict[str, str] = json.loads(text)
    return found


METERS = Meters()
"""This process's own."""


def stage_ended(stage: Stage, outcome: str, seconds: float) -> None:
    """A stage came to its end in a worker."""
    METERS.observe(STAGE_SECONDS, seconds, stage.value, outcome)


def attempted(transport: str, target: str, outcome: str) -> None:
    """One attempt to deliver has ended. Mail addresses are no label: there are too many, and they are people's."""
    METERS.add(ATTEMPTS, 1, transport, target if transport == "webhook" else "", outcome)


def model_called(model: str, first: float | None, whole: float, prompt_tokens: int, output_tokens: int) -> None:
    """The model answered: seconds to its first word (None: it said nothing) and to its end."""
    METERS.observe(CALL_SECONDS, whole, model)
    METERS.add(TOKENS, prompt_tokens, model, "prompt")
    METERS.add(TOKENS, output_tokens, model, "output")
    if first is not None:
        METERS.observe(FIRST_TOKEN, first, model)
        METERS.add(WRITING, whole - first, model)


def breaker(dependency: str, *, is_open: bool) -> None:
    """How a breaker of this process stands after a call."""
    METERS.set(BREAKER, float(is_open), dependency)


def rescue_ticked(at_ms: int, seconds: float, published: int) -> None:
    """The rescue has looked once."""
    METERS.observe(TICK_SECONDS, seconds)
    METERS.set(TICKED, at_ms / 1000)
    if published:
        METERS.add(PUBLISHED, published)
