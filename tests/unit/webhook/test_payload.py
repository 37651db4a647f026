"""What a webhook tells about a job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from config.settings import TEMPLATES, Settings
from tasks.errors import Permanent
from tasks.models import Classification, Document, Extracted, Field, Job, Kind, Reply, State
from tasks.payload import EXAMPLE, body_for, payload_of, render, schema, template_problems

DOCS = Path(__file__).resolve().parents[3] / "docs"


def job(**changes: Any) -> Job:
    values = {
        "id": "01jqs8c2m4e6d0v9x7h3k5t1nb",
        "source": "imap:support",
        "kind": Kind.MAIL,
        "key": "<1@a.example>",
        "state": State.REPLYING,
        "stage": "reply",
        "route": "invoices",
        "sender": "a@a.example",
        "recipients": ("b@b.example",),
        "subject": "Invoice \u2028 \U0001f4a5 </script>",
        "message_id": "<1@a.example>",
        "content_type": "message/rfc822",
        "name": "",
        "headers": {},
        "raw_sha256": "0" * 64,
        "raw_size": 10,
        "label": None,
        "confidence": None,
        "reason": "",
        "attempts": 0,
        "lease_token": 0,
        "lease_owner": "",
        "lease_beat": 0,
        "due_at": None,
        "received_at": 1_772_442_842_000,
        "updated_at": 1_772_442_851_000,
    }
    return Job.model_validate({**values, **changes})


EXTRACTED = Extracted(
    documents=(
        Document(ordinal=0, name="body", content_type="text/plain", size=5, sha256="1" * 64, text="secret text"),
        Document(
            ordinal=1, name="x.pdf", content_type="application/pdf", size=9, sha256="2" * 64,
            status="unreadable", reason="encrypted",
        ),
    )
)  # fmt: skip
SEEN = Classification(
    label="invoice",
    confidence=0.9,
    alternatives={"invoice": 0.9, "other": 0.1},
    fields=(
        Field(name="total", value="1190.00", quote="EUR 1,190.00", document=0, page=1, line=2, supported=True),
        Field(name="iban", value="DE00INVENTED", supported=False),
    ),
)
REPLY = Reply(subject="Re: x", text="Thank you.")


def made(**changes: Any) -> dict[str, Any]:
    arguments = {"job": job(), "extracted": EXTRACTED, "classification": SEEN, "reply": REPLY, **changes}
    content: dict[str, Any] = json.loads(payload_of(**arguments).model_dump_json())
    return content


@pytest.mark.parametrize(
    "changes", [{}, {"classification": None}, {"reply": None}, {"extracted": Extracted()}, {"public_url": "https://p/"}]
)
def test_every_payload_follows_the_published_schema(changes: dict[str, Any]) -> None:
    """docs/webhook-payload.schema.json accepts what is sent."""
    published = json.loads((DOCS / "webhook-payload.schema.json").read_text())
    jsonschema.Draft202012Validator(published).validate(made(**changes))


def test_the_published_schema_is_the_codes() -> None:
    """The file in docs/ is generated from tasks/payload.py; regenerate it with `json.dumps(schema(), indent=2)`."""
    assert json.loads((DOCS / "webhook-payload.schema.json").read_text()) == schema()


def test_the_schema_refuses_what_is_no_payload() -> None:
    """It is not a schema that everything passes."""
    validator = jsonschema.Draft202012Validator(schema())
    whole = made()
    for broken in ({}, {**whole, "type": "other"}, {**whole, "data": {**whole["data"], "confidence": "high"}}):
        assert not validator.is_valid(broken)


def test_a_value_without_evidence_is_null() -> None:
    """Nobody may book what was not found in the document; the receiver still sees that the field was looked for."""
    fields = made()["data"]["fields"]
    assert fields["total"] == {"value": "1190.00", "quote": "EUR 1,190.00", "document": 0, "page": 1, "line": 2}
    assert fields["iban"]["value"] is None
    assert "INVENTED" not in json.dumps(made())


def test_documents_are_listed_without_their_text() -> None:
    """Each document with what became of it; its text stays here."""
    content = made()["data"]
    assert [one["status"] for one in content["documents"]] == ["read", "unreadable"]
    assert content["documents"][1]["reason"] == "encrypted"
    assert "secret text" not in json.dumps(content)


def test_a_reply_that_is_not_sent_is_not_told_as_one() -> None:
    """The reason stands where the text would."""
    held = made(reply=REPLY.model_copy(update={"not_sent_because": "it is a newsletter"}))["data"]["reply"]
    assert held == {"subject": "", "text": "", "not_sent_because": "it is a newsletter"}
    assert made()["data"]["reply"]["text"] == "Thank you."


def test_times_are_utc() -> None:
    """RFC 3339 with Z."""
    assert made()["timestamp"] == "2026-03-02T09:14:11Z"
    assert made()["data"]["job"]["received_at"] == "2026-03-02T09:14:02Z"


def endpoint(template: str) -> Any:
    return Settings.model_validate({"endpoint": {"x": {"url": "https://h/", "template": template}}}).endpoint["x"]


def test_without_a_template_the_full_payload_is_sent() -> None:
    """Compact JSON in UTF-8."""
    body = body_for(endpoint(""), EXAMPLE, TEMPLATES)
    assert json.loads(body) == EXAMPLE.model_dump(mode="json")


@pytest.mark.parametrize(
    "name",
    sorted(
        path.name.removesuffix(".json.j2")
        for path in (TEMPLATES / "webhook").glob("*.j2")
        if not path.name.endswith(".alert.json.j2")  # filled with alerts: tests/unit/test_alerts.py
    ),
)
def test_every_shipped_template_makes_json_of_any_text(name: str) -> None:
    """Quotes, line separators and markup in a subject cannot break out of their place."""
    payload = payload_of(job(subject='", "x": "<!channel> & </script>\u2028\n'), EXTRACTED, SEEN, REPLY)
    content = json.loads(body_for(endpoint(name), payload, TEMPLATES))
    assert "x" not in content
    assert "<!channel>" not in json.dumps(content)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": {{ data.nothing }} }', "has no attribute 'nothing'"),
        ('{"a": {{ data.label }} }', "does not make JSON"),
        ('{"a": {{ data.nothing | tojson }} }', "does not make JSON"),
        ('{"a": {{ data.label | tojson }', "unexpected '}'"),
        ("{{ data.__class__.__mro__ }}", "webhook/mine.json.j2"),
    ],
)
def test_a_template_that_fails_is_permanent(tmp_path: Path, text: str, said: str) -> None:
    """The reason names the file and what is wrong; templates run sandboxed."""
    (tmp_path / "webhook").mkdir()
    (tmp_path / "webhook" / "mine.json.j2").write_text(text)
    with pytest.raises(Permanent) as caught:
        render("mine", EXAMPLE, tmp_path)
    assert said in caught.value.reason


def test_check_finds_templates_that_are_missing(tmp_path: Path) -> None:
    """`postroom check` tells before the first delivery does."""
    settings = Settings.model_validate(
        {
            "templates_dir": tmp_path,
            "endpoint": {"x": {"url": "https://h/", "template": "thin"}, "y": {"url": "https://h/"}},
        }
    )
    (told,) = template_problems(settings)
    assert told.startswith("endpoint.x.template: ")
    assert "thin.json.j2 is missing" in told
