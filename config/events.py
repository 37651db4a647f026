"""What a route makes of an event: a text, a subject and documents, found by JSON paths."""

from __future__ import annotations

from typing import Annotated

from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.parser import parse as parse_json_path
from pydantic import AfterValidator, Field, model_validator

from config.inbound import Section


def _json_path(value: str) -> str:
    try:
        parse_json_path(value)
    except (JSONPathError, AttributeError, TypeError) as error:
        raise ValueError(f"{value!r} is no JSON path: {error}; write $.order.id") from None
    return value


JsonPath = Annotated[str, AfterValidator(_json_path)]


class EventDocument(Section):
    """Documents of an event: where each stands, and exactly one of `base64`, `url` and `text`."""

    each: JsonPath = Field("$", description="JSON path of the objects that hold one each: `$.files[*]`.")
    base64: JsonPath | None = Field(
        None, description="JSON path, from the object, of a file in base64 or as a `data:` URL."
    )
    url: JsonPath | None = Field(
        None, description="JSON path of an address that the file is fetched from, as [webhook.NAME.fetch] allows."
    )
    text: JsonPath | None = Field(None, description="JSON path of text that is a document of its own.")
    name: JsonPath | None = Field(None, description="JSON path of the file's name.")
    type: JsonPath | None = Field(
        None, description="JSON path of its content type; it only tells kinds of text apart, the bytes decide."
    )

    @model_validator(mode="after")
    def _one_of(self) -> EventDocument:
        if sum(path is not None for path in (self.base64, self.url, self.text)) != 1:
            raise ValueError('needs exactly one of `base64`, `url` and `text`; write url = "$.download_url"')
        return self

    @property
    def content(self) -> str:
        """The path of the content."""
        return self.base64 or self.url or self.text or ""


class EventSpec(Section):
    """What becomes of an event's JSON or form fields. Without it the event is one document: its JSON, indented."""

    template: str = Field(
        "", description="Template templates/event/<name>.txt.j2, which writes the event's text; empty: its JSON."
    )
    subject: JsonPath | None = Field(None, description="JSON path of what lists and replies call it.")
    documents: tuple[EventDocument, ...] = Field((), description="Where files and texts stand in it.")

    @model_validator(mode="after")
    def _not_empty(self) -> EventSpec:
        if not (self.template or self.subject or self.documents):
            raise ValueError("says nothing; set template, subject or [[event.documents]], or take it out")
        return self
