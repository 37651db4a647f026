"""tasks/judging/fields.py: the form that the model fills, and what of its answer can stand."""

from __future__ import annotations

import pytest

from config.routes import FieldSpec
from tasks.errors import Transient
from tasks.evidence import Source
from tasks.judging.fields import LabelOnly, answer_model, best, missing, parse, possible, read, schema, summary_key
from tasks.models import Field

SPECS = {
    "number": FieldSpec(type="text", description="invoice number", required=True),
    "due-date": FieldSpec(type="date", description="date by which to pay"),
    "total": FieldSpec(type="decimal", description="total to pay"),
    "urgent": FieldSpec(type="boolean", description="whether it is urgent"),
    "size": FieldSpec(type="text", description="size", choices=("small", "large")),
}
SOURCES = [Source("Invoice RE 2026-17\nTotal 1.250,00 EUR, due 03.05.2026\nSize: large", 2)]


def test_the_form_allows_null_everywhere_and_only_the_choices() -> None:
    """The schema is closed, bounded in length and lists choices."""
    form = schema(answer_model(SPECS, "summary", "invoice"))
    assert form["additionalProperties"] is False
    assert sorted(form["required"]) == ["due-date", "label", "number", "size", "summary", "total", "urgent"]
    assert {"type": "null"} in form["properties"]["number"]["anyOf"]
    assert form["properties"]["number"]["anyOf"][0]["maxLength"] == 160
    assert form["properties"]["size"]["anyOf"][0]["enum"] == ["small", "large"]
    assert "title" not in str(form)
    assert next(iter(form["properties"])) == "label"
    assert form["properties"]["label"]["const"] == "invoice"


def test_a_field_named_summary_leaves_the_summary_another_name() -> None:
    """Both have their place in the answer."""
    specs = {"summary": FieldSpec(description="the summary of the report")}
    key = summary_key(specs)
    assert key != "summary"
    assert set(answer_model(specs, key, "report").model_fields) == {"label", "summary", key}


def test_an_answer_is_taken_out_of_a_code_fence_and_empty_words_are_null() -> None:
    """Models that talk around their JSON are understood; `N/A` is nothing."""
    form = answer_model(SPECS, "summary", "invoice")
    text = '```json\n{"label":"invoice","number":" RE 1 ","due-date":"N/A","total":null,"urgent":true,"size":"small",'
    text += '"summary":"A bill."}\n```'
    assert parse(form, text) == {
        "label": "invoice", "number": "RE 1", "due-date": None, "total": None, "urgent": "true", "size": "small",
        "summary": "A bill.",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "{", '{"number": 5}', "[1]", '{"number":"x"}'])
def test_an_answer_that_is_not_the_form_is_told_in_words(text: str) -> None:
    """The words go into the repair."""
    with pytest.raises(ValueError, match=r".+"):
        parse(answer_model(SPECS, "summary", "invoice"), text)


def test_a_value_is_normalised_and_carries_its_evidence() -> None:
    """The quote is the line it stands on."""
    one = read("total", SPECS["total"], "1.250,00 EUR", SOURCES)
    assert one.field == Field(
        name="total",
        value="1250.00",
        quote="Total 1.250,00 EUR, due 03.05.2026",
        document=2,
        page=1,
        line=2,
        supported=True,
    )
    assert read("due-date", SPECS["due-date"], "3 May 2026", SOURCES).field.value == "2026-05-03"


def test_a_text_is_spelled_as_the_document_spells_it() -> None:
    """The model's hyphen is not the document's space."""
    assert read("number", SPECS["number"], "re-2026-17", SOURCES).field.value == "RE 2026-17"


