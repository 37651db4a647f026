"""The figures of a run, on outcomes that are counted by hand here."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.evaluation.cases import Case
from daemon.evaluation.figures import Figures, figures, same
from daemon.evaluation.outcome import Outcome, Value
from daemon.evaluation.words import changes, difference, lines, misses


def case(name: str, label: str = "bill", ending: str = ".txt", **fields: str) -> Case:
    values = {key: (value,) for key, value in fields.items()}
    return Case(name, Path(name + ending), label, "en", "eval", values, {"note": ("x",)})


def outcome(name: str, label: str = "bill", confidence: float = 0.9, review: str = "", **values: str) -> Outcome:
    read = tuple(Value(name=key, value=value.strip("?"), supported="?" not in value) for key, value in values.items())
    return Outcome(case=name, model="m", label=label, confidence=confidence, values=read, review=review)


def counted(cases: list[Case], outcomes: list[Outcome]) -> Figures:
    return figures({one.name: one for one in cases}, outcomes)


@pytest.mark.parametrize(
    ("value", "wanted", "right"),
    [
        ("Ada  & Sons Ltd.", "ada & sons ltd", True),
        ("300", "300.00", True),
        ("300.5", "300.50", True),
        ("0756", "756", False),
        ("12", "12.1", False),
        ("Ada & Sons", "Ada & Son", False),
    ],
)
def test_what_counts_as_the_same(value: str, wanted: str, right: bool) -> None:
    """Spelling that means nothing is left aside, a leading zero is not."""
    assert same(value, [wanted]) is right


def test_fields_are_counted_one_by_one() -> None:
    """Right, wrong, missing, not stated, and what may be read: each lands where it belongs."""
    told = counted(
        [case("a", number="7", total="3.00", date="2026-01-02")],
        [outcome("a", number="7", total="4.00", vendor="Ada", note="x")],
    ).of_all
    assert (told.right, told.wrong, told.unstated, told.wanted) == (1, 1, 1, 3)
    assert told.precision == pytest.approx(1 / 3)
    assert told.recall == pytest.approx(1 / 3)
    assert told.f1 == pytest.approx(1 / 3)


def test_an_unsupported_value_is_missing_and_never_sent() -> None:
    """It is counted apart, and cannot be wrong unseen."""
    told = counted([case("a", number="7")], [outcome("a", number="8?")])
    assert (told.unsupported, told.sent, told.sent_wrong, told.of_all.wanted, told.of_all.right) == (1, 0, 0, 1, 0)


def test_wrong_values_that_nobody_sees_are_counted() -> None:
    """A wrong value goes out when the job is not held for a person, also under a wrong label."""
    cases = [case("a", number="7"), case("b", number="7"), case("c", label="news")]
    outcomes = [outcome("a", number="8"), outcome("b", number="8", review="not sure"), outcome("c", number="9")]
    told = counted(cases, outcomes)
    assert (told.sent, told.sent_wrong, told.sent_invented, told.reviewed) == (2, 2, 0, 1)


def test_the_plain_way_sends_what_it_invented() -> None:
    """It looks for nothing, so a value that stands nowhere goes out, too."""
    plain = outcome("a", number="8?").model_copy(update={"way": "plain"})
    told = counted([case("a", number="7")], [plain])
    assert (told.sent, told.sent_wrong, told.sent_invented) == (1, 1, 1)


def test_a_wrong_label_and_an_error_are_not_right() -> None:
    """Fields of a wrong label count only end to end; an error has no confidence to speak of."""
    cases = [case("a", number="7"), case("b", number="7"), case("c", number="7", ending=".png")]
    outcomes = [
        outcome("a", number="7"),
        outcome("b", label="news"),
        outcome("c", label="").model_copy(update={"error": "x"}),
    ]
    told = counted(cases, outcomes)
    assert told.accuracy == pytest.approx(1 / 3)
    assert (told.of_all.wanted, told.end_to_end.wanted, told.end_to_end.right) == (1, 3, 1)
    assert told.confusion == {("bill", "bill"): 1, ("bill", "news"): 1, ("bill", ""): 1}
    assert (told.errors, len(told.seen)) == (1, 2)


def test_scans_are_left_out_of_text_documents() -> None:
    """What OCR made of a picture does not count among documents that have their text."""
    told = counted(
        [case("a", number="7"), case("b", number="7", ending=".PNG")], [outcome("a", number="7"), outcome("b")]
    )
    assert (told.of_text.wanted, told.of_all.wanted) == (1, 2)


def test_the_confidence_is_measured() -> None:
    """The surest are right, the rest are not: full accuracy up to half, and no further."""
    cases = [case(str(number)) for number in range(4)]
    outcomes = [outcome(str(n), confidence=0.9 - n / 10, label="bill" if n < 2 else "news") for n in range(4)]
    told = counted(cases, outcomes)
    assert told.sure_coverage(0.97) == 0.5
    assert told.above(0.75) == (0.5, 1.0)
    assert told.ece == pytest.approx((0.1 + 0.2 + 0.7 + 0.6) / 4)


def test_two_runs_are_compared() -> None:
    """What became right and what became wrong, and how far each figure moved."""
    cases = {"a": case("a"), "b": case("b")}
    before, now = [outcome("a"), outcome("b", label="news")], [outcome("a", label="news"), outcome("b")]
    assert [(one.case, one.better) for one in changes(cases, now, before)] == [("a", False), ("b", True)]
    first, second = (lines(figures(cases, some), 0.5)[0] for some in (before[:1], now[:1]))
    assert difference(second, first) == "-1.000"
    assert difference(first, first) == ""


def test_misses_say_whether_a_person_would_have_looked() -> None:
    """A wrong value that goes out unseen is told apart from one that is held."""
    cases = {"a": case("a", number="7"), "b": case("b", number="7")}
    found = list(misses(cases, [outcome("a", number="8"), outcome("b", number="8", review="not sure")]))
    assert [(one.case, one.what, one.told, one.wanted, one.seen) for one in found] == [
        ("a", "number", "8", "7", False),
        ("b", "number", "8", "7", True),
    ]
