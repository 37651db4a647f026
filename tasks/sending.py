"""The deliver stage: each delivery that is due gets one attempt, written down before the call and after it."""

from __future__ import annotations

import random
from collections.abc import Sequence

from config.settings import Settings
from tasks import health, log, meters, tracing
from tasks.clock import now_ms
from tasks.errors import Permanent, Transient, Unavailable
from tasks.heart import Held
from tasks.ledger import DeliveryState, Ledger
from tasks.models import Job
from tasks.schedules import DAY, next_attempt, next_look
from tasks.stages.deliver import deliver

LEAST_TURN, MOST_TURN = 20_000, 600_000
"""Milliseconds: a tenth of a job's age, within a tenth of these, until its turn in the conversation is looked at again."""


class Waiting(Transient):
    """Some deliveries are due later, the first at `until` (milliseconds): the stage itself did not fail."""

    def __init__(self, until: int, reason: str) -> None:
        super().__init__(reason)
        self.until = until


def send_all(ledger: Ledger, settings: Settings, job: Job, held: Held) -> int:
    """Try all that is due, and end what goes to a disabled endpoint; the number of deliveries that are sent when none is left.

    Raises Waiting when some are due later, Permanent when some failed for good (after the others were tried).
    """
    planned = ledger.deliveries.of(job.id)
    _keep_order(ledger, job, planned)
    tried = [_turn(ledger, settings, job, held, state) for state in planned]
    # an endpoint that was disabled meanwhile, here or by somebody else, keeps the job waiting no longer
    after = [_unless_refused(ledger, job, held, state) for state in tried]
    if waiting := [state for state in after if state.state == "pending"]:
        first = min(waiting, key=lambda state: state.due_at or 0)
        raise Waiting(first.due_at or 0, f"{first.delivery.transport} to {_target(first)}: {first.reason}")
    if failed := [state for state in after if state.state == "failed"]:
        raise Permanent(
            "; ".join(f"{state.delivery.transport} to {_target(state)}: {state.reason}" for state in failed)
        )
    return len(after)


def _turn(ledger: Ledger, settings: Settings, job: Job, held: Held, state: DeliveryState) -> DeliveryState:
    """One look at one delivery: an attempt, when it is due. The delivery as it stands in the ledger now.

    Nobody else changes it as long as the lease is held: so it needs not be read again.
    """
    state = _unless_refused(ledger, job, held, state)
    if state.state != "pending" or (state.due_at or 0) > now_ms():
        return state
    held.progress(f"sending {state.delivery.transport}", 0)
    return _try(ledger, settings, job, held, state)


def _keep_order(ledger: Ledger, job: Job, planned: Sequence[DeliveryState]) -> None:
    """Answers within one conversation go out as its mails came in. Raises Waiting."""
    if not any(state.delivery.transport == "smtp" and state.state == "pending" for state in planned):
        return
    if earlier := ledger.deliveries.answered_first(job.id):
        wait = min(max(now_ms() - job.received_at, LEAST_TURN), MOST_TURN) // 10
        raise Waiting(now_ms() + wait, f"{earlier} of the same conversation is answered first")


def _target(state: DeliveryState) -> str:
    """Endpoint name, or the domain of an address: reasons are logged, addresses are not."""
    return state.delivery.target.rpartition("@")[2]


def _unless_refused(ledger: Ledger, job: Job, held: Held, state: DeliveryState) -> DeliveryState:
    """A pending delivery whose endpoint is disabled has ended, without an attempt; every other one is as it was."""
    delivery = state.delivery
    if state.state != "pending" or not (reason := health.refusal(ledger, delivery)):
        return state
    ledger.deliveries.refuse(held.lease, delivery.ordinal, reason)
    meters.attempted(delivery.transport, delivery.target, "refused")
    log.delivery(job, delivery.transport, delivery.target, "refused", reason, state.attempts, delivery.key)
    return state.model_copy(update={"state": "failed", "due_at": None, "reason": reason})


def _try(ledger: Ledger, settings: Settings, job: Job, held: Held, state: DeliveryState) -> DeliveryState:
    delivery, number = state.delivery, state.attempts + 1
    attempt = ledger.deliveries.begin(held.lease, delivery.ordinal, number)
    try:
        with tracing.attempt(delivery, settings, number) as told:
            outcome = deliver(delivery, settings)
            if outcome.code and delivery.transport == "webhook":
                told.set(http__response__status_code=outcome.code)
    except Exception as error:  # an unknown error is transient, and its attempt has to be ended
        kind, reason, due_at = _after(settings, state, error)
        counted = number - 1 if kind == "unavailable" else number
        ledger.deliveries.failed(
            held.lease, delivery.ordinal, attempt, counted, outcome=kind, reason=reason, due_at=due_at
        )
        meters.attempted(delivery.transport, delivery.target, kind)
        log.delivery(job, delivery.transport, delivery.target, kind, reason, number, delivery.key)
        health.failed(ledger, settings, delivery, error)
        ends = "failed" if due_at is None else "pending"
        now = {"state": ends, "attempts": counted, "due_at": due_at, "reason": reason}
    else:
        ledger.deliveries.sent(held.lease, delivery.ordinal, attempt, number, outcome)
        meters.attempted(delivery.transport, delivery.target, "sent")
        log.delivery(job, delivery.transport, delivery.target, "sent", outcome.detail, number, delivery.key)
        health.succeeded(ledger, delivery)
        now = {"state": "sent", "attempts": number, "due_at": None, "reason": ""}
    return state.model_copy(update=now)


def _after(settings: Settings, state: DeliveryState, error: Exception) -> tuple[str, str, int | None]:
    """Outcome, reason and when to try again (None: never)."""
    transport, number = state.delivery.transport, state.attempts + 1
    age = (now_ms() - state.tried_since) / 1000 if state.tried_since else 0.0
    rng = random.Random()  # noqa: S311  # jitter
    kind = "transient"
    again: float | None
    match error:
        case Permanent():
            return "permanent", error.reason, None
        case Unavailable():
            kind, reason = "unavailable", error.reason
            wait = next_look(age, settings.worker.outage_wait, settings.worker.backoff_cap, rng)
            again = max(wait, error.retry_after or 0)
        case Transient():
            again = next_attempt(transport, number, error.retry_after, rng)
            reason = error.reason
        case _:
            again = next_attempt(transport, number, None, rng)
            reason = f"unexpected error: {type(error).__name__}: {error}"
    if again is None:
        return "permanent", f"{reason} (given up after {number} attempt{'s' * (number != 1)})", None
    days = settings.smtp_out.give_up_after_days if transport == "smtp" else 0
    if days and age >= days * DAY:
        return "permanent", f"{reason} (given up {days:g} days after the first attempt)", None
    return kind, reason, now_ms() + int(again * 1000)
