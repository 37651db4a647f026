"""One job's story in order of time: its events, the runs of its stages, and each attempt to deliver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tasks.clock import iso
from tasks.ledger import DeliveryState, Ledger
from tasks.models import Attempt, Job


@dataclass(frozen=True)
class Line:
    """Something that happened."""

    at: int
    """Milliseconds since the epoch."""
    source: str
    """`ledger`, or the unit or process that wrote a line into the journal."""
    what: str
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def timeline(ledger: Ledger, job: Job) -> list[Line]:
    """What the ledger knows of a job, oldest first. What happened in one millisecond stays in its order."""
    attempts = ledger.deliveries.attempts_of(job.id)
    lines = [
        *_events(ledger, job),
        *(Line(one.started_at, "ledger", f"{one.stage.value} began", "") for one in ledger.traces.stages(job.id)),
        *(line for state in ledger.deliveries.of(job.id) for line in _delivery(state, attempts)),
    ]
    return sorted(lines, key=lambda line: line.at)


def _events(ledger: Ledger, job: Job) -> Iterator[Line]:
    began = {f"{one.stage.value} done": one for one in ledger.traces.stages(job.id)}
    for event in ledger.jobs.events(job.id):
        facts = {key: value for key, value in event.detail.items() if value not in ("", None)}
        told = [f"{key}={iso(value) if key.endswith('_at') else value}" for key, value in facts.items()]
        run = began.get(event.event)
        if run and run.ended_at == event.at:  # an earlier run's times are not kept
            told.insert(0, f"took {(run.ended_at - run.started_at) / 1000:g} s")
        what = event.event if not event.stage or event.stage in event.event else f"{event.stage} {event.event}"
        yield Line(event.at, "ledger", what, "  ".join(told))


def _delivery(state: DeliveryState, attempts: list[Attempt]) -> Iterator[Line]:
    delivery = state.delivery
    where = f"{delivery.transport} to {delivery.target}"
    for one in attempts:
        if one.delivery == delivery.ordinal:
            yield Line(one.started_at, "ledger", f"attempt {one.number} began", f"{where}, as {delivery.key}")
            if one.ended_at is not None:
                yield Line(one.ended_at, "ledger", f"attempt {one.number} {one.outcome}", f"{where}: {one.detail}")
    if state.failed_at is not None and state.state == "failed":
        yield Line(state.failed_at, "ledger", "delivery failed", f"{where}: {state.reason}")
