"""The plain way, to compare with: one call that writes label, fields and a self-rated confidence as JSON, sampled.

It is how a first version is usually written: a schema with every field, each a text or null, the model's default
temperature, no examples, and nothing that looks whether a value stands in the text. (With fields that may be left out, a
small model leaves out all of them.)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from config.engine import ModelSettings
from config.routes import FieldSpec, Route
from daemon.evaluation.outcome import Outcome, Value
from tasks.evidence import Source, find
from tasks.identifiers import NotAValue
from tasks.judging.calls import Ask
from tasks.model import Models
from tasks.models import Extracted, Noun
from tasks.prompts import Messages
from tasks.values import normalise

SAMPLING = {"temperature": 0.8, "seed": 1}
"""Ollama's own default temperature; the seed only makes a run repeatable."""
TOKENS = 400


class _Said(Noun):
    label: str
    confidence: float


def ask(engine: Models, settings: ModelSettings, route: Route, extracted: Extracted, case: str) -> Outcome:
    """Judge one case the plain way. Raises as tasks.model.Ollama.ask does."""
    specs = {name: spec for label in route.labels.values() for name, spec in label.fields.items()}
    model = route.model.name or settings.name
    wish = Ask(
        model, _messages(route, specs, extracted), "fields", TOKENS, settings.num_ctx, SAMPLING, _schema(route, specs)
    )
    answer = engine.ask(wish)
    told = Outcome(
        case=case, model=model, way="plain", prompt_tokens=answer.prompt_tokens, output_tokens=answer.output_tokens
    )
    try:
        written: dict[str, Any] = json.loads(answer.text)
        said = _Said(label=written.pop("label"), confidence=written.pop("confidence"))
        own = route.labels[said.label].fields
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
        return told.model_copy(update={"error": f"no such JSON was written ({answer.done_reason})"})
    confidence = min(max(said.confidence, 0.0), 1.0)
    sources = [Source.of(document) for document in extracted.documents]
    values = [
        _value(name, own[name], str(value), sources)
        for name, value in written.items()
        if name in own and isinstance(value, str | int | float) and value != ""
    ]
    found = {"label": said.label, "confidence": confidence, "raw_confidence": confidence, "values": tuple(values)}
    return told.model_copy(update={**found, "method": "self-rated"})


def _messages(route: Route, specs: dict[str, FieldSpec], extracted: Extracted) -> Messages:
    kinds = "\n".join(f"- {name}: {label.says}" for name, label in route.labels.items())
    fields = "\n".join(f"- {name}: {spec.description}" for name, spec in specs.items())
    system = (
        f"You sort documents. Labels:\n{kinds}\nFields:\n{fields}\n"
        "Answer in JSON: the label, the fields (null for what is not stated), and how confident you are, from 0 to 1."
    )
    head = f"From: {extracted.mail.from_name}\nSubject: {extracted.mail.subject}\n\n" if extracted.mail else ""
    text = "\n\n".join(document.text for document in extracted.documents if document.status == "read")
    return [{"role": "system", "content": system}, {"role": "user", "content": head + text}]


def _schema(route: Route, specs: dict[str, FieldSpec]) -> dict[str, Any]:
    text = {"anyOf": [{"type": "string", "maxLength": 120}, {"type": "null"}]}
    properties = {"label": {"enum": list(route.labels)}, **dict.fromkeys(specs, text), "confidence": {"type": "number"}}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _value(name: str, spec: FieldSpec, written: str, sources: Sequence[Source]) -> Value:
    """In its normal form where it has one. Whether it stands in the text is told, so that it can be counted."""
    for hints in dict.fromkeys(source.hints for source in sources):
        try:
            value = normalise(spec.type, written, hints)
        except NotAValue:
            continue
        return Value(name=name, value=value, supported=find(spec.type, value, written, sources) is not None)
    return Value(name=name, value=written.strip(), supported=find("text", written, written, sources) is not None)
