"""Rows to nouns and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.ids import LENGTH
from tasks.models import Attempt, Delivery, Document, Job, Noun, Stage

JOB_COLUMNS = tuple(Job.model_fields)
_STATE_COLUMNS = ("state", "attempts", "due_at", "reason", "sent_at", "tried_since", "failed_at")


class DeliveryState(Noun):
    """A delivery and where it stands: `pending`, `sent` or `failed`."""

    delivery: Delivery
    state: str
    attempts: int
    due_at: int | None
    reason: str
    sent_at: int | None
    tried_since: int | None = None
    """When the first attempt began, counted anew by a redelivery."""
    failed_at: int | None = None


class Event(Noun):
    """One line of a job's story."""

    at: int
    event: str
    stage: str
    detail: dict[str, Any]


def job_of(row: Any) -> Job:
    """The job in a row that has all columns."""
    return Job(**{name: getattr(row, name) for name in JOB_COLUMNS})


def job_from(values: Sequence[Any]) -> Job:
    """The job whose JOB_COLUMNS these are."""
    return Job(**dict(zip(JOB_COLUMNS, values, strict=True)))


def document_of(row: Any) -> Document:
    """The document in a row."""
    return Document(**{name: getattr(row, name) for name in Document.model_fields})


def delivery_of(row: Any) -> DeliveryState:
    """The delivery in a row, with its state."""
    return DeliveryState(
        delivery=Delivery(**{name: getattr(row, name) for name in Delivery.model_fields}),
        **{name: getattr(row, name) for name in _STATE_COLUMNS},
    )


def attempt_of(row: Any) -> Attempt:
    """The attempt in a row."""
    return Attempt(**{name: getattr(row, name) for name in Attempt.model_fields})


def event_row(job_id: str, event: str, stage: Stage | None, detail: dict[str, Any], at: int) -> dict[str, Any]:
    """The row of an event."""
    return {"job_id": job_id, "at": at, "event": event, "stage": stage.value if stage else "", "detail": detail}


def is_id(text: str) -> bool:
    """Whether `text` is a whole job id."""
    return len(text) == LENGTH
