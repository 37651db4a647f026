"""The reply templates that ship."""

from __future__ import annotations

from typing import Any

import pytest
from selectolax.lexbor import LexborHTMLParser

from config.settings import TEMPLATES
from tasks.models import Document, MailFacts
from tasks.stages.reply import render

NAMES = sorted(path.name.removesuffix(".txt.j2") for path in (TEMPLATES / "reply").glob("*.txt.j2"))
LABELS = ("invoice", "contract", "complaint", "resume", "order")
FIELDS = {
    "invoice": {"vendor": "Oak Ltd", "number": "7", "total": "10.50", "currency": "EUR", "iban": "DE00"},
    "contract": {"title": "Lease", "start_date": "2026-01-01"},
    "complaint": {"order_number": "HL-1"},
    "resume": {"name": "Ada Fictional"},
    "order": {"number": "9", "total": "3.20", "currency": "GBP"},
}


def _unread(name: str) -> Document:
    return Document(
        ordinal=1, name=name, content_type="application/pdf", size=1, sha256="", status="unreadable", reason="damaged"
    )


def _render(name: str = "standard", **values: Any) -> tuple[str, str]:
    context = {
        "job": {"id": "01J0", "received_at": 0},
        "mail": MailFacts(),
        "label": "invoice",
        "fields": {},
        "summary": "",
        "free_text": "",
        "documents": (),
        "unreadable": [],
        "language": "en",
    }
    return render(TEMPLATES, name, {**context, **values})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("language", ["en", "de", "fr", ""])
def test_every_template_renders_with_nothing_known(name: str, language: str) -> None:
    """Without a field, a language or a sentence of the model the reply is still whole, in text and in HTML."""
    text, html = _render(name, language=language, label="other")
    greeting = "Guten Tag," if language == "de" else "Hello,"
    assert text.startswith(f"{greeting}\n\n")
    assert text.endswith(" 01J0\n")
    assert "\n\n\n" not in text
    assert greeting in html


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("language", ["en", "de"])
def test_standard_speaks_of_the_label(label: str, language: str) -> None:
    """The template of the shipped routes chooses its words by label and shows the label's fields, units included."""
    values = {"label": label, "fields": FIELDS[label], "language": language}
    text, html = _render(**values)
    assert (text, html) == _render(label, **values)
    shown = [value for name, value in FIELDS[label].items() if name not in {"currency", "iban"}]
    assert all(value in text and value in html for value in shown)
    if "total" in FIELDS[label]:
        assert f"{FIELDS[label]['total']} {FIELDS[label]['currency']}" in text


def test_a_field_that_is_missing_leaves_no_line() -> None:
    """Only what was read and found in the document is shown."""
    text, html = _render(fields={"number": "7"})
    assert "Invoice number: 7" in text
    assert not any(words in text + html for words in ("Due date", "Total", "From"))


def test_sentences_of_the_model_stand_once_and_replace_ours() -> None:
    """The model's sentences stand in place of the receipt that is said without them."""
    without, _ = _render()
    text, html = _render(free_text="We have your bill and pass it on.")
    assert "We have received it." in without
    assert "We have received it." not in text
    assert text.count("We have your bill") == html.count("We have your bill") == 1


@pytest.mark.parametrize("words", ["Thank you for the bill.", "Vielen Dank für die Rechnung.", "We have your bill."])
def test_thanks_are_said_once(words: str) -> None:
    """Where the model's sentences begin with thanks, ours are left out; otherwise they stand before them."""
    for part in _render(free_text=words):
        assert ("thank you for your invoice" in part) is (words == "We have your bill.")


def test_unread_attachments_are_named() -> None:
    """Whoever sent what cannot be read learns it."""
    text, html = _render(unreadable=[_unread("scan.pdf")])
    assert "could not read" in text
    assert "  scan.pdf\n" in text
    assert "<li>scan.pdf</li>" in html


@pytest.mark.parametrize("name", NAMES)
def test_html_shows_hostile_words_as_words(name: str) -> None:
    """Markup in a value, a name or the model's sentences is text, and nothing is loaded from elsewhere."""
    evil = '<img src="https://evil.example/x.png"><script>alert(1)</script>'
    everything = {key: evil for values in FIELDS.values() for key in values}
    for label in LABELS:
        _, html = _render(name, label=label, fields=everything, free_text=evil, unreadable=[_unread(evil)])
        tree = LexborHTMLParser(html)
        assert not tree.css("img, script, link, iframe, object, a, [src], [href], [background]")
        assert "url(" not in html
        assert "alert(1)" in (tree.body.text() if tree.body else "")
