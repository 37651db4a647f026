"""tasks/judging/sentences.py: the model's own words are plain text without addresses nobody asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.judging.sentences import LONGEST, clean, whole
from tasks.links import Allowed


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/pay", "http:evil.example", "www.evil.test", "evil.com/login", "pay@evil.example",
        "javascript:alert(1)", "[click](https://x.example)", "<a href=x>here</a>", "HTTPS://EVIL.EXAMPLE", "ftp://x",
    ],
)  # fmt: skip
def test_a_sentence_with_an_address_goes_as_a_whole(address: str) -> None:
    """Without its link it would mislead."""
    assert clean(f"Thank you for your invoice. Please see {address} for more. We have read it.") == (
        "Thank you for your invoice. We have read it."
    )


def test_an_address_of_the_allow_list_stays() -> None:
    """The correspondent's own address may be repeated."""
    text = "We have noted jo@a.example as your address."
    assert clean(text, Allowed.of(["jo@a.example"])) == text
    assert clean(text) == ""


def test_greeting_closing_markup_and_placeholders_are_taken_out() -> None:
    """The template has its own greeting and closing."""
    text = "Dear Mr Smith,\n\n**Thank you** for the contract. Your number is [number].\n- We read it.\n\nBest regards,\nThe office"
    assert clean(text) == "Thank you for the contract. We read it."
    german = "Sehr geehrte Frau Ott,\nvielen Dank für Ihre Rechnung.\n\nMit freundlichen Grüßen\nIhr Team"
    assert clean(german) == "vielen Dank für Ihre Rechnung."


def test_ordinary_words_with_full_stops_are_no_addresses() -> None:
    """Abbreviations stay."""
    text = "We got your invoice, i.e. the one from Acme Inc. and z.B. the order."
    assert clean(text) == text


@pytest.mark.parametrize(
    "sentence",
    [
        "I will pay it soon.", "We will refund you.", "It is due on 3 May.", "The total is 12.50 EUR.", "My resume is attached.",
        "Wir werden das prüfen.", "Bitte zahlen Sie den Betrag.", "Please pay it at once.", "Nous vous remboursons tout.",
        "We guarantee a replacement.", "Ich kümmere mich darum.",
    ],
)  # fmt: skip
def test_a_sentence_that_promises_asks_or_counts_is_not_sent(sentence: str) -> None:
    """The office has not decided anything, and the template lists the figures with their evidence."""
    assert clean(f"Your letter has arrived. {sentence}") == "Your letter has arrived."


def test_a_sentence_of_the_other_side_is_not_ours_to_say() -> None:
    """A weak model repeats what it was told."""
    heard = "We are very unhappy with the lamps. They came late."
    assert (
        clean("We are very unhappy with these lamps. Your letter has arrived.", heard=heard)
        == "Your letter has arrived."
    )


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


def test_what_stands_in_brackets_goes_with_the_sentence_before_it() -> None:
    """Half a sentence is never sent: the one whose first half is dropped is dropped whole."""
    text = "Ihre Rechnung für Oktober 2025 inkl. USt. (Brutto) ist bei uns angekommen. Wir haben sie gelesen."
    assert clean(text) == "Wir haben sie gelesen."
    assert clean("Thank you for the list. (It came twice.) We read it.") == (
        "Thank you for the list. (It came twice.) We read it."
    )
