"""Makes a confidence mean what it says: of the answers that are told with 0.9, nine in ten are right.

A model's own probability is seldom that. A curve with two numbers, fitted to (probability, was it right) pairs of a
labelled set, moves it to where it belongs without changing the order of answers (Platt scaling: J. Platt, Probabilistic
Outputs for Support Vector Machines, 1999, with his smoothed targets; applied to the log-odds). A curve is good for one
model and one wording of the question, and for nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from pydantic import Field as Attribute

from tasks.models import Noun

Seen = tuple[float, bool]
"""The probability that an answer was told with, and whether it was right."""

LEAST = 30
"""Pairs below which a curve would be made of chance."""
LEAST_OF_EACH = 3
"""Right ones, and wrong ones, among them: without wrong answers there is nothing to learn from."""
_EDGE = 1e-6
_STEPS = 100
_STILL = 1e-10


class NotEnough(ValueError):
    """The pairs cannot make a curve; the message says why and what to do."""


class Curve(Noun):
    """calibrated = 1 / (1 + exp(-(slope x log-odds + intercept))). Slope 1 and intercept 0 change nothing."""

    slope: float = Attribute(1.0, gt=0)
    intercept: float = 0.0

    def apply(self, probability: float) -> float:
        """The calibrated probability, between 0 and 1; a greater one stays the greater one."""
        return _logistic(self.slope * _log_odds(probability) + self.intercept)


def fit(seen: Sequence[Seen]) -> Curve:
    """The curve of greatest likelihood, by Newton's method.

    Raises NotEnough for fewer than LEAST pairs, for fewer than LEAST_OF_EACH right or wrong ones among them, and when
    the probability does not tell right answers from wrong ones at all.
    """
    right = sum(was_right for _, was_right in seen)
    wrong = len(seen) - right
    if len(seen) < LEAST or min(right, wrong) < LEAST_OF_EACH:
        raise NotEnough(
            f"{len(seen)} answers, {wrong} of them wrong, are too few to calibrate with; label at least {LEAST} "
            f"documents, hard ones among them, so that {LEAST_OF_EACH} are judged right and {LEAST_OF_EACH} wrong"
        )
    high, low = (right + 1) / (right + 2), 1 / (wrong + 2)
    slope, intercept = _likeliest([(_log_odds(told), high if was_right else low) for told, was_right in seen])
    if slope <= 0:
        raise NotEnough(
            "the model's probability is no higher for right answers than for wrong ones; take another model"
        )
    return Curve(slope=slope, intercept=intercept)


def _likeliest(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and intercept of the logistic curve through (log-odds, target) points; steps are halved until they help."""
    slope = intercept = 0.0
    loss = _loss(points, slope, intercept)
    for _ in range(_STEPS):
        by_slope, by_intercept = _step(points, slope, intercept)
        size = 1.0
        while size > _STILL:
            tried = slope - size * by_slope, intercept - size * by_intercept
            if (less := _loss(points, *tried)) < loss:
                break
            size /= 2
        else:
            break
        (slope, intercept), loss = tried, less
    return slope, intercept


def _step(points: Sequence[tuple[float, float]], slope: float, intercept: float) -> tuple[float, float]:
    """Newton's step: the gradient through the inverse of the 2 x 2 matrix of second derivatives."""
    g_slope = g_intercept = h_slope = h_both = h_intercept = 0.0
    for x, target in points:
        told = _logistic(slope * x + intercept)
        error, weight = told - target, max(told * (1 - told), 1e-12)
        g_slope, g_intercept = g_slope + error * x, g_intercept + error
        h_slope, h_both, h_intercept = h_slope + weight * x * x, h_both + weight * x, h_intercept + weight
    h_slope, h_intercept = h_slope + 1e-9, h_intercept + 1e-9
    determinant = h_slope * h_intercept - h_both * h_both
    return (
        (h_intercept * g_slope - h_both * g_intercept) / determinant,
        (h_slope * g_intercept - h_both * g_slope) / determinant,
    )


def _loss(points: Sequence[tuple[float, float]], slope: float, intercept: float) -> float:
    """Cross-entropy, written so that no logarithm of zero is taken."""
    total = 0.0
    for x, target in points:
        odds = slope * x + intercept
        total += max(odds, 0.0) - odds * target + math.log1p(math.exp(-abs(odds)))
    return total


def _log_odds(probability: float) -> float:
    kept = min(max(probability, _EDGE), 1 - _EDGE)
    return math.log(kept / (1 - kept))


def _logistic(odds: float) -> float:
    return 1 / (1 + math.exp(-odds)) if odds >= 0 else math.exp(odds) / (1 + math.exp(odds))


def held_out(seen: Sequence[Seen], folds: int = 5) -> list[Seen]:
    """Every pair with its probability calibrated by a curve that was fitted without it: what new documents will see.

    Pair i is in fold i modulo `folds`. Raises as `fit` does, for any of the folds.
    """
    curves = [fit([pair for i, pair in enumerate(seen) if i % folds != fold]) for fold in range(folds)]
    return [(curves[i % folds].apply(told), was_right) for i, (told, was_right) in enumerate(seen)]


def ece(seen: Sequence[Seen], bins: int = 10) -> float:
    """Expected calibration error: how far, on average, told and true shares lie apart in `bins` equal steps (0 to 1)."""
    filled: dict[int, list[Seen]] = {}
    for told, was_right in seen:
        filled.setdefault(min(int(told * bins), bins - 1), []).append((told, was_right))
    apart = sum(abs(sum(told - was_right for told, was_right in group)) for group in filled.values())
    return apart / len(seen) if seen else 0.0


def accuracy_at(seen: Sequence[Seen], coverage: float) -> float:
    """Share of right answers among the most confident `coverage` (0 to 1) of all; 0 for none.

    Answers of equal probability count equally: the border takes a part of each, so that no order is made up.
    """
    wanted = left = max(1.0, coverage * len(seen)) if seen else 0.0
    found = 0.0
    for _, group in groupby(sorted(seen, reverse=True), key=lambda pair: pair[0]):
        rights = [was_right for _, was_right in group]
        taken = min(left, len(rights))
        found += taken * sum(rights) / len(rights)
        left -= taken
        if left <= 0:
            break
    return found / wanted if wanted else 0.0


def above(seen: Sequence[Seen], threshold: float) -> tuple[float, float]:
    """(coverage, accuracy) of the answers told with `threshold` or more; accuracy is 0 when there are none."""
    kept = [was_right for told, was_right in seen if told >= threshold]
    return (len(kept) / len(seen), sum(kept) / len(kept)) if kept else (0.0, 0.0)
