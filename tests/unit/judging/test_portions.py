"""tasks/judging/portions.py: nothing is lost, everything fits, and the pages that promise a field come first."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from config.routes import FieldSpec
from tasks.judging.budget import estimate
from tasks.judging.portions import plan, shown_as, smaller, told
from tasks.prompts import Part

SPECS = {
    "rent": FieldSpec(type="decimal", description="monthly rent of the flat"),
    "iban": FieldSpec(type="iban", description="account to pay to"),
}
FILLER = "the garden has a gate and a hedge on the sunny side\n" * 12
words = st.text(alphabet="abc 12.\n\fé", max_size=600)


def pages(count: int, **facts: str) -> Part:
    """A text of pages; `p7="..."` stands on page 7."""
    return Part("lease.pdf", "\f".join(FILLER + facts.get(f"p{number}", "") for number in range(1, count + 1)))


@settings(deadline=None, max_examples=40)
@given(st.lists(words, min_size=1, max_size=4), st.integers(min_value=200, max_value=900))
def test_every_word_is_in_a_portion_and_every_portion_fits(texts: list[str], room: int) -> None:
    """Whatever the text: no character that is no space is lost or doubled."""
    parts = [Part(f"{number}.txt", text) for number, text in enumerate(texts)]
    portions = plan(parts, SPECS, room)
    written = sorted(
        "".join(page.text for portion in portions for page in portion if page.part == index) for index in [0]
    )
    assert sorted("".join(written[0].split())) == sorted("".join(texts[0].split()))
    total = sum(len("".join(page.text.split())) for portion in portions for page in portion)
    assert total == sum(len("".join(text.split())) for text in texts)
    assert all(sum(page.tokens for page in portion) <= room for portion in portions)


def test_pages_that_promise_a_field_come_with_the_first_and_the_last() -> None:
    """By words of the field and something of its type; an IBAN counts without words."""
    part = pages(90, p41="Monthly rent: 940.00 EUR", p67="DE89 3704 0044 0532 0130 00")
    first = plan([part], SPECS, 2400)[0]
    assert {1, 41, 67, 90} <= {page.number for page in first}
    assert len(plan([part], SPECS, 2400)) > 5


def test_a_portion_is_shown_in_the_order_of_its_pages_with_their_numbers() -> None:
    """Pages that follow each other are one part of the prompt."""
    part = pages(90, p2="rent", p41="Monthly rent: 940.00 EUR")
    shown = shown_as(plan([part], SPECS, 1300)[0], [part])
    assert [one.name for one in shown] == ["lease.pdf, pages 1-2", "lease.pdf, page 41", "lease.pdf, page 90"]
    assert "940.00" in shown[1].text


def test_portions_can_be_made_smaller_without_loss() -> None:
    """When the server counted more tokens than were expected."""
    portions = plan([pages(20)], SPECS, 3000)
    less = smaller(portions, 700)
    assert len(less) > len(portions)
    whole = ["".join(page.text for one in some for page in one) for some in (portions, less)]
    assert whole[0] == whole[1]
    assert all(sum(page.tokens for page in one) <= 700 for one in less)


def test_a_text_without_pages_is_told_in_pieces() -> None:
    """A long plain text has no page numbers to name."""
    part = Part("notes.txt", FILLER * 40)
    portions = plan([part], SPECS, 2400)
    assert told(portions[0], [part]).startswith("notes.txt pieces 1")
    assert estimate(shown_as(portions[0], [part])[0].text) <= 2400
