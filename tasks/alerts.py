"""Alerts: one message to the people in [alerts] about one thing that needs them, however often it is noticed.

An alert is a job of the source `postroom`, so it has the retries, the breaker and the story of every other job. Its key
names what it is about, and the ledger takes a key once: whoever asks, how often, on how many hosts. A job of this kind
that fails raises no further alert.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Attribute

from config.settings import Settings
from tasks import log
from tasks.clock import HOUR_MS, iso, now_ms
from tasks.compose import announce
from tasks.configured import message_id_secret
from tasks.errors import Permanent
from tasks.ids import new_job_id
from tasks.ledger import Ledger, Notice
from tasks.models import Delivery
from tasks.payload import CONTENT_TYPE, fill

SCHEMA_ID = "urn:postroom:webhook-alert:1"


class AlertPart(BaseModel):
    """What is the matter."""

    model_config = ConfigDict(frozen=True)
    job: str = Attribute(description="The alert's own job: `postroom show JOB`.")
    url: str = Attribute(description="Where it can be looked at; empty when no public_url is configured.")
    key: str = Attribute(description="What it is about; one alert is sent for one key.")
    subject: str = Attribute(description="One line.")
    text: str = Attribute(description="All of it, and what to do; plain text.")


class AlertPayload(BaseModel):
    """Body of a webhook that Postroom sends when something needs a person."""

    model_config = ConfigDict(frozen=True)
    type: Literal["alert"] = "alert"
    timestamp: str = Attribute(description="When it was noticed: RFC 3339, UTC.")
    data: AlertPart


EXAMPLE = AlertPayload(
    timestamp="2026-03-02T09:14:11Z",
    data=AlertPart(
        job="01jqs8c2m4e6d0v9x7h3k5t1nb",
        url="https://postroom.example/jobs/01jqs8c2m4e6d0v9x7h3k5t1nb",
        key="endpoint:accounting:1772010851000",
        subject="endpoint accounting is disabled",
        text="[endpoint.accounting] has failed since 2026-02-25T09:14:11Z.",
    ),
)
"""A complete payload, which templates are tried with."""


def alert(ledger: Ledger, settings: Settings, key: str, subject: str, text: str, *, about_endpoint: str = "") -> bool:
    """Tell everybody in [alerts], unless `key` was told before; whether it is new.

    `subject` is one line, `text` says what happened and what to do. An alert about an endpoint is not sent to it; none
    is sent beyond [alerts] per_hour. Raises Unavailable when the ledger does not answer.
    """
    notice = _notice(settings, key, " ".join(subject.split()), text.strip(), about_endpoint)
    held = ledger.notices.told_since(notice.at - HOUR_MS) >= settings.alerts.per_hour
    if held:
        notice = replace(notice, deliveries=(), untold=f"more than {settings.alerts.per_hour} alerts within an hour")
    if not ledger.notices.add(notice):
        return False
    log.alert(notice.job_id, key, notice.subject, notice.text, len(notice.deliveries))
    if held:
        ledger.notices.add(_many(settings, notice.at))
    return True


def _many(settings: Settings, at: int) -> Notice:
    """The last one for this hour."""
    text = (
        f"More than {settings.alerts.per_hour} alerts came up within an hour. Until there are fewer, further ones are "
        "stored and logged, and nobody is told of each.\n\n"
        "  postroom check                      what is wrong now\n"
        "  postroom jobs --source postroom     all alerts\n\n"
        "[alerts] per_hour says how many are too many."
    )
    return _notice(settings, f"alerts-held:{at // HOUR_MS}", "too many alerts", text, "")


def _notice(settings: Settings, key: str, subject: str, text: str, about_endpoint: str) -> Notice:
    job_id, at = new_job_id(), now_ms()
    url = f"{settings.web.public_url.rstrip('/')}/jobs/{job_id}" if settings.web.public_url else ""
    told = AlertPayload(timestamp=iso(at), data=AlertPart(job=job_id, url=url, key=key, subject=subject, text=text))
    planned: list[Delivery] = []
    for target in settings.alerts.mail:
        try:
            planned.append(mail_of(settings, told, target, len(planned), at))
        except Permanent as error:
            log.alert_not_told(key, "smtp", error.reason)
    name = settings.alerts.webhook
    if name and name != about_endpoint:
        planned.append(_webhook(settings, told, name, len(planned)))
    return Notice(job_id, key, subject, text, tuple(planned), at)


def mail_of(settings: Settings, told: AlertPayload, target: str, ordinal: int, at: int) -> Delivery:
    """The mail to one person. Raises Permanent for an address that cannot be written."""
    data, out = told.data, settings.smtp_out
    message_id, body = announce(
        job_id=data.job,
        ordinal=ordinal,
        text=f"{data.text}\n\n-- \nPostroom, job {data.job}\n",
        subject=f"Postroom: {data.subject}",
        sender=out.sender,
        recipient=target,
        domain=out.domain,
        secret=message_id_secret(settings),
        date_ms=at,
    )
    return Delivery(ordinal=ordinal, transport="smtp", target=target, key=message_id, body=body)


def _webhook(settings: Settings, told: AlertPayload, name: str, ordinal: int) -> Delivery:
    return Delivery(
        ordinal=ordinal,
        transport="webhook",
        target=name,
        key=f"{told.data.job}-{ordinal}",
        content_type=CONTENT_TYPE,
        body=_body(settings, told, name),
    )


def _body(settings: Settings, told: AlertPayload, name: str) -> bytes:
    """JSON as documented; or by templates/webhook/<template>.alert.json.j2, where the endpoint's template has one."""
    if file := _template(settings, name):
        try:
            return fill(file, told.model_dump(mode="json"), settings.templates_dir)
        except Permanent as error:
            log.alert_not_told(told.data.key, "template", f"{error.reason}; sent as documented instead")
    return told.model_dump_json().encode()


def _template(settings: Settings, name: str) -> str:
    endpoint = settings.endpoint.get(name)
    file = f"{endpoint.template}.alert.json.j2" if endpoint and endpoint.template else ""
    return file if file and (settings.templates_dir / "webhook" / file).is_file() else ""


def template_problems(settings: Settings) -> list[str]:
    """What is wrong with the template of the alerts' endpoint; tried with an example."""
    if not (file := _template(settings, settings.alerts.webhook)):
        return []
    try:
        fill(file, EXAMPLE.model_dump(mode="json"), settings.templates_dir)
    except Permanent as error:
        return [error.reason]
    return []


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the payload, as published in docs/webhook-alert.schema.json."""
    made = AlertPayload.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, **made}
