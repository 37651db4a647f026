"""What a model leans to is taken out of what it says."""

from __future__ import annotations

import pytest

from tasks.judging.leaning import Leanings, evened

LEANING = {"bill": 0.01, "order": 0.0, "other": 0.99}


def test_what_it_would_say_of_anything_counts_less() -> None:
    """A bill that has more than the leaning explains comes before it; the shares still add up to 1."""
    told = evened({"bill": 0.38, "order": 0.02, "other": 0.6}, LEANING, 0.5)
    assert max(told, key=lambda name: told[name]) == "bill"
    assert sum(told.values()) == pytest.approx(1)
    assert told["bill"] / told["other"] == pytest.approx(0.38 / 0.6 * 99**0.5)


def test_a_label_that_was_not_told_is_not_made_up() -> None:
    """Nothing stays nothing, and a share of zero in the leaning divides by no zero."""
    told = evened({"bill": 0.0, "order": 0.5, "other": 0.5}, LEANING, 1)
    assert told["bill"] == 0
    assert told["order"] > told["other"] > 0


@pytest.mark.parametrize(("shares", "power"), [({"bill": 0.2, "order": 0.3, "other": 0.5}, 0.0), (LEANING, 0.0)])
def test_without_power_nothing_changes(shares: dict[str, float], power: float) -> None:
    """The setting 0 is the model as it is."""
    assert evened(shares, LEANING, power) == pytest.approx(shares)


def test_each_model_and_question_is_measured_once() -> None:
    """Another model or question is another leaning; one that was not told is measured again."""
    asked: list[str] = []
    leanings = Leanings()

    def ask(name: str, told: dict[str, float] | None) -> dict[str, float] | None:
        def measured() -> dict[str, float] | None:
            asked.append(name)
            return told

        return leanings.of(name[0], name[1], measured)

    assert ask("ma", None) is None
    for name in ("ma", "ma", "mb", "na", "mb"):
        assert ask(name, LEANING) == LEANING
    assert asked == ["ma", "ma", "mb", "na"]
