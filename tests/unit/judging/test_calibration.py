"""Confidence that means what it says: fitting, applying and measuring it, against examples reckoned by hand."""

from __future__ import annotations

import math
import random

import pytest

from tasks.judging.calibration import Curve, NotEnough, above, accuracy_at, ece, fit, held_out

FOUR = [(0.95, True), (0.95, False), (0.65, True), (0.15, False)]


def odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def pairs(probability: float, right: int, wrong: int) -> list[tuple[float, bool]]:
    return [(probability, True)] * right + [(probability, False)] * wrong


def test_a_curve_goes_through_two_groups() -> None:
    """Two numbers fit two groups exactly: each group's calibrated share is the mean of its smoothed targets.

    30 right of 40, so that a right answer aims at 31/32 and a wrong one at 1/12. The group at 0.99 has 24 right of 28,
    the one at 0.6 has 6 right of 12.
    """
    curve = fit(pairs(0.99, 24, 4) + pairs(0.6, 6, 6))

    high, low = 31 / 32, 1 / 12
    assert curve.apply(0.99) == pytest.approx((24 * high + 4 * low) / 28, abs=1e-6)
    assert curve.apply(0.6) == pytest.approx((6 * high + 6 * low) / 12, abs=1e-6)


def test_a_curve_is_found_again() -> None:
    """Pairs drawn from a known curve lead back to about that curve."""
    true, chance = Curve(slope=0.5, intercept=-0.4), random.Random(7)
    told = [chance.uniform(0.05, 0.999) for _ in range(4000)]
    found = fit([(one, chance.random() < true.apply(one)) for one in told])
    assert found.slope == pytest.approx(0.5, abs=0.06)
    assert found.intercept == pytest.approx(-0.4, abs=0.12)


def test_applying_a_curve() -> None:
    """Slope 1 and intercept 0 change nothing; half the log-odds of 0.9 are those of 0.75; certainty stays finite."""
    assert Curve().apply(0.37) == pytest.approx(0.37)
    assert Curve(slope=0.5).apply(0.9) == pytest.approx(0.75)  # odds 9 to 1 become 3 to 1
    assert Curve(intercept=math.log(3)).apply(0.5) == pytest.approx(0.75)
    assert 0 < Curve(slope=5).apply(0.0) < Curve(slope=5).apply(1.0) <= 1


def test_order_is_kept() -> None:
    """A more confident answer is still the more confident one."""
    curve = Curve(slope=0.3, intercept=-1)
    after = [curve.apply(step / 50) for step in range(51)]
    assert after == sorted(after)


def test_too_little_to_learn_from() -> None:
    """Few pairs, no wrong ones among them, or a probability that is lower for right ones: refused, and told why."""
    with pytest.raises(NotEnough, match="4 answers, 2 of them wrong"):
        fit(FOUR)
    with pytest.raises(NotEnough, match="40 answers, 2 of them wrong"):
        fit(pairs(0.9, 38, 2))
    with pytest.raises(NotEnough, match="no higher for right answers"):
        fit(pairs(0.9, 5, 15) + pairs(0.5, 15, 5))


def test_answers_that_hardly_overlap() -> None:
    """Right and wrong answers that are told apart without a mistake make a steep curve, not an endless search."""
    curve = fit(pairs(0.999, 20, 0) + pairs(0.4, 0, 20))
    assert curve.apply(0.999) == pytest.approx(21 / 22, abs=1e-6)
    assert curve.apply(0.4) == pytest.approx(1 / 22, abs=1e-6)


def test_calibration_error_by_hand() -> None:
    """Bins of 0.1: (0.95 x 2 - 1), (0.65 - 1) and (0.15 - 0), without their signs, over four."""
    assert ece(FOUR) == pytest.approx((0.9 + 0.35 + 0.15) / 4)
    assert ece([(1.0, True), (0.0, False)]) == 0
    assert ece([]) == 0


def test_accuracy_at_coverage_by_hand() -> None:
    """Half of the four are the two at 0.95, one of them right; a tie at the border counts by its parts."""
    assert accuracy_at(FOUR, 0.5) == pytest.approx(0.5)
    assert accuracy_at(FOUR, 0.25) == pytest.approx(0.5)
    assert accuracy_at(FOUR, 0.75) == pytest.approx(2 / 3)
    assert accuracy_at(FOUR, 1.0) == pytest.approx(0.5)
    assert accuracy_at([], 0.5) == 0


def test_above_a_threshold_by_hand() -> None:
    """Three of four are told with 0.65 or more, two of those are right; none with 0.99."""
    coverage, accuracy = above(FOUR, 0.65)
    assert coverage == 0.75
    assert accuracy == pytest.approx(2 / 3)
    assert above(FOUR, 0.99) == (0.0, 0.0)


def test_figures_for_new_documents() -> None:
    """Each pair is calibrated by a curve that has not seen it: one odd pair cannot pull its own probability."""
    seen = [*pairs(0.99, 42, 18), *pairs(0.6, 12, 18)]
    random.Random(3).shuffle(seen)
    held = held_out(seen)
    assert [was_right for _, was_right in held] == [was_right for _, was_right in seen]
    first_fold = fit([pair for i, pair in enumerate(seen) if i % 5 != 0])
    assert held[0][0] == first_fold.apply(seen[0][0])
    assert ece(held) < ece(seen)
