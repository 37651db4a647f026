"""What a webhook tells about a job: the full documented payload, or a template filled with it.

The shape is recommended by Standard Webhooks 1.0.0 ("Payload structure"): `type`, `timestamp`, `data`. Its JSON Schema
is docs/webhook-payload.schema.json, generated from the classes here. Values without evidence are told as null: a
receiver must not book what nobody found in the document.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict
from pydantic import Field as Attribute

from config.outbound import WebhookEndpoint
from config.settings import Settings
from tasks.clock import iso
from tasks.errors import Permanent
from tasks.links import unlinked
from tasks.models import Classification, Document, Extracted, Field, Job, Reply

CONTENT_TYPE = "application/json"
SCHEMA_ID = "urn:postroom:webhook-payload:1"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class JobPart(_Part):
    """What arrived."""

    id: str = Attribute(description="The job's id; the same in log lines and in `postroom show`.")
    url: str = Attribute(description="Where the job can be looked at; empty when no public_url is configured.")
    source: str = Attribute(description="Way in: smtp, imap:NAME, webhook:NAME, folder:NAME, api.")
    kind: str = Attribute(description="mail, event or file.")
    key: str = Attribute(description="The sender's own name for it: Message-ID, webhook-id, ...")
    route: str | None = Attribute(description="Name of the route that matched.")
    sender: str = Attribute(description="Envelope sender; empty for events and files.")
    recipients: tuple[str, ...] = Attribute(description="Envelope recipients.")
    subject: str = Attribute(description="Subject of a mail.")
    message_id: str = Attribute(description="Message-ID of a mail, with angle brackets.")
    name: str = Attribute(description="File name, when a file came in.")
    content_type: str
    size: int = Attribute(description="Bytes of the raw message.")
    sha256: str = Attribute(description="Of the raw message, in hex.")
    received_at: str = Attribute(description="RFC 3339, UTC.")


class DocumentPart(_Part):
    """One readable or unreadable thing in it."""

    ordinal: int
    name: str
    content_type: str = Attribute(description="As found in the bytes, not as claimed.")
    size: int
    sha256: str
    status: str = Attribute(description="read, unreadable or skipped.")
    reason: str = Attribute(description="Why it is unreadable or skipped.")
    pages: int
    language: str = Attribute(description="ISO 639-1, or empty.")
    parent: str = Attribute(description="Name of the archive or mail it was found in.")


class FieldPart(_Part):
    """One value the model read, with its evidence."""

    value: str | None = Attribute(description="Normalised value; null when it was not found again in the text.")
    quote: str = Attribute(description="The words it was read from.")
    document: int | None = Attribute(description="Ordinal of the document they stand in.")
    page: int | None = Attribute(description="1-based page of the quote.")
    line: int | None = Attribute(description="1-based line of the quote.")


class ReplyPart(_Part):
    """The mail that answers it."""

    subject: str
    text: str = Attribute(description="Plain text of the reply; empty when none goes out.")
    not_sent_because: str = Attribute(description="Why no reply goes out; empty when one does.")


class Data(_Part):
    """The outcome of a job."""

    job: JobPart
    label: str | None = Attribute(description="The kind of document, one of the route's labels; null without labels.")
    confidence: float | None = Attribute(description="Probability of the label, 0 to 1.")
    alternatives: dict[str, float] = Attribute(description="Every label's probability.")
    summary: str = Attribute(description="One sentence by the model.")
    fields: dict[str, FieldPart] = Attribute(description="Values read from the document, by name.")
    documents: tuple[DocumentPart, ...]
    reply: ReplyPart
    model: str = Attribute(description="The model that read it.")
    notes: tuple[str, ...] = Attribute(description="What an admin should know: split documents, repaired output.")


class Payload(_Part):
    """Body of a webhook that Postroom sends when a job was processed."""

    type: Literal["job.processed"] = "job.processed"
    timestamp: str = Attribute(description="When the job was processed: RFC 3339, UTC.")
    data: Data


def payload_of(
    job: Job, extracted: Extracted, classification: Classification | None, reply: Reply | None, public_url: str = ""
) -> Payload:
    """The full payload of a job that was classified and answered."""
    seen = classification or Classification(label="", confidence=0)
    return Payload(
        timestamp=iso(job.updated_at),
        data=Data(
            job=_job(job, public_url),
            label=seen.label or None,
            confidence=seen.confidence if seen.label else None,
            alternatives=seen.alternatives,
            summary=seen.summary,
            fields={field.name: _field(field) for field in seen.fields},
            documents=tuple(map(_document, extracted.documents)),
            reply=_reply(reply),
            model=seen.model,
            notes=seen.notes,
        ),
    )


def body_for(endpoint: WebhookEndpoint, payload: Payload, templates_dir: Path) -> bytes:
    """The exact bytes to post: the payload as JSON, or the endpoint's template filled with it.

    Raises Permanent when the template is missing, fails or does not make JSON.
    """
    if not endpoint.template:
        return payload.model_dump_json().encode()
    return render(endpoint.template, payload, templates_dir)


def render(name: str, payload: Payload, templates_dir: Path) -> bytes:
    """Fill templates/webhook/<name>.json.j2; it sees `type`, `timestamp`, `data` and `values` (field name to value)."""
    values = {key: field.value for key, field in payload.data.fields.items() if field.value is not None}
    return fill(f"{name}.json.j2", {**payload.model_dump(mode="json"), "values": values}, templates_dir)


def fill(file: str, told: dict[str, Any], templates_dir: Path) -> bytes:
    """The bytes that templates/webhook/<file> makes of `told`. Raises Permanent when it fails or does not make JSON."""
    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.FileSystemLoader(templates_dir / "webhook"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
    environment.filters["unlinked"] = unlinked
    try:
        text = environment.get_template(file).render(told).strip()
        json.loads(text)
    except jinja2.TemplateNotFound as error:
        raise Permanent(f"template {templates_dir / 'webhook' / (error.name or file)} is missing") from None
    except jinja2.TemplateError as error:
        raise Permanent(f"template webhook/{file}: {error}") from None
    except (ValueError, TypeError) as error:  # TypeError: an unknown name given to tojson
        raise Permanent(
            f"template webhook/{file} does not make JSON ({error}); write values as {{{{ x | tojson }}}}"
        ) from None
    return text.encode()


def template_problems(settings: Settings) -> list[str]:
    """What is wrong with the endpoints' templates, one line each; tried with an example payload."""
    problems = []
    for name, endpoint in settings.endpoint.items():
        try:
            body_for(endpoint, EXAMPLE, settings.templates_dir)
        except Permanent as error:
            problems.append(f"endpoint.{name}.template: {error.reason}")
    return problems


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the payload, as published in docs/webhook-payload.schema.json."""
    made = Payload.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, **made}


def _job(job: Job, public_url: str) -> JobPart:
    return JobPart(
        id=job.id,
        url=f"{public_url.rstrip('/')}/jobs/{job.id}" if public_url else "",
        source=job.source,
        kind=job.kind.value,
        key=job.key,
        route=job.route,
        sender=job.sender,
        recipients=job.recipients,
        subject=job.subject,
        message_id=job.message_id,
        name=job.name,
        content_type=job.content_type,
        size=job.raw_size,
        sha256=job.raw_sha256,
        received_at=iso(job.received_at),
    )


def _document(document: Document) -> DocumentPart:
    return DocumentPart(**document.model_dump(include=set(DocumentPart.model_fields)))


def _field(field: Field) -> FieldPart:
    return FieldPart(
        value=field.value if field.supported else None,
        quote=field.quote,
        document=field.document,
        page=field.page,
        line=field.line,
    )


def _reply(reply: Reply | None) -> ReplyPart:
    if reply is None or not reply.text or reply.not_sent_because:
        because = reply.not_sent_because if reply else ""
        return ReplyPart(subject="", text="", not_sent_because=because or "the route sends no reply")
    return ReplyPart(subject=reply.subject, text=reply.text, not_sent_because="")


EXAMPLE = Payload(
    timestamp="2026-03-02T09:14:11Z",
    data=Data(
        job=JobPart(
            id="01jqs8c2m4e6d0v9x7h3k5t1nb",
            url="https://postroom.example/jobs/01jqs8c2m4e6d0v9x7h3k5t1nb",
            source="imap:support",
            kind="mail",
            key="<4711@supplier.example>",
            route="invoices",
            sender="billing@supplier.example",
            recipients=("invoices@team.example",),
            subject="Invoice 20418",
            message_id="<4711@supplier.example>",
            name="",
            content_type="message/rfc822",
            size=48_213,
            sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            received_at="2026-03-02T09:14:02Z",
        ),
        label="invoice",
        confidence=0.97,
        alternatives={"invoice": 0.97, "reminder": 0.03},
        summary="An invoice over 1,190.00 EUR, due on 1 April 2026.",
        fields={
            "total": FieldPart(value="1190.00", quote="Total EUR 1,190.00", document=1, page=1, line=31),
            "purchase_order": FieldPart(value=None, quote="", document=None, page=None, line=None),
        },
        documents=(
            DocumentPart(
                ordinal=1,
                name="invoice-20418.pdf",
                content_type="application/pdf",
                size=33_120,
                sha256="60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
                status="read",
                reason="",
                pages=1,
                language="en",
                parent="",
            ),
        ),
        reply=ReplyPart(subject="Re: Invoice 20418", text="Thank you, we received your invoice.", not_sent_because=""),
        model="qwen2.5-coder:1.5b",
        notes=(),
    ),
)
"""A complete payload: shown in docs/webhooks.md, and what templates are tried with."""
