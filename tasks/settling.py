"""What an error makes of a job: it waits, rests in review, or has failed."""

from __future__ import annotations

import random

from tasks import log
from tasks.clock import now_ms
from tasks.errors import NeedsReview, Permanent, Transient, Unavailable
from tasks.ledger import Lease
from tasks.models import Job, State
from tasks.sending import Waiting
from tasks.workshop import Workshop

MOST_OUTAGE_DOUBLINGS = 3  # an outage of hours is looked at every 80 s with the default wait, not ever more rarely


def settle(shop: Workshop, job: Job, lease: Lease, error: Exception) -> str:
    """Write down what became of the stage, and say which: `review`, `failed`, `waits` or `unavailable`.

    Raises LeaseLost when the job was taken away.
    """
    match error:
        case NeedsReview():
            return rest(shop, job, lease, error.reason)
        case Permanent():
            return fail(shop, job, lease, error.reason)
        case Waiting():
            return wait_until(shop, job, lease, error)
        case Unavailable():
            return wait_out(shop, job, lease, error)
        case Transient():
            return try_again(shop, job, lease, error.reason, error.retry_after)
        case _:
            log.bug(job, lease.stage, error)
            return try_again(shop, job, lease, f"unexpected error: {type(error).__name__}: {error}", None)


def fail(shop: Workshop, job: Job, lease: Lease, reason: str) -> str:
    """A dead letter: `postroom retry` can run it again."""
    row = {"state": State.FAILED.value, "reason": reason}
    shop.ledger.leases.stop(lease, job=row, event="failed", detail={"reason": reason})
    log.stage_failed(job, lease.stage, reason)
    return "failed"


def rest(shop: Workshop, job: Job, lease: Lease, reason: str) -> str:
    """A person decides."""
    row = {"state": State.REVIEW.value, "reason": reason}
    shop.ledger.leases.stop(lease, job=row, event="review", detail={"reason": reason})
    log.needs_review(job, lease.stage, reason)
    return "review"


def wait_until(shop: Workshop, job: Job, lease: Lease, error: Waiting) -> str:
    """Deliveries have a schedule of their own: the stage counts no attempt."""
    row = {"state": State.WAITING.value, "reason": error.reason, "due_at": error.until, "attempts": 0}
    shop.ledger.leases.stop(lease, job=row, event="waits", detail={"reason": error.reason, "due_at": error.until})
    log.stage_waits(job, lease.stage, error.reason, (error.until - now_ms()) / 1000, outage=False)
    return "waits"


def wait_out(shop: Workshop, job: Job, lease: Lease, error: Unavailable) -> str:
    """A dependency is down: the job waits and loses no attempt."""
    outages = shop.ledger.leases.outages(lease) + 1
    factor = 2 ** min(outages - 1, MOST_OUTAGE_DOUBLINGS) * random.uniform(0.8, 1.2)  # noqa: S311  # jitter
    wait = shop.settings.worker.outage_wait * factor
    if error.retry_after is not None:
        wait = max(wait, min(error.retry_after, shop.settings.worker.backoff_cap))
    values = {
        "state": State.WAITING.value,
        "reason": error.reason,
        "due_at": now_ms() + int(wait * 1000),
        "attempts": max(0, job.attempts - 1),
        "outages": outages,
    }
    detail = {"dependency": error.dependency, "reason": error.reason, "due_at": values["due_at"]}
    shop.ledger.leases.stop(lease, job=values, event="unavailable", detail=detail)
    log.stage_waits(job, lease.stage, error.reason, wait, outage=True)
    return "unavailable"


def give_back(shop: Workshop, job: Job, lease: Lease) -> None:
    """The ledger was away when the stage wanted to write: it runs again at once, and has lost no attempt."""
    reason = "the ledger did not answer when the stage wanted to write"
    row = {"state": State.WAITING.value, "reason": reason, "due_at": now_ms(), "attempts": max(0, job.attempts - 1)}
    detail = {"dependency": "ledger", "reason": reason, "due_at": row["due_at"]}
    shop.ledger.leases.stop(lease, job=row, event="unavailable", detail=detail)


def try_again(shop: Workshop, job: Job, lease: Lease, reason: str, retry_after: float | None) -> str:
    """A transient error: full jitter over a doubling wait, up to the limit of attempts."""
    settings = shop.settings.worker
    if job.attempts >= settings.max_attempts:
        return fail(shop, job, lease, f"{reason} (after {job.attempts} attempt{'s' * (job.attempts != 1)})")
    wait = random.uniform(0, min(settings.backoff_cap, settings.backoff_base * 2**job.attempts))  # noqa: S311  # jitter
    if retry_after is not None:
        wait = max(wait, min(retry_after, settings.backoff_cap))
    due_at = now_ms() + int(wait * 1000)
    row = {"state": State.WAITING.value, "reason": reason, "due_at": due_at}
    shop.ledger.leases.stop(lease, job=row, event="waits", detail={"reason": reason, "due_at": due_at})
    log.stage_waits(job, lease.stage, reason, wait, outage=False)
    return "waits"
