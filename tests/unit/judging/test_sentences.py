"""tasks/judging/sentences.py: the model's own words are plain text without addresses nobody asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.judging.sentences import LONGEST, clean, whole


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/pay", "http:evil.example", "www.evil.test", "evil.com/login", "pay@evil.example",
        "javascript:alert(1)", "[click](https://x.example)", "<a href=x>here</a>", "HTTPS://EVIL.EXAMPLE", "ftp://x",
    ],
)  # fmt: skip
def test_a_sentence_with_an_address_goes_as_a_whole(address: str) -> None:
    """Without its link it would mislead."""
    assert clean(f"Thank you for your invoice. Please see {address} for more. We will check it.") == (
        "Thank you for your invoice. We will check it."
    )


def test_an_address_of_the_allow_list_stays() -> None:
    """The correspondent's own address may be repeated."""
    text = "We will write to jo@a.example soon."
    assert clean(text, frozenset({"jo@a.example"})) == text
    assert clean(text) == ""


def test_greeting_closing_markup_and_placeholders_are_taken_out() -> None:
    """The template has its own greeting and closing."""
    text = "Dear Mr Smith,\n\n**Thank you** for the contract. Your number is [number].\n- We read it.\n\nBest regards,\nThe office"
    assert clean(text) == "Thank you for the contract. We read it."
    german = "Sehr geehrte Frau Ott,\nvielen Dank für Ihre Rechnung Nr. 5.\n\nMit freundlichen Grüßen\nIhr Team"
    assert clean(german) == "vielen Dank für Ihre Rechnung Nr. 5."


def test_ordinary_words_with_full_stops_are_no_addresses() -> None:
    """Abbreviations, dates and amounts stay."""
    text = "We got your invoice of 14.03.2026 over 1.234,56 EUR, i.e. the one from Acme Inc. and z.B. the order."
    assert clean(text) == text


@given(st.text(max_size=2000))
def test_whatever_the_model_writes_becomes_one_short_line(text: str) -> None:
    """No line breaks, no control characters, bounded length."""
    cleaned = clean(text)
    assert len(cleaned) <= LONGEST
    assert "\n" not in cleaned
    assert "://" not in cleaned


def test_an_answer_that_ran_out_of_tokens_ends_at_its_last_sentence() -> None:
    """Half a sentence is not sent."""
    assert whole("We got it. We will loo") == "We got it."
    assert whole("We will loo") == ""
