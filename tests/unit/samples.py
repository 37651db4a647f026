"""Nouns for tests."""

from __future__ import annotations

from typing import Any

from tasks.models import Job, Kind, Stage, State


def job(**changes: Any) -> Job:
    """A mail that has just been accepted."""
    values: dict[str, Any] = {
        "id": "01jd0000000000000000000000",
        "source": "smtp",
        "kind": Kind.MAIL,
        "key": "k",
        "state": State.RECEIVED,
        "stage": Stage.EXTRACT,
        "route": None,
        "sender": "ada@sender.example",
        "recipients": ("in@post.example",),
        "subject": "",
        "message_id": "",
        "content_type": "message/rfc822",
        "name": "",
        "headers": {},
        "raw_sha256": "0" * 64,
        "raw_size": 1,
        "label": None,
        "confidence": None,
        "reason": "",
        "attempts": 0,
        "lease_token": 0,
        "lease_owner": "",
        "lease_beat": 0,
        "due_at": None,
        "received_at": 1_790_000_000_000,
        "updated_at": 1_790_000_000_000,
    }
    return Job(**{**values, **changes})
