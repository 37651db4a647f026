"""From the log-probabilities of the next token to a probability for each label."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

LEAST_COVERAGE = 0.3
"""Probability that has to fall on labels at all; below it the model did not answer the question it was asked."""
LEAST_BRANCH = 0.02
"""A beginning that several labels share is followed when at least this much probability rests on it."""
DEEPEST = 6
"""Calls that one label may take, when beginnings collide again and again."""

NextToken = Callable[[str], Mapping[str, float] | None]
"""Log-probabilities of what comes after a given start of the label; None when the server tells none."""


def probabilities(labels: Sequence[str], next_token: NextToken) -> dict[str, float] | None:
    """Every label's share, adding up to 1; None when the server tells no probabilities or the model left the form.

    A token that begins several labels (`com` of `complaint` and `comment`) is asked further, until they part.
    """
    mass = _mass("", labels, next_token, 1.0, 0)
    total = sum(mass.values()) if mass is not None else 0.0
    if mass is None or total < LEAST_COVERAGE:
        return None
    return {label: mass[label] / total for label in labels}


def _mass(
    start: str, labels: Sequence[str], next_token: NextToken, share: float, depth: int
) -> dict[str, float] | None:
    told = next_token(start)
    if told is None:
        return None
    mass = dict.fromkeys(labels, 0.0)
    shared: dict[str, float] = {}
    for token, logprob in told.items():
        written = (start + token).casefold()
        meant = [label for label in labels if _begins(label, written)]
        weight = share * math.exp(logprob)
        if len(meant) == 1:
            mass[meant[0]] += weight
        elif len(meant) > 1 and token:
            shared[start + token] = shared.get(start + token, 0.0) + weight
    for longer, weight in shared.items():
        meant = [label for label in labels if _begins(label, longer.casefold())]
        deeper = (
            _mass(longer, meant, next_token, weight, depth + 1) if weight >= LEAST_BRANCH and depth < DEEPEST else None
        )
        for label in meant:
            mass[label] += deeper[label] if deeper else weight / len(meant)
    return mass


def _begins(label: str, written: str) -> bool:
    """Whether `written` is a beginning of `label`, or the whole label and the closing quote after it."""
    if written.startswith(label):
        return written[len(label) :].startswith('"') or written == label
    return bool(written) and label.startswith(written)


def vote(ballots: Sequence[tuple[Mapping[str, float], float]]) -> dict[str, float]:
    """The weighted mean of several distributions over the same labels; each ballot is (distribution, weight)."""
    total = sum(weight for _, weight in ballots)
    return {label: sum(shares[label] * weight for shares, weight in ballots) / total for label in ballots[0][0]}


def agreed(first: str, second: str, labels: Sequence[str]) -> dict[str, float]:
    """Shares for two answers to differently ordered prompts: sure when they agree, halved when they don't.

    The numbers say only that agreement is more often right; they are not measured on any model.
    """
    rest = 0.1 / max(1, len(labels) - 1)
    return {label: (0.9 if first == second else 0.45) if label in {first, second} else rest for label in labels}
