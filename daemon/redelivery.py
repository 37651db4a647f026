"""Which deliveries a person or a program means by "send again", and what came of it: for command line and API."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from config.settings import Settings
from daemon.endpoints import known
from tasks.clock import moment, now_ms
from tasks.errors import Permanent
from tasks.ledger import Ledger, Redelivery, Wanted, obstacle
from tasks.models import Job


class Which(StrEnum):
    """Which deliveries a bulk redelivery means."""

    FAILED = "failed"
    SENT = "sent"
    ALL = "all"


def wanted(
    ledger: Ledger,
    settings: Settings,
    *,
    endpoint: str,
    to: str,
    since: str,
    until: str,
    state: Which | None,
    resend: bool,
    limit: int | None,
) -> Wanted:
    """What is meant, from words as they were given.

    Raises ValueError for what makes no sense, Permanent for an endpoint that is unknown or disabled.
    """
    if bool(endpoint) == bool(to):
        raise ValueError("name one of endpoint and to")
    begin, end = (moment(text, now_ms()) if text else None for text in (since, until))
    chosen = state or (Which.ALL if resend else Which.FAILED)
    if chosen is not Which.FAILED and not resend:
        raise ValueError(f"state {chosen.value} would send again what was sent; add resend if that is meant")
    if endpoint:
        _is_open(ledger, known(ledger, settings, endpoint))
    transport, target = ("webhook", endpoint) if endpoint else ("smtp", to)
    states = ("failed", "sent") if chosen is Which.ALL else (chosen.value,)
    return Wanted(transport, target, states, begin, end, limit)


def chosen(ledger: Ledger, job: Job, number: int | None, *, resend: bool) -> Redelivery:
    """What one job will send. Raises Permanent when that is nothing, or when it does not stand at its deliveries."""
    planned = ledger.deliveries.of(job.id)
    if not planned:
        raise Permanent(f"{job.id} has nothing to send")
    if why_not := obstacle(job):
        raise Permanent(f"{job.id} was not changed: {why_not}")
    asked = [one for one in planned if number in {None, one.delivery.ordinal}]
    if not asked:
        known = ", ".join(str(one.delivery.ordinal) for one in planned)
        raise Permanent(f"{job.id} has no delivery {number}; it has {known}")
    chosen = tuple(one.delivery.ordinal for one in asked if resend or one.state != "sent")
    if not chosen:
        raise Permanent("all of it was sent; --resend sends it again under the same key")
    return Redelivery(job.id, chosen, ("failed", "pending", "sent") if resend else ("failed", "pending"), "")


def report(found: list[Redelivery], *, dry_run: bool) -> dict[str, Any]:
    """What was done, or would be, for a program."""
    return {
        "dry_run": dry_run,
        "deliveries": sum(len(one.ordinals) for one in found if not one.obstacle),
        "jobs": [{"job": one.job_id, "deliveries": list(one.ordinals)} for one in found if not one.obstacle],
        "left": [{"job": one.job_id, "reason": one.obstacle} for one in found if one.obstacle],
    }


def _is_open(ledger: Ledger, name: str) -> None:
    found = ledger.endpoints.get(name)
    if found and found.disabled_at:
        raise Permanent(f"endpoint {name} is disabled, all would fail again; `postroom endpoints enable {name}` first")
