"""The fields of a label: the schema the model fills, and what becomes of its answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, create_model
from pydantic import Field as Attribute

from config.routes import FieldSpec
from tasks.errors import Transient
from tasks.evidence import Captions, Evidence, Source, find
from tasks.identifiers import VAT_PREFIXES, NotAValue, one_line
from tasks.judging.firms import whole_name
from tasks.models import Field
from tasks.values import normalise

SUMMARY_CHARACTERS = 240
_CHARACTERS = {
    "text": 160,
    "email": 120,
    "currency": 16,
    "date": 40,
    "decimal": 40,
    "integer": 24,
    "iban": 48,
    "vat_id": 40,
    "phone": 40,
}
_ANYTHING = re.compile("")
_SIGN = {
    "email": re.compile("@"),
    "iban": re.compile(r"\b[A-Z]{2} ?[\dOI]{2}(?:[ -]?[A-Z\d]){11,30}\b"),
    "vat_id": re.compile(
        rf"\b(?:{'|'.join((*VAT_PREFIXES, 'GR'))})[ .-]?[A-Z\d]{{0,2}}(?:[ .-]?[\dOI]){{6,12}}(?! ?\d)"
    ),
    "phone": re.compile(r"\d(?:[\s()/.-]{0,3}\d){5}"),
} | dict.fromkeys(("text", "date", "decimal", "integer", "currency", "boolean"), _ANYTHING)
"""What a text shows that has a value of the type; other types have no sign that is cheaper than asking."""
_NOTHING = frozenset(
    {"", "null", "none", "n/a", "na", "unknown", "not specified", "not provided", "not stated", "-", "--"}
)


def summary_key(specs: Mapping[str, FieldSpec]) -> str:
    """Name of the summary in the answer; another one when a field is called so."""
    return "summary" if "summary" not in specs else "summary_in_one_sentence"


def possible(specs: Mapping[str, FieldSpec], sources: Sequence[Source]) -> dict[str, FieldSpec]:
    """The fields that the text can have at all: a weak model makes up an IBAN or an address rather than say none."""
    return {name: spec for name, spec in specs.items() if any(_SIGN[spec.type].search(one.text) for one in sources)}


def answer_model(specs: Mapping[str, FieldSpec], summary: str, label: str) -> type[BaseModel]:
    """The pydantic model of the answer: every field may be null, texts are as long as their type can need.

    It begins with the label, as the answer before it did: a weak model that has to open with a value opens with null.
    `summary` names the summary's key.
    """
    fields: dict[str, Any] = {} if "label" in specs else {"label": (Literal[(label,)], Attribute())}
    for name, spec in specs.items():
        kind: Any = Annotated[str, StringConstraints(max_length=_CHARACTERS.get(spec.type, 16))]
        if spec.type == "boolean":
            kind = bool
        if spec.choices:
            kind = Literal[spec.choices]
        fields[name] = (kind | None, Attribute())
    fields[summary] = (Annotated[str, StringConstraints(max_length=SUMMARY_CHARACTERS)], Attribute())
    return create_model("Answer", __config__=ConfigDict(extra="ignore", strict=True), **fields)


def schema(model: type[BaseModel]) -> dict[str, Any]:
    """JSON schema of an answer, without the titles that only cost tokens and time."""

    def bare(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: bare(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
        return [bare(item) for item in node] if isinstance(node, list) else node

    plain: dict[str, Any] = bare(model.model_json_schema())
    return plain | {"additionalProperties": False}


def parse(model: type[BaseModel], text: str) -> dict[str, str | None]:
    """The answer's values as the model wrote them. Raises ValueError with what is wrong, in words for the model."""
    try:
        answer = model.model_validate_json(_json_of(text))
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'answer'}: {item['msg']}" for item in error.errors()[:5]
        )
        raise ValueError(wrong) from None
    return {name: _written(value) for name, value in answer.model_dump().items()}


