"""Running a job again, for the command line and the pages."""

from __future__ import annotations

from tasks.errors import Permanent
from tasks.ledger import Ledger
from tasks.models import Job, Stage, first_stage


def run_again(ledger: Ledger, job: Job, stage: Stage | None, why: str, *, resend: bool, alone: bool) -> bool:
    """Put a job back before `stage` (None: where it stopped); False when it has moved or a worker holds it.

    With `alone`, raises Permanent for a stage that the job cannot begin with; among many such a job is left.
    """
    now = ledger.jobs.get(job.id)
    if now is None or now.state is not job.state:  # somebody has moved it since it was looked for
        return False
    try:
        if not ledger.jobs.retry(job.id, begins_at(job, stage), why=why):
            return False
    except Permanent:  # an alert, or a mail that has nothing to fetch
        if alone:
            raise
        return False
    ledger.deliveries.reopen(job.id, resend=resend)
    return True


def begins_at(job: Job, stage: Stage | None) -> Stage:
    """Where a retry begins: at `stage`, else where the job stopped. Raises Permanent when it has nothing to fetch."""
    begin = stage or job.stage or Stage.DELIVER
    if begin is Stage.FETCH and first_stage(job.kind) is not Stage.FETCH:
        raise Permanent(f"{job.id} is a {job.kind.value}: only events have files to fetch; write --from extract")
    return begin
