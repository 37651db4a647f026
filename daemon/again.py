"""Running a job again, for the command line and the pages."""

from __future__ import annotations

from tasks.errors import Permanent
from tasks.ledger import Ledger
from tasks.models import Job, Stage, first_stage


def run_again(ledger: Ledger, job: Job, stage: Stage | None, why: str, *, resend: bool, alone: bool) -> bool:
    """Put a job back before `stage` (None: where it stopped); False when it has moved or a worker holds it.

    With `alone`, raises Permanent for a stage that the job cannot begin with; among many such a job is left.
    """
    reopen = ("failed", "pending", "sent") if resend else ("failed", "pending")
    try:  # `was`: one that somebody has moved since it was looked for is left alone
        return ledger.jobs.retry(job.id, begins_at(job, stage), why=why, reopen=reopen, was=job.state)
    except Permanent:  # an alert, or a mail that has nothing to fetch
        if alone:
            raise
        return False


def begins_at(job: Job, stage: Stage | None) -> Stage:
    """Where a retry begins: at `stage`, else where the job stopped. Raises Permanent when it has nothing to fetch."""
    begin = stage or job.stage or Stage.DELIVER
    if begin is Stage.FETCH and first_stage(job.kind) is not Stage.FETCH:
        raise Permanent(f"{job.id} is a {job.kind.value}: only events have files to fetch; write --from extract")
    return begin
