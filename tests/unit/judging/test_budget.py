"""tasks/judging/budget.py: estimates are high, splitting loses nothing, condensing says so."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.judging.budget import condense, estimate, fewest, split, tidy

words = st.text(alphabet="abcdeABC 1290\n\f.,-äß漢😀", max_size=400)


@given(words, st.integers(min_value=8, max_value=200))
def test_splitting_loses_no_character_and_keeps_to_the_room(text: str, room: int) -> None:
    """The parts joined are the text; each fits unless it is a single character."""
    parts = split(text, room)
    assert "".join(parts) == text
    assert all(estimate(part) <= room or len(part) == 1 for part in parts)


def test_pages_are_kept_together_where_they_fit() -> None:
    """Borders are pages first, then paragraphs."""
    page = "one two three four\n" * 4
    parts = split("\f".join([page] * 6), estimate(page) * 2 + 4)
    assert len(parts) == 3
    assert all(part.endswith("\f") for part in parts[:-1])


@given(words)
def test_the_estimate_lies_above_the_floor(text: str) -> None:
    """What a prompt must have at least is never more than what it is thought to have."""
    assert fewest(tidy(text)) <= estimate(tidy(text)) + 1


def test_scripts_that_models_hardly_know_count_by_their_bytes() -> None:
    """A tokenizer that has no word of them writes each byte as a token: a lower guess would have text cut in silence."""
    for text in ("\u1780\u1781\u1782", "\u0f40\u0f41", "\U0001f9ff\U0001faf5", "\u13a0\u13a1"):
        assert estimate(text) >= len(text.encode())
    assert estimate("漢字") < len("漢字".encode())


def test_condensing_keeps_start_and_end_and_says_so() -> None:
    """The label call sees both ends of a long text."""
    text = "\n".join(f"line {number} of a long report" for number in range(500))
    short, cut = condense(text, 200)
    assert cut
    assert short.startswith("line 0 of")
    assert short.endswith("line 499 of a long report")
    assert estimate(short) < 230
    assert condense("short", 200) == ("short", False)


@given(words, st.integers(min_value=24, max_value=300))
def test_condensed_text_stays_near_its_room(text: str, room: int) -> None:
    """A single endless line is cut, too."""
    assert estimate(condense(text.replace("\n", ""), room)[0]) <= room * 3


def test_tidying_takes_out_what_hides_or_fills() -> None:
    """Zero-width characters, rulers, wide gaps and empty lines go; words, tabs and page marks stay."""
    dirty = "A\u200bB\n\n\n\n\n------------\nx      y\tz\fnext\U000e0041"
    assert tidy(dirty) == "AB\n\n---\nx  y\tz\fnext"
