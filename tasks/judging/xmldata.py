"""Values that a document carries as data: the XML of an electronic invoice, embedded in its PDF or sent beside it.

They are taken as they are, by the field's `xml` in the route, and outrank what the model reads. What each line of the
XML's text is called, tasks/readers/structured.py says: `Total with tax`, or `LegalMonetaryTotal / PayableAmount`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from config.routes import FieldSpec
from tasks.evidence import Source, find
from tasks.identifiers import NotAValue, one_line
from tasks.models import Document, Field
from tasks.values import Hints, normalise

CONTENT_TYPE = "application/xml"
_ATTRIBUTES = re.compile(r" \([\w.:-]+=[^()]*\)$")
_WITNESSED = frozenset({"decimal", "iban"})
"""Types of which the pages must not say something else: what is paid, and to whom."""


@dataclass(frozen=True)
class Line:
    """One line of an XML document's text."""

    name: str
    value: str
    document: int
    number: int
    text: str


@dataclass
class Data:
    """What the XML gave for one label's fields."""

    fields: dict[str, Field] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    review: list[str] = field(default_factory=list)


def of(documents: Sequence[Document], specs: Mapping[str, FieldSpec]) -> Data:
    """The fields of `specs` that an XML document among `documents` has."""
    data = Data()
    wanted = {name: spec for name, spec in specs.items() if spec.xml}
    lines = [line for document in documents if wanted and _is_data(document) for line in _lines(document)]
    for name, spec in wanted.items():
        chosen = next((found for key in spec.xml if (found := [one for one in lines if _is_called(one, key)])), [])
        _take(data, name, spec, chosen)
    return data


def _is_data(document: Document) -> bool:
    return document.status == "read" and document.content_type == CONTENT_TYPE


def _lines(document: Document) -> list[Line]:
    found = []
    for number, text in enumerate(document.text.split("\n"), 1):
        name, colon, value = text.partition(": ")
        if colon:
            found.append(Line(name, _ATTRIBUTES.sub("", value), document.ordinal, number, text))
    return found


def _is_called(line: Line, key: str) -> bool:
    return line.name == key or line.name.endswith(f" / {key}")


def _take(data: Data, name: str, spec: FieldSpec, lines: Sequence[Line]) -> None:
    """The first line's value, unless another document's first line says something else."""
    firsts = {line.document: line for line in reversed(lines)}
    values: dict[str, Line] = {}
    for line in firsts.values():
        try:
            values.setdefault(_value(spec, line.value), line)
        except NotAValue as error:
            data.notes.append(f'{name}: the XML says "{line.value[:100]}", which {error}; the model was asked instead')
            return
    if len(values) > 1:
        said = " and ".join(value[:100] for value in sorted(values))
        data.review.append(f"{name}: there are {len(values)} XML documents, which say {said}")
    elif values:
        [(value, line)] = values.items()
        place = {"quote": line.text[:200], "document": line.document, "page": 1, "line": line.number}
        data.fields[name] = Field(name=name, value=value, supported=True, **place)


def _value(spec: FieldSpec, written: str) -> str:
    """Its normal form: XML writes numbers with a point (XML Schema part 2, section 3.2.3). Raises NotAValue."""
    value = normalise(spec.type, written, Hints(decimal_comma=False, day_first=True, region=spec.region))
    if spec.pattern and not re.fullmatch(spec.pattern, value):
        raise NotAValue(f"does not match {spec.pattern}")
    if spec.choices and value not in spec.choices:
        raise NotAValue(f"is none of {', '.join(spec.choices)}")
    return value


def compare(
    data: Data, read: Mapping[str, Field], specs: Mapping[str, FieldSpec], documents: Sequence[Document]
) -> None:
    """Note where the model read something else; an amount or IBAN that the pages contradict is for a person to see."""
    pages = [Source.of(document) for document in documents if document.status == "read" and not _is_data(document)]
    for name, ours in data.fields.items():
        theirs = read.get(name)
        if theirs is None or _same(specs[name].type, ours.value, theirs.value):
            continue
        data.notes.append(f'{name}: taken from the XML ("{ours.value}"); the model read "{theirs.value}"')
        kind = specs[name].type
        contradicted = kind in _WITNESSED and theirs.supported and find(kind, theirs.value, theirs.value, pages)
        if contradicted and not find(kind, ours.value, ours.value, pages):
            data.review.append(f"{name}: the XML says {ours.value}, the pages say {theirs.value} instead")


def _same(kind: str, one: str, other: str) -> bool:
    if kind in {"decimal", "integer"}:
        try:
            return Decimal(one) == Decimal(other)
        except ArithmeticError:  # the model's value was no number
            return False
    return one_line(one).casefold() == one_line(other).casefold()