@pytest.mark.parametrize(
    ("name", "written", "wrong"),
    [
        ("due-date", "2026-06-03", "is not in the text"),
        ("due-date", "30 days", "is no date"),
        ("total", "1.350,00", "is not in the text"),
        ("size", "small", "is not in the text"),
    ],
)
def test_a_value_that_is_not_there_is_unsupported_with_its_reason(name: str, written: str, wrong: str) -> None:
    """It is kept for a person to see, never marked as supported."""
    one = read(name, SPECS[name], written, SOURCES)
    assert one.wrong == wrong
    assert not one.field.supported


def test_a_pattern_has_to_match_the_whole_value() -> None:
    """FieldSpec.pattern."""
    spec = FieldSpec(description="number", pattern=r"RE \d{4}-\d{2}")
    assert read("number", spec, "RE 2026-17", SOURCES).field.supported
    assert "does not match" in read("number", spec, "2026-17", SOURCES).wrong


def test_the_best_evidence_wins_and_missing_required_fields_are_named() -> None:
    """A supported reading beats an earlier unsupported one."""
    good = read("number", SPECS["number"], "RE 2026-17", SOURCES)
    bad = read("number", SPECS["number"], "RE 2026-18", SOURCES)
    assert best([bad, good]) == good
    assert best([]) is None
    assert missing(SPECS, [bad.field]) == ["number"]
    assert missing(SPECS, [good.field]) == []


def test_a_label_outside_the_schema_is_a_fault_of_the_server() -> None:
    """It is tried again, not guessed."""
    form = LabelOnly(["a", "b"])
    assert form.read('{"label": "b"}') == "b"
    with pytest.raises(Transient):
        form.read('{"label": "c"}')


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Pay to IBAN DE89 3704 0044 0532 0130 00, mail to a@b.example", ["iban", "mail", "phone", "total"]),
        ("Pay by 24 November 2025 on each working day, VAT GB 000 4417 29", ["phone", "tax_id", "total"]),
        ("USt-IdNr. DE 136 695 976", ["phone", "tax_id", "total"]),
        ("DEAR FRIENDS, BE AT HOME AT 5", ["total"]),
    ],
)
def test_only_what_the_text_can_have_is_asked_for(text: str, asked: list[str]) -> None:
    """Without an @ there is no address to read, and nothing to make up."""
    specs = {
        "iban": FieldSpec(type="iban", description="IBAN"),
        "mail": FieldSpec(type="email", description="address"),
        "phone": FieldSpec(type="phone", description="telephone"),
        "tax_id": FieldSpec(type="vat_id", description="VAT number"),
        "total": FieldSpec(type="decimal", description="total"),
    }
    assert sorted(possible(specs, [Source(text)])) == asked


def test_a_value_beside_the_caption_of_another_is_refused() -> None:
    """Unless the same number also stands where it belongs."""
    spec = FieldSpec(type="decimal", description="total to pay", not_beside=("subtotal", "net"))
    lines = "Subtotal 100.00\nVAT 20.00\nTotal due 120.00"
    assert read("total", spec, "100.00", [Source(lines)]).wrong == 'stands beside "subtotal", which is another value'
    assert read("total", spec, "120.00", [Source(lines)]).wrong == ""
    both = read("total", spec, "100.00", [Source("Subtotal 100.00\nTotal due 100.00", 1)])
    assert (both.wrong, both.field.line) == ("", 2)
    assert read("total", spec, "120.00", [Source("Net 100.00 VAT 20.00 Total 120.00")]).wrong == ""
    assert read("total", spec, "100.00", [Source("internet 100.00")]).wrong == ""


def test_a_caption_of_its_own_may_hold_a_word_of_another() -> None:
    """Net à payer is what is to be paid, though it begins like the net amount."""
    spec = FieldSpec(type="decimal", description="total", not_beside=("net",), beside=("net à payer",))
    text = "Total net 603,00\nTVA 120,60   NET A PAYER   723,60 EUR"
    assert read("total", spec, "723.60", [Source(text)]).wrong == ""
    assert read("total", spec, "603.00", [Source(text)]).wrong == 'stands beside "net", which is another value'
