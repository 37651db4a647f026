"""Columns of prose are read one after the other, and rows of tables stay rows (tasks/readers/columns.py)."""

from __future__ import annotations

import pytest
from fpdf import FPDF
from fpdf.enums import MethodReturnValue

from tasks.readers.columns import ordered
from tests.unit.readers.test_formats import read

STORY = (
    "The committee met on the third of March and looked at the accounts of the year before. It found that the costs of "
    "paper had risen while those of ink had fallen. A motion to buy a new press was carried by a show of hands. The old "
    "press is to be sold to whoever offers the most for it before the end of the summer. Members who wish to see it may "
    "do so on any Tuesday between nine and noon. Es folgte ein Vortrag über die Geschichte des Drucks in dieser Stadt. "
)
SENTENCES = [f"{sentence}." for sentence in STORY.strip().rstrip(".").split(". ")]


def columns(count: int, font: str, heading: str) -> bytes:
    """A page with the story six times, in so many columns of ragged lines."""
    document = FPDF()
    document.add_page()
    document.set_font(font, size=9)
    document.text(10, 15, heading)
    width = (190 - 6 * (count - 1)) / count
    lines = document.multi_cell(width, text=STORY * 6, dry_run=True, output=MethodReturnValue.LINES)
    high = -(-len(lines) // count)
    for number, line in enumerate(lines):
        document.text(10 + number // high * (width + 6), 25 + number % high * 4, line)
    return bytes(document.output())


@pytest.mark.parametrize("font", ["Helvetica", "Times"])
@pytest.mark.parametrize("count", [2, 3])
def test_sentences_stay_whole(count: int, font: str) -> None:
    """Each sentence is found as often as it stands there, also where it goes on at the top of the next column."""
    heading = "Minutes of the yearly meeting of the society for the history of printing, held in the town hall in March"
    text = " ".join(read(columns(count, font, heading)).text.split())
    assert text.startswith(heading)
    assert [text.count(sentence) for sentence in SENTENCES] == [6] * len(SENTENCES)


ROWS = [
    f"{name:30}{text}"
    for name, text in (
        ("Consulting for the new press", "twelve hours at ninety EUR"),
        ("Travel to and from the town", "two hundred kilometres by car"),
        ("Paper for the yearly report", "forty reams of eighty grams"),
        ("Ink, black and three colours", "nine litres in small tins"),
        ("Repair of the old machine", "as agreed on the phone"),
        ("Storage until the summer", "four months at twenty EUR"),
        ("Insurance of what is stored", "one year, paid in advance"),
        ("Cleaning of the whole floor", "once in each of four weeks"),
    )
]


def test_rows_of_a_table_stay_rows() -> None:
    """Cells do not go on from line to line, however long they are."""
    assert ordered(ROWS) == ROWS


def test_two_addresses_side_by_side_stay_as_they_are() -> None:
    """A few lines are not prose in columns."""
    lines = [f"{'Muster GmbH and partners':30}Anna Example and daughters" for _ in range(4)]
    assert ordered(lines) == lines


def test_a_line_across_the_page_ends_the_columns_above_it() -> None:
    """What stands above a heading is read before it, in both columns, and what stands below after it."""
    above = [f"{f'and so the left side goes on {n}':36}{f'while the right side has more {n}'}" for n in range(6)]
    heading = "A heading that reaches from the left side of the page to the right"
    got = ordered([*above, heading, *above])
    left, right = [line[:36] for line in above], [line[36:] for line in above]
    assert got == [*left, *right, heading, *left, *right]
