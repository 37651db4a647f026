"""The plain way: what is made of the JSON that a model wrote."""

from __future__ import annotations

from typing import Any, cast

import pytest

from config.engine import ModelSettings
from config.routes import FieldSpec, Label, Route
from daemon.evaluation import plain
from daemon.evaluation.outcome import Outcome
from tasks.judging.calls import Answer, Ask
from tasks.models import Document, Extracted

ROUTE = Route(
    name="post",
    labels={
        "bill": Label(
            says="A bill to pay.",
            fields={
                "total": FieldSpec(type="decimal", description="total"),
                "due": FieldSpec(type="date", description="due date"),
            },
        ),
        "order": Label(says="Somebody orders.", fields={"customer": FieldSpec(description="customer")}),
    },
)
TEXT = "Rechnung. Summe 1.234,50 EUR, zahlbar bis 3. Mai 2026."


def told(text: str, asked: list[Ask] | None = None) -> Outcome:
    class Engine:
        def ask(self, wish: Ask) -> Answer:
            if asked is not None:
                asked.append(wish)
            return Answer(text=text, done_reason="stop", prompt_tokens=90, output_tokens=20)

    document = Document(
        ordinal=0, name="a.txt", content_type="text/plain", size=1, sha256="", text=TEXT, status="read", language="de"
    )
    engine = cast("Any", Engine())
    return plain.ask(engine, ModelSettings(), ROUTE, Extracted(documents=(document,)), "a")


def test_values_are_made_comparable_and_looked_for() -> None:
    """In their normal form, those of the label alone; what stands nowhere is told, and would go out all the same."""
    found = told('{"label": "bill", "total": "1.234,50", "due": "2026-06-01", "customer": "Ada", "confidence": 7}')
    assert [(one.name, one.value, one.supported) for one in found.values] == [
        ("total", "1234.50", True),
        ("due", "2026-06-01", False),
    ]
    assert found.sent == found.values
    assert (found.label, found.confidence, found.prompt_tokens) == ("bill", 1.0, 90)


def test_it_is_one_sampled_call() -> None:
    """At Ollama's own temperature, with every field of every label in one schema."""
    asked: list[Ask] = []
    told('{"label": "bill", "confidence": 0.5}', asked)
    [wish] = asked
    assert wish.options["temperature"] == 0.8
    schema = cast("dict[str, Any]", wish.schema)
    assert list(schema["properties"]) == ["label", "total", "due", "customer", "confidence"]


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"label": "bill"}', '{"label": "bill", "confi', '{"label": "bil", "confidence": 1}']
)
def test_what_is_no_such_json_is_an_error(text: str) -> None:
    """It counts as a case without an answer."""
    assert told(text).error == "no such JSON was written (stop)"
