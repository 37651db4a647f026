"""tasks/judging/xmldata.py: an electronic invoice's data outranks what is read, and a contradiction is told."""

from __future__ import annotations

import pytest

from config.routes import FieldSpec
from tasks.judging.xmldata import compare, of
from tasks.models import Document, Field, Kind
from tasks.readers import read_message
from tests.integration.readers.samples import FACTUR_X, pdf

SPECS = {
    "vendor": FieldSpec(description="seller", xml=("Seller",)),
    "date": FieldSpec(type="date", description="date", xml=("Invoice date",)),
    "total": FieldSpec(type="decimal", description="total", xml=("Amount due", "Total with tax")),
    "currency": FieldSpec(type="currency", description="currency", xml=("Currency",)),
    "iban": FieldSpec(type="iban", description="IBAN", xml=("IBAN",)),
    "number": FieldSpec(description="number"),
}


def xml(text: str, ordinal: int = 2, content_type: str = "application/xml") -> Document:
    return Document(ordinal=ordinal, name="factur-x.xml", content_type=content_type, size=1, sha256="", text=text)


def page(text: str) -> Document:
    return Document(ordinal=1, name="bill.pdf", content_type="application/pdf", size=1, sha256="", text=text)


def test_an_embedded_invoice_gives_its_fields_with_their_lines() -> None:
    """From a real PDF with Factur-X inside: each field that declares `xml` and stands there, quoted."""
    read = read_message(pdf(attachment=FACTUR_X), kind=Kind.FILE, name="bill.pdf", content_type="application/pdf")
    found = of(read.documents, SPECS)
    assert {name: one.value for name, one in found.fields.items()} == {
        "vendor": "Muster GmbH", "date": "2026-11-21", "total": "119.00", "currency": "EUR",
    }  # fmt: skip
    total = found.fields["total"]
    assert (total.supported, total.quote, total.document) == (True, "Total with tax: 119.00", 1)
    assert read.documents[1].text.split("\n")[(total.line or 0) - 1] == total.quote
    assert (found.notes, found.review) == ([], [])


def test_an_element_is_named_by_the_end_of_its_path() -> None:
    """`LegalMonetaryTotal / PayableAmount`, its attributes left out; a part of a name is no name."""
    text = "Invoice / LegalMonetaryTotal / PayableAmount: 1.234 (currencyID=EUR)"
    for key, value in [("LegalMonetaryTotal / PayableAmount", "1.234"), ("PayableAmount", "1.234"), ("Amount", None)]:
        found = of([xml(text)], {"total": FieldSpec(type="decimal", description="total", xml=(key,))})
        assert (found.fields["total"].value if "total" in found.fields else None) == value


def test_only_xml_counts_as_data() -> None:
    """A text that imitates the lines of an electronic invoice is a text."""
    assert not of([xml("Amount due: 1.00", content_type="text/plain")], SPECS).fields


@pytest.mark.parametrize(
    ("line", "wrong"),
    [("Amount due: free", "is no number"), ("IBAN: DE89370400440532013001", "has wrong check digits")],
)
def test_data_that_is_no_value_is_noted_and_the_model_asked(line: str, wrong: str) -> None:
    """Strict reading holds for data too."""
    found = of([xml(line)], SPECS)
    assert not found.fields
    assert wrong in found.notes[0]


def test_two_invoices_that_differ_are_for_a_person() -> None:
    """Which of them is meant is not guessed; where both say the same, it is taken."""
    one, other = "Seller: A Ltd\nAmount due: 1.00", "Seller: A Ltd\nAmount due: 2.00"
    found = of([xml(one), xml(other, 3)], SPECS)
    assert list(found.fields) == ["vendor"]
    assert found.review == ["total: there are 2 XML documents, which say 1.00 and 2.00"]


def test_what_the_model_read_otherwise_is_noted() -> None:
    """Spelling is no difference; another name is one, but none for review."""
    data = of([xml("Seller: A Ltd\nAmount due: 100.0")], SPECS)
    read = {"vendor": Field(name="vendor", value="B Ltd", supported=True), "total": Field(name="total", value="100.00")}
    compare(data, read, SPECS, [page("B Ltd wants 100.00")])
    assert data.notes == ['vendor: taken from the XML ("A Ltd"); the model read "B Ltd"']
    assert data.review == []


def test_pages_that_contradict_the_data_are_for_a_person() -> None:
    """An amount that stands in the XML alone while the pages show another: somebody changed one of the two."""
    read = {"total": Field(name="total", value="90.00", supported=True)}
    data = of([xml("Amount due: 100.00")], SPECS)
    compare(data, read, SPECS, [page("Total 90.00"), xml("Amount due: 100.00")])
    assert data.review == ["total: the XML says 100.00, the pages say 90.00 instead"]
    data = of([xml("Amount due: 100.00")], SPECS)
    compare(data, read, SPECS, [page("Net 90.00, total 100.00")])
    assert data.review == []
