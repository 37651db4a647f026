"""tasks/judging/labels.py: log-probabilities of tokens become a share for each label."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from tasks.judging.labels import agreed, probabilities, vote


def _logs(**shares: float) -> dict[str, float]:
    return {token: math.log(share) for token, share in shares.items()}


def test_first_tokens_that_begin_one_label_give_their_mass_to_it() -> None:
    """`inv` is invoice; what begins no label is left out and the rest adds up to 1."""
    shares = probabilities(["invoice", "order"], lambda _: _logs(inv=0.6, order=0.2, dog=0.2))
    assert shares == pytest.approx({"invoice": 0.75, "order": 0.25})


def test_a_beginning_that_labels_share_is_asked_further() -> None:
    """`com` may become complaint or comment: the next token tells."""
    asked: list[str] = []

    def next_token(start: str) -> Mapping[str, float]:
        asked.append(start)
        return {"": _logs(com=0.8, order=0.2), "com": _logs(plaint=0.5, ment=0.5)}[start]

    shares = probabilities(["complaint", "comment", "order"], next_token)
    assert shares == pytest.approx({"complaint": 0.4, "comment": 0.4, "order": 0.2})
    assert asked == ["", "com"]


def test_a_label_that_begins_another_ends_with_the_quote() -> None:
    """`order` and `order-change` part at the closing quote."""
    shares = probabilities(
        ["order", "order-change"],
        lambda start: {'"': math.log(0.9), "-": math.log(0.1)} if start else {"order": 0.0},
    )
    assert shares == pytest.approx({"order": 0.9, "order-change": 0.1})


def test_a_server_without_log_probabilities_or_a_model_off_the_form_gives_none() -> None:
    """The caller then asks by schema."""
    assert probabilities(["a", "b"], lambda _: None) is None
    assert probabilities(["a", "b"], lambda _: _logs(Sure=0.9, a=0.1)) is None


def test_a_model_that_always_answers_a_shared_beginning_ends() -> None:
    """Recursion is bounded, and undecided mass is split evenly."""
    shares = probabilities(["xxxxxxxxxxxxxxxxa", "xxxxxxxxxxxxxxxxb"], lambda _: {"x": 0.0})
    assert shares == pytest.approx({"xxxxxxxxxxxxxxxxa": 0.5, "xxxxxxxxxxxxxxxxb": 0.5})


def test_votes_are_weighted_means() -> None:
    """Heavier ballots count more."""
    together = vote([({"a": 1.0, "b": 0.0}, 1.0), ({"a": 0.0, "b": 1.0}, 3.0)])
    assert together == pytest.approx({"a": 0.25, "b": 0.75})


def test_agreement_is_surer_than_disagreement() -> None:
    """Two prompts that disagree leave less than half for either."""
    assert agreed("a", "a", ["a", "b"])["a"] == 0.9
    assert agreed("a", "b", ["a", "b", "c"]) == pytest.approx({"a": 0.45, "b": 0.45, "c": 0.05})
