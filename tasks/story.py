"""One job told whole, as plain data: for `postroom show`, the API and whoever asks where a message is and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tasks.ledger import DeliveryState, Ledger
from tasks.models import Attempt, Job, Stage

TEXT_SHOWN = 2000


def summary(job: Job) -> dict[str, Any]:
    """The job's row, without what only the machinery needs, and without words of the model that nothing has checked."""
    hidden: dict[str, Any] = {"lease_token": True, "lease_beat": True, "lease_owner": True, "progress": {"tail"}}
    return job.model_dump(mode="json", exclude=hidden)


def story(ledger: Ledger, job: Job) -> dict[str, Any]:
    """Everything the ledger knows of a job; texts are cut to their first 2,000 characters and say so."""
    attempts = ledger.deliveries.attempts_of(job.id)
    return {
        **summary(job),
        "held_by": job.lease_owner,
        "mail": (ledger.jobs.result(job.id, Stage.EXTRACT) or {}).get("mail"),
        "documents": [_document(document.model_dump()) for document in ledger.jobs.documents(job.id)],
        "classification": ledger.jobs.result(job.id, Stage.CLASSIFY),
        "reply": ledger.jobs.result(job.id, Stage.REPLY),
        "deliveries": [delivery(state, attempts) for state in ledger.deliveries.of(job.id)],
        "events": [event.model_dump() for event in ledger.jobs.events(job.id)],
    }


def delivery(state: DeliveryState, attempts: Iterable[Attempt]) -> dict[str, Any]:
    """One delivery, without its bytes, and its tries out of all `attempts` of the job."""
    return {
        **state.delivery.model_dump(exclude={"body", "headers"}),
        **state.model_dump(exclude={"delivery"}),
        "size": len(state.delivery.body),
        "tries": [attempt.model_dump() for attempt in attempts if attempt.delivery == state.delivery.ordinal],
    }


def _document(document: dict[str, Any]) -> dict[str, Any]:
    text = document["text"]
    return {**document, "text": text[:TEXT_SHOWN], "characters": len(text)}
