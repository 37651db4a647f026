"""tasks/evidence.py: a value is found again where it stands, in any spelling that means the same, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.evidence import QUOTE, Source, find

INVOICE = """ACME Tools Ltd.\tInvoice
Invoice No: INV-2O26-0l7
Date: 3 March 2026   Due: 02/04/2026
Widget\t10 120,00\t1 200,00
Net 1.200,00
Total due: 1.428,00 €
IBAN DE89 3704 0044 0532 0130 00
Konto-
inhaber Modern Berlin
\fPage two
Express shipping: no
"""
SOURCES = [Source(INVOICE, 3)]


@pytest.mark.parametrize(
    ("kind", "value", "words", "page", "line"),
    [
        ("text", "Acme Tools Ltd", "ACME Tools Ltd", 1, 1),
        ("text", "Kontoinhaber Modern", "Konto- inhaber Modern", 1, 8),
        ("date", "2026-03-03", "3 March 2026", 1, 3),
        ("date", "2026-04-02", "02/04/2026", 1, 3),
        ("decimal", "1428", "1.428,00", 1, 6),
        ("decimal", "120.00", "120,00", 1, 4),
        ("integer", "1200", "1 200,00", 1, 4),
        ("currency", "EUR", "€", 1, 6),
        ("iban", "DE89370400440532013000", "DE89 3704 0044 0532 0130 00", 1, 7),
        ("text", "page two", "Page two", 2, 1),
    ],
)
def test_values_are_found_in_every_spelling(kind: str, value: str, words: str, page: int, line: int) -> None:
    """The evidence tells the document's own words, its page and its line, and its quote is part of the text."""
    evidence = find(kind, value, value, SOURCES)
    assert evidence is not None
    assert (evidence.words, evidence.document, evidence.page, evidence.line) == (words, 3, page, line)
    assert evidence.quote in INVOICE
    assert not evidence.loose


def test_a_forgotten_accent_is_no_confusion_and_the_documents_words_are_preferred() -> None:
    """The model wrote lampara: the document's lámpara is meant, not the sender's address."""
    body, sender = Source("La lámpara Tula ha llegado rota.", 0), Source("ana@lampara.example")
    evidence = find("text", "lampara", "lampara", [sender, body])
    assert evidence is not None
    assert (evidence.words, evidence.document, evidence.loose) == ("lámpara", 0, False)


def test_ocr_confusions_are_allowed_and_told() -> None:
    """INV-2O26-0l7 is INV-2026-017 as OCR sees it."""
    evidence = find("text", "INV-2026-017", "INV-2026-017", SOURCES)
    assert evidence is not None
    assert evidence.loose
    assert find("text", "Modem Berlin", "Modem Berlin", SOURCES) is not None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", "INV-2026-018"),
        ("text", "Tool"),
        ("text", "Acme GmbH"),
        ("date", "2026-03-04"),
        ("decimal", "142.80"),
        ("decimal", "17"),
        ("decimal", "-1428.00"),
        ("currency", "USD"),
        ("iban", "DE75512108001245126199"),
        ("boolean", "true"),
    ],
)
def test_what_does_not_stand_there_is_not_found(kind: str, value: str) -> None:
    """Neither other values nor parts of words or numbers count."""
    assert find(kind, value, value, SOURCES, "express shipping") is None


@pytest.mark.parametrize(
    ("value", "text", "is_there"),
    [
        ("1", "Tapa 1.000 480", False),
        ("000", "Tapa 1.000 480", False),
        ("5512", "total 5512,30", False),
        ("55123344", "total 55123344.30", False),
        ("5512", "number 5512, 30 boxes", True),
        ("5512", "number 5512.", True),
        ("118", "Invoice 2024-118", True),
        ("1", "Albarán 1", True),
        ("A-93", "A-93,24.80", True),
    ],
)
def test_digits_are_no_number_of_their_own_inside_another(value: str, text: str, is_there: bool) -> None:
    """A weak model wrote 1 for a delivery's number, of which only 1.000 stood there."""
    assert (find("text", value, value, [Source(text)]) is not None) is is_there


def test_yes_and_no_count_only_on_a_line_about_the_field() -> None:
    """A stray `no` is no evidence."""
    assert find("boolean", "false", "no", SOURCES, "express shipping wanted") is not None
    assert find("boolean", "false", "no", SOURCES, "gift wrapping") is None


def test_the_place_that_speaks_of_the_field_wins() -> None:
    """Of two equal amounts the one on the line with the field's words is quoted."""
    source = Source("Item one 50.00\nAmount to pay 50.00\n", 1)
    evidence = find("decimal", "50.00", "50", [source], "total: amount to pay")
    assert evidence is not None
    assert evidence.line == 2


