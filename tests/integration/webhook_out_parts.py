"""What the tests of webhooks out share: a delivery, and settings whose endpoint `books` is a sink."""

from __future__ import annotations

from typing import Any

from config.settings import Settings
from tasks.models import Delivery, Outcome
from tasks.transports import webhook
from tests.integration.webhook_parts import Sink

OLD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEW = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = b'{"type":"job.processed"}'


def delivery(**changes: Any) -> Delivery:
    values = {"ordinal": 0, "transport": "webhook", "target": "books", "key": "dlv-1-0", "body": BODY}
    return Delivery.model_validate({**values, "content_type": "application/json", **changes})


def settings_for(url: str, **options: Any) -> Settings:
    return Settings.model_validate({"endpoint": {"books": {"url": url, "allow_private": True, **options}}})


def post(receiver: Sink, changes: dict[str, Any] | None = None, **options: Any) -> Outcome:
    return webhook.send(delivery(**(changes or {})), settings_for(receiver.url, **options))
