"""tasks/judging/firms.py: the legal form belongs to a firm's name."""

from __future__ import annotations

import pytest

from tasks.judging.firms import whole_name

TEXT = (
    "Kind regards, Atelier Verdon\nAtelier Verdon SARL, 04990 Sainte-Orse\nSilver Pine Hosting, Inc.\n"
    "Brenner Druck GmbH & Co. KG Werk 2\nNordlicht UG (haftungsbeschränkt)\nInvoice 4711 AG\nHill\nLtd\nRose Limitedly"
)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("Atelier Verdon", "Atelier Verdon SARL"),
        ("Silver Pine Hosting", "Silver Pine Hosting, Inc."),
        ("Brenner Druck", "Brenner Druck GmbH & Co. KG"),
        ("Nordlicht", "Nordlicht UG (haftungsbeschränkt)"),
        ("Atelier Verdon SARL", "Atelier Verdon SARL"),
        ("Verdon", "Verdon SARL"),
        ("erdon", "erdon"),
        ("4711", "4711"),
        ("Hill", "Hill"),
        ("Rose", "Rose"),
        ("Nobody", "Nobody"),
        ("", ""),
    ],
)
def test_the_form_behind_a_name_is_part_of_it(name: str, whole: str) -> None:
    """Only on the same line, only behind a word, and only once."""
    assert whole_name(name, ["nothing here", TEXT]) == whole