def _json_of(text: str) -> str:
    """The JSON object in an answer, without the code fence that some models put around it."""
    found = re.search(r"\{.*\}", text, re.DOTALL)
    return found[0] if found else text


def _written(value: object) -> str | None:
    if value is None or isinstance(value, bool):
        return None if value is None else str(value).lower()
    written = one_line(str(value))
    return None if written.casefold() in _NOTHING else written


@dataclass(frozen=True)
class Reading:
    """One field as read from one answer."""

    field: Field
    wrong: str = ""
    """What is wrong with the value, empty when nothing is: finishes the sentence "<value> ..."."""
    score: int = 0
    """How well its evidence fits."""
    loose: bool = False
    """Found only by allowing for OCR confusions."""


def read(name: str, spec: FieldSpec, written: str, sources: Sequence[Source]) -> Reading:
    """One field from what the model wrote, with its evidence or with what is wrong.

    The value of a text is spelled as the document spells it, not as the model copied it.
    """
    if spec.type == "text" and not spec.choices:
        written = whole_name(written, (source.text for source in sources))
    value, wrong = _value(spec, written, sources)
    if wrong:
        return Reading(Field(name=name, value=written), wrong)
    evidence = located(name, spec, value, written, sources)
    if evidence is None:
        return Reading(Field(name=name, value=value), "is not in the text")
    if evidence.beside:
        return Reading(Field(name=name, value=value), f'stands beside "{evidence.beside}", which is another value')
    if spec.type == "text" and not evidence.loose and not spec.choices:
        value = evidence.words
    if spec.pattern and not re.fullmatch(spec.pattern, value):
        return Reading(Field(name=name, value=value), f"does not match {spec.pattern}")
    return Reading(_with(Field(name=name, value=value), evidence), "", evidence.score, evidence.loose)


def located(name: str, spec: FieldSpec, value: str, written: str, sources: Sequence[Source]) -> Evidence | None:
    """The best place of a field's value, by what its route says of it; None when it stands nowhere."""
    captions = Captions(spec.not_beside, spec.beside)
    return find(spec.type, value, written, sources, f"{name} {spec.description}", captions)


def _value(spec: FieldSpec, written: str, sources: Sequence[Source]) -> tuple[str, str]:
    """The normal form by the habits of the first document in which it can be read, or what is wrong with it."""
    wrong = "cannot be read"
    for hints in dict.fromkeys(source.hints for source in sources):
        try:
            return normalise(spec.type, written, replace(hints, region=spec.region)), ""
        except NotAValue as error:
            wrong = str(error)
    return "", wrong


def _with(field: Field, evidence: Evidence) -> Field:
    place = {"quote": evidence.quote, "document": evidence.document, "page": evidence.page, "line": evidence.line}
    return field.model_copy(update={**place, "supported": True})


def best(readings: Iterable[Reading]) -> Reading | None:
    """Of one field read from several parts: the one with the best evidence, the first of equals."""
    return max(readings, key=lambda one: (one.field.supported, one.score), default=None)


def missing(specs: Mapping[str, FieldSpec], fields: Iterable[Field]) -> list[str]:
    """Names of required fields that have no supported value."""
    there = {field.name for field in fields if field.supported}
    return [name for name, spec in specs.items() if spec.required and name not in there]


class LabelOnly:
    """The form of a label named by schema, for servers that tell no log-probabilities."""

    def __init__(self, labels: Sequence[str]) -> None:
        kind: Any = Literal[tuple(labels)]
        self._model: type[BaseModel] = create_model("Answer", label=(kind, Attribute()))
        self.schema = schema(self._model)

    def read(self, text: str) -> str:
        """The label. Raises Transient when the server did not keep to the schema."""
        try:
            return str(self._model.model_validate_json(_json_of(text)).model_dump()["label"])
        except ValidationError:
            raise Transient("the model named no label although the schema allows nothing else") from None
