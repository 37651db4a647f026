"""A report of 200 pages with three facts in it, at its start, in its middle and at its end, and the route that wants them."""

from __future__ import annotations

import functools
import random
from datetime import UTC, datetime

from fpdf import FPDF

from config.routes import FieldSpec, Label, Route

PAGES = 200
LINES = 42
FACTS = {1: "Contract number: KX-4471-B", 101: "Penalty amount: 12,750.00 EUR", 200: "Signing date: 14 March 2026"}
"""By page; each stands in the middle of its page."""
VALUES = {"contract_number": "KX-4471-B", "penalty_amount": "12750.00", "signing_date": "2026-03-14"}
PLACES = {"contract_number": 1, "penalty_amount": 101, "signing_date": 200}

ROUTE = Route(
    name="reports",
    labels={
        "report": Label(
            says="A long report about deliveries to many places.",
            fields={
                "contract_number": FieldSpec(description="number of the contract", required=True),
                "penalty_amount": FieldSpec(type="decimal", description="amount of the penalty", required=True),
                "signing_date": FieldSpec(type="date", description="date on which it was signed", required=True),
            },
        ),
        "other": Label(says="Anything else that comes in."),
    },
)

_WORDS = (
    "delivery harbour ledger winter margin paper ordinary review supplier northern forecast engine timber glass water",
    "carrier morning record pattern district window account measure station village copper number amount contract",
)


def _line(chance: random.Random) -> str:
    """A line as reports have them: words, now and then an amount, a date, a reference that is none of the three facts."""
    words = " ".join(chance.choices(" ".join(_WORDS).split(), k=9))
    tail = chance.choice(
        ["", "", "", f" {chance.randint(10, 999)}.{chance.randint(10, 99)} EUR", f" 0{chance.randint(1, 9)}.02.2024"]
    )
    return f"{words.capitalize()}{tail}."


@functools.cache
def report() -> bytes:
    """The PDF; the same bytes every time."""
    chance = random.Random(200)
    document = FPDF()
    document.set_creation_date(datetime(2026, 1, 1, tzinfo=UTC))
    document.set_font("Helvetica", size=9)
    for number in range(1, PAGES + 1):
        document.add_page()
        lines = [f"Section {number}", *(_line(chance) for _ in range(LINES))]
        lines[LINES // 2] = FACTS.get(number, lines[LINES // 2])
        for line in lines:
            document.cell(0, 6, line, new_x="LMARGIN", new_y="NEXT")
    return bytes(document.output())
