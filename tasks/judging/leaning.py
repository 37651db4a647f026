"""What a model answers when there is nothing to judge: its leaning, which is then taken out of what it says of a document.

A weak model that does not know takes one label rather than another, whatever it reads; here mostly the one for "anything
else". What it says of a text without content shows by how much (contextual calibration: T. Zhao et al., Calibrate Before
Use, 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tasks.prompts import Material, Part

BLANK = Material("", "", (Part("text", "N/A"),))
"""The text without content."""
LEAST = 0.001
"""A label's share of the blank counts as this much at least: below it the server tells nothing."""

Shares = Mapping[str, float]


def evened(shares: Shares, leaning: Shares, power: float) -> dict[str, float]:
    """`shares` of a document without the `leaning`; both are of the same labels and add up to 1.

    `power` is how much of it is taken out, 0 to 1 ([model] evening). All is too much: that nothing is "anything else" is
    half right. Of the tuning half of tests/eval 0.90 to 0.92 of the labels were right with 0.4 and 0.5, 0.76 with 0, 0.81
    with 1.
    """
    weights = {label: share / max(leaning[label], LEAST) ** power for label, share in shares.items()}
    total = sum(weights.values())
    return {label: weight / total for label, weight in weights.items()}


class Leanings:
    """Those of the models and questions that this process has asked."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], dict[str, float]] = {}

    def of(self, model: str, question: str, ask: Callable[[], dict[str, float] | None]) -> dict[str, float] | None:
        """That of `model` about `question` (calibrations.question_of); `ask` measures it at the first time.

        None, and measured again the next time, when the model gave no probabilities.
        """
        key = model, question
        if key not in self._known:
            measured = ask()
            if measured is None:
                return None
            self._known[key] = measured
        return self._known[key]
