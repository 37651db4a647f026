"""What a reviewer makes of a judgement: another label, other values, and the reply that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from config.routes import FieldSpec, Route
from tasks.evidence import Source, find
from tasks.identifiers import NotAValue
from tasks.models import Classification, Extracted, Field
from tasks.values import normalise


@dataclass(frozen=True)
class Row:
    """One value on the form."""

    name: str
    value: str
    """What stands in the form."""
    spec: FieldSpec | None
    found: Field | None
    """As the model read it."""
    problem: str = ""


@dataclass(frozen=True)
class Draft:
    """The form as it stands."""

    label: str
    rows: tuple[Row, ...]
    judged: Classification
    """What would be decided."""
    before: Classification = field(default_factory=lambda: Classification(label="", confidence=0.0))
    """What the model said."""

    @property
    def problems(self) -> bool:
        """Whether a value cannot be taken as it is written."""
        return any(row.problem for row in self.rows)

    def facts(self) -> dict[str, object]:
        """The part of a decision that tells what was corrected."""
        return {
            "label_before": self.before.label,
            "label": self.judged.label,
            "fields_before": self.before.values(),
            "fields": self.judged.values(),
        }


def draft(
    route: Route, extracted: Extracted, before: Classification | None, label: str, written: Mapping[str, str] | None
) -> Draft:
    """The form for `label`: filled with what the model found, or with what a reviewer has `written`."""
    before = before or Classification(label="", confidence=0.0)
    specs = route.labels[label].fields if label in route.labels else {}
    found = {one.name: one for one in before.fields}
    sources = [Source.of(document) for document in extracted.documents if document.status == "read"]
    names = [*specs, *(name for name in found if name not in specs and label == before.label)]
    rows, fields = [], []
    for name in names:
        one = found.get(name)
        as_read = one.value if one and one.supported else ""
        value = as_read if written is None else written.get(name, "").strip()
        kept, problem = _value(name, value, specs.get(name), one, sources)
        rows.append(Row(name, value, specs.get(name), one, problem))
        if kept:
            fields.append(kept)
    sure = before.confidence if label == before.label else 1.0
    judged = before.model_copy(update={"label": label, "confidence": sure, "fields": tuple(fields), "review": ""})
    return Draft(label, tuple(rows), judged, before)


def _value(
    name: str, value: str, spec: FieldSpec | None, found: Field | None, sources: list[Source]
) -> tuple[Field | None, str]:
    """The field that a value makes, or what is wrong with it. A person's word needs no evidence, but gets it."""
    if not value:
        return None, ""
    if found and found.supported and value == found.value:
        return found, ""
    kind = spec.type if spec else "text"
    try:
        normal = normalise(kind, value, sources[0].hints if sources else Source("").hints)
    except NotAValue as error:
        return None, str(error)
    if spec and spec.choices and normal not in spec.choices:
        return None, f"is none of {', '.join(spec.choices)}"
    place = find(kind, normal, value, sources, name)
    told = {"name": name, "value": normal, "supported": True}
    if place is None:
        return Field(**told), ""
    return Field(**told, quote=place.quote, document=place.document, page=place.page, line=place.line), ""
