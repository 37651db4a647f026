"""What one model made of one case: written as a line as soon as it is known, so that a run that was killed goes on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field as Attribute

from tasks.models import Noun

Way = Literal["postroom", "plain"]
"""`postroom`: as the stages judge. `plain`: one sampled JSON call in which the model rates its own confidence."""


class Value(Noun):
    """One value that was read."""

    name: str
    value: str
    supported: bool
    """Found again in the text. What is not is never sent; the plain way does not look, and sends it all the same."""


class Outcome(Noun):
    """One line of a run."""

    case: str
    model: str
    way: Way = "postroom"
    label: str = ""
    confidence: float = 0.0
    raw_confidence: float = 0.0
    """Before calibration: what a new calibration is made from."""
    method: str = ""
    values: tuple[Value, ...] = ()
    review: str = ""
    """Why a person would look first; empty: it would go out unseen."""
    notes: tuple[str, ...] = ()
    summary: str = ""
    seconds_reading: float = 0.0
    seconds_judging: float = 0.0
    prompt_tokens: int = 0
    output_tokens: int = 0
    error: str = ""
    """Why there is no answer at all."""

    @property
    def key(self) -> tuple[str, str, Way]:
        """What is run once: case, model and way."""
        return self.case, self.model, self.way

    @property
    def sent(self) -> tuple[Value, ...]:
        """The values that would have gone out without anybody looking."""
        if self.review or self.error:
            return ()
        return tuple(one for one in self.values if one.supported or self.way == "plain")


class Header(Noun):
    """The first line of a run."""

    fingerprint: str
    """Hash of all that the answers depend on: files, routes, prompts, models, ways. Another one is another run."""
    folder: str
    half: str
    models: tuple[str, ...]
    ways: tuple[Way, ...]
    cases: tuple[str, ...]
    min_confidence: float
    started_at: int = Attribute(description="Milliseconds since the epoch.")