def test_the_subject_has_words_but_no_place() -> None:
    """A source without ordinal is the mail's subject."""
    evidence = find("text", "RE-77", "RE-77", [Source("Rechnung RE-77")])
    assert evidence is not None
    assert (evidence.document, evidence.page, evidence.line, evidence.quote) == (None, None, None, "Rechnung RE-77")


def test_a_quote_from_a_long_line_is_short_and_holds_the_words() -> None:
    """Quotes stay readable."""
    text = "word " * 200 + "needle 4711 here " + "word " * 200
    evidence = find("text", "needle 4711", "needle 4711", [Source(text, 1)])
    assert evidence is not None
    assert "needle 4711" in evidence.quote
    assert len(evidence.quote) <= QUOTE + 10
    assert evidence.quote in text


@given(st.text(max_size=200), st.text(min_size=1, max_size=30))
def test_whatever_is_found_is_a_part_of_the_text(text: str, value: str) -> None:
    """Evidence never shows words that are not there."""
    evidence = find("text", value, value, [Source(text, 1)])
    if evidence is not None:
        assert evidence.quote in text


@given(st.from_regex(r"[A-Z]{2,4}-[0-9]{4,8}", fullmatch=True), st.text(max_size=80), st.text(max_size=80))
def test_a_number_that_stands_there_is_always_found(number: str, before: str, after: str) -> None:
    """Whatever surrounds it."""
    assert find("text", number, number, [Source(f"{before} {number} {after}", 1)]) is not None


@pytest.mark.parametrize(
    ("kind", "value", "text", "quote"),
    [
        ("decimal", "1100.00", "Total 11OO.OO EUR", "11OO.OO"),
        ("decimal", "1234.56", "Total 1 . 234 ,56 EUR", "1 . 234 ,56"),
        ("integer", "1500", "Pieces l5OO", "l5OO"),
        ("date", "2026-05-10", "Due 1O.O5.2O26", "1O.O5.2O26"),
        ("iban", "DE89370400440532013000", "IBAN DE89 37O4 OO44 O532 O13O OO", "DE89 37O4 OO44 O532 O13O OO"),
        ("vat_id", "DE136695976", "VAT DEl36 695 976", "DEl36 695 976"),
    ],
)
def test_typed_values_are_found_where_digits_were_recognised_as_letters(
    kind: str, value: str, text: str, quote: str
) -> None:
    """They count as found loosely, which is told."""
    found = find(kind, value, value, [Source(f"Page one\n{text}", 1)])
    assert found is not None
    assert (found.words, found.line, found.loose) == (quote, 2, True)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("decimal", "5", "S pieces"),
        ("integer", "105", "model lO5"),
        ("decimal", "1100.00", "part A11OO.OO"),
        ("date", "2026-05-10", "Due 1O.O6.2O26"),
        ("iban", "DE89370400440532013000", "IBAN DE89 37O4 OO44 O532 O13O O1"),
    ],
)
def test_what_only_looks_a_little_like_digits_is_not_found(kind: str, value: str, text: str) -> None:
    """Few digits, parts of a name, other digits: no evidence."""
    assert find(kind, value, value, [Source(text, 1)]) is None


@pytest.mark.parametrize(
    "text", ["Tel. 030 / 12 34 56", "+49 30 123456", "call 0049-30-123456 now", "Phone: +49 (0)30 12 34 56"]
)
def test_a_telephone_number_is_found_in_each_grouping(text: str) -> None:
    """With and without the country's code; the quote is the line."""
    found = find("phone", "+4930123456", "+49 30 123456", [Source(f"Hello\n{text}", 1)])
    assert found is not None
    assert (found.line, found.quote) == (2, text)


@pytest.mark.parametrize("text", ["Tel. 030 123457", "555 123456", "0049 31 123456", "No 4930123456789"])
def test_another_telephone_number_is_no_evidence(text: str) -> None:
    """One digit more, less or other is another number."""
    assert find("phone", "+4930123456", "030 123456", [Source(text, 1)]) is None


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", ["123 " * 25_000, "-" * 100_000, "1O-" * 33_000, "(+49" * 25_000])
def test_a_hostile_text_takes_time_that_grows_with_its_length(text: str) -> None:
    """Repeated beginnings of numbers and dates are read once, not once for each beginning."""
    source = Source(text, 1)
    wanted = {"decimal": "7.25", "date": "2026-03-14", "phone": "+4930123456", "vat_id": "DE136695976", "integer": "12"}
    assert [find(kind, value, value, [source], "number") for kind, value in wanted.items()] == [None] * len(wanted)
